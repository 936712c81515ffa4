"""An inverse model: what was done between two frames, told from what moved then, before and after.

It sees what came of an action, which a policy does not, so a few labelled episodes are enough (Baker et al., Video
PreTraining, arXiv 2206.11795, section 4.1).

Legend: T steps, D features, A names of actions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.records import ActionSpec
from oneiros.world.inverse.motion import FEATURES, around

REACH = 2  # steps before and after
_WIDTH, _FORGOTTEN = 128, 0.5
_LEAST_SPREAD = 0.05  # of a number, in its own standard deviations: surer than this it never says to be


class InverseModel(nn.Module):
    """Tells odds of actions from motions.

    mean, std: (FEATURES,), of the motions to learn from. What `odds` gives, `decide` takes: probabilities of choices or
    keys (T, A), or for numbers their means and then their variances (T, 2 A), standardised.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ActionSpec, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", mean)
        self.register_buffer("std", std + 1e-3)
        self.layers = nn.Sequential(
            nn.Dropout(_FORGOTTEN),
            nn.Linear((2 * REACH + 1) * FEATURES, _WIDTH),
            nn.GELU(),
            nn.Dropout(_FORGOTTEN),
            nn.Linear(_WIDTH, spec.size * (2 if spec.kind == "continuous" else 1)),
        )

    def entering(self, motion: Tensor) -> Tensor:
        """Motion (T, D) of an episode -> what `loss` and `odds` take of each step."""
        return around(((motion.float() - self.mean) / self.std).clamp(-5, 5), REACH)

    def loss(self, entering: Tensor, actions: Tensor) -> Tensor:
        """actions (T, ...) as in `ActionSpec` -> mean negative log likelihood."""
        told = self.layers(entering)
        if self.spec.kind == "discrete":
            return F.cross_entropy(told, actions)
        if self.spec.kind == "keys":
            return F.binary_cross_entropy_with_logits(told, actions.float())
        mean, variance = _moments(told)
        return F.gaussian_nll_loss(mean, self.spec.standardise(actions), variance)

    @torch.no_grad()
    def odds(self, entering: Tensor) -> Tensor:
        """See there."""
        told = self.layers(entering)
        if self.spec.kind == "discrete":
            return told.softmax(-1)
        return told.sigmoid() if self.spec.kind == "keys" else torch.cat(_moments(told), -1)


def decide(odds: Sequence[Tensor], spec: ActionSpec) -> tuple[Tensor, Tensor]:
    """What several models say -> actions (T, ...) as in `ActionSpec`, and how sure each is (T,).

    That is the probability that a choice, or every key, is right; of numbers the share of their variance that is told,
    averaged over those that move, and 0.01 where that is less.
    """
    if spec.kind != "continuous":
        mean = torch.stack([*odds]).mean(0)
        if spec.kind == "discrete":
            sure, action = mean.max(-1)
            return action, sure
        return mean > 0.5, torch.maximum(mean, 1 - mean).prod(-1)
    means, variances = (torch.stack(each) for each in zip(*(each.chunk(2, -1) for each in odds), strict=True))
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    moving = torch.tensor(spec.statistics[1]) > 1e-6
    told = (1 - variance[:, moving]).mean(-1) if bool(moving.any()) else variance.new_ones(len(variance))
    return spec.nearest(spec.unstandardise(mean)), told.clamp(0.01, 1)


def _moments(told: Tensor) -> tuple[Tensor, Tensor]:
    mean, spread = told.chunk(2, -1)
    return mean, F.softplus(spread).square() + _LEAST_SPREAD**2
