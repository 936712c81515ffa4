"""Training inverse models on a few labelled episodes, and judging them on those that they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oneiros.console import Track, silent
from oneiros.records import ActionSpec
from oneiros.world.inverse.model import InverseModel, decide
from oneiros.world.inverse.motion import Watched
from oneiros.world.metrics import action_scores

STEPS = 500
_FOLDS, _VOTES = 3, 2
_BATCH, _RATE, _DECAY = 64, 1e-3, 0.3


@dataclass(frozen=True)
class Inverse:
    """Models that vote. scores: of such models on labelled episodes that they did not see (see `action_scores`), and
    `constant` those of saying what is usual at every step."""

    models: tuple[InverseModel, ...]
    scores: dict[str, float]
    constant: dict[str, float]

    def tell(self, episode: Watched) -> tuple[np.ndarray, np.ndarray]:
        """Actions (T, ...), and how sure each is, float32 (T,). The last leads nowhere and repeats the one before."""
        actions, sure = decide([_odds(model, episode) for model in self.models], self.models[0].spec)
        return torch.cat([actions, actions[-1:]]).numpy(), torch.cat([sure, sure[-1:]]).float().numpy()


def learn(
    episodes: Sequence[Watched], spec: ActionSpec, *, steps: int = STEPS, seed: int = 0, track: Track = silent
) -> Inverse:
    """Models that learn from all of the episodes, after others have left out some to be judged by.

    Raises ValueError for fewer than two episodes of two frames with actions.
    """
    episodes = [each for each in episodes if len(each.motion)]
    if len(episodes) < 2:
        raise ValueError(f"{len(episodes)} labelled episode is too few: it takes one to learn from and one to judge by")
    folds = min(_FOLDS, len(episodes))
    advance = track("learning what was done", (folds + _VOTES) * steps)
    told, true = [], []
    for fold in range(folds):
        seen = [each for place, each in enumerate(episodes) if place % folds != fold]
        model = _learn_one(seen, spec, steps=steps, seed=seed + fold, advance=advance)
        for each in episodes[fold::folds]:
            told.append(decide([_odds(model, each)], spec)[0])
            true.append(_actions(each))
    models = [
        _learn_one(episodes, spec, steps=steps, seed=seed + 100 + vote, advance=advance) for vote in range(_VOTES)
    ]
    right = torch.cat(true)
    usual = _usual(right, spec).expand_as(right)
    return Inverse(tuple(models), action_scores(torch.cat(told), right, spec), action_scores(usual, right, spec))


def complete(
    own: np.ndarray, recorded: np.ndarray, told: tuple[np.ndarray, np.ndarray] | None, *, least_sure: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """An episode's actions (T, ...) where they were recorded (T,), elsewhere what was told, and how sure each is (T,):
    1 where recorded, 0 where nothing was told or not so surely."""
    sure = np.zeros(len(own), np.float32)
    actions = np.zeros_like(own)
    if told is not None:
        sure = np.where(told[1] < least_sure, 0, told[1]).clip(0, 0.999).astype(np.float32)
        actions[sure > 0] = told[0][sure > 0]
    actions[recorded], sure[recorded] = own[recorded], 1
    return actions, sure


def _learn_one(
    episodes: Sequence[Watched], spec: ActionSpec, *, steps: int, seed: int, advance: Callable[[int], object]
) -> InverseModel:
    torch.manual_seed(seed)
    seen = torch.cat([each.motion for each in episodes]).float()
    model = InverseModel(spec, seen.mean(0), seen.std(0, correction=0))
    entering, actions = torch.cat([model.entering(each.motion) for each in episodes]), [*map(_actions, episodes)]
    done = torch.cat(actions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps + 1)
    for _ in range(steps):
        chosen = torch.randint(len(done), (_BATCH,))
        optimizer.zero_grad()
        model.loss(entering[chosen], done[chosen]).backward()
        optimizer.step()
        schedule.step()
        advance(1)
    return model.eval()


def _odds(model: InverseModel, episode: Watched) -> Tensor:
    return model.odds(model.entering(episode.motion))


def _actions(episode: Watched) -> Tensor:
    """Of its steps; the last row's leads nowhere."""
    assert episode.actions is not None
    return episode.actions[: len(episode.motion)]


def _usual(actions: Tensor, spec: ActionSpec) -> Tensor:
    """What was done most, or on average: the best that says the same always."""
    if spec.kind == "discrete":
        return actions.mode().values
    return actions.float().mean(0) > 0.5 if spec.kind == "keys" else actions.mean(0)
