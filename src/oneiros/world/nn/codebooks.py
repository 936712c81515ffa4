"""Codebooks stacked on one another: each level's entry adds what the levels before it left out.

A cell's code is one number all the same: its digits in base K, the first level's first, name an entry of each level.

Source: residual quantisation as in RQ-VAE (arXiv 2203.01941), learned by moving averages as in VQ-VAE (arXiv
1711.00937), with the rotation trick (arXiv 2410.06424).

Legend: L levels, K entries of each, C channels of a vector, R rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, ClassVar
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

ROUNDING = 1e-4  # of distances, relative


def digits_of(codes: Tensor, size: int, levels: int) -> list[Tensor]:
    """The entry that codes (...) below size**levels name in each level, each (...)."""
    return [codes // size ** (levels - 1 - level) % size for level in range(levels)]


def code_of(digits: list[Tensor], size: int) -> Tensor:
    """The codes (...) whose digits name an entry in each level, each (...)."""
    code = digits[0]
    for digit in digits[1:]:
        code = code * size + digit
    return code


def vectors_of(codes: Tensor, codebook: Tensor) -> Tensor:
    """Codes (...) -> the sum of their entries (..., C). codebook: (L, K, C)."""
    levels, size, _ = codebook.shape
    digits = digits_of(codes, size, levels)
    return sum(
        (F.embedding(digit, level) for digit, level in zip(digits[1:], codebook[1:], strict=True)),
        start=F.embedding(digits[0], codebook[0]),
    )


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Vectors (R, C) -> codes (R,): level by level, the entry nearest to what is left, of equals the first. Rounding
    does not tell equals apart, so that codes are the same on any machine. codebook: (L, K, C)."""
    digits, rest = [], vectors
    for entries in codebook:
        distance = torch.cdist(rest[None], entries[None])[0]
        least = distance.amin(-1, keepdim=True)
        digits.append((distance <= least + ROUNDING * (least + 1e-2)).int().argmax(-1))
        rest = rest - entries[digits[-1]]
    return code_of(digits, codebook.shape[1])


class LearningQuantiser(nn.Module):
    """The codebooks of a tokenizer in training. They begin as the clusters of the first step's latents, follow the
    latents by moving averages, and revive dead entries."""

    def __init__(
        self,
        *,
        levels: int,
        size: int,
        dim: int,
        decay: float,
        rotation_trick: bool,
        dead_share: float = 0.05,
        kmeans_steps: int = 10,
        unit: bool = False,
    ) -> None:
        """rotation_trick: gradients are turned and scaled as latents are to their vectors, else go straight through.
        dead_share: entries used less than this share of an even use are revived. kmeans_steps: that begin the
        codebooks; 0 begins with latents at random. unit: latents are of length 1, and entries kept so."""
        super().__init__()
        self.rotation_trick, self.dead_share, self.unit = rotation_trick, dead_share, unit
        from vector_quantize_pytorch import VectorQuantize  # takes seconds: only training pays

        self.levels = nn.ModuleList(
            VectorQuantize(
                dim=dim,
                codebook_size=size,
                decay=decay,
                sync_codebook=False,  # the tokenizer gathers what all processes saw
                threshold_ema_dead_code=1,  # see `learn`
                kmeans_init=True,
                kmeans_iters=kmeans_steps,
            )
            for _ in range(levels)
        )
        self.register_load_state_dict_pre_hook(_first_level_of_old)

    @property
    def begun(self) -> bool:
        """Whether there are codebooks yet."""
        last: Any = self.levels[-1]
        return bool(last._codebook.initted)

    @property
    def codebook(self) -> Tensor:
        """(L, K, C)."""
        return torch.stack([level.codebook for level in self.levels])  # type: ignore[misc]

    def start(self, codebook: Tensor) -> None:
        """Go on from codebooks (L, K, C)."""
        for level, entries in zip(self.levels, codebook, strict=True):
            inner: Any = level._codebook
            inner.embed.copy_(entries[None])
            # Counted as if evenly used, or those that a first batch happens not to use would be dead at once.
            inner.cluster_size.fill_(1.0)
            inner.embed_avg.copy_(entries[None])
            inner.initted.fill_(True)

    def learn(self, latents: Tensor, codes: Tensor) -> None:
        """Follow latents (R, C) that had these codes (R,); the first time, begin with their clusters."""
        begun, rest = self.begun, latents
        levels: list[Any] = [*self.levels]
        size = levels[0].codebook_size
        for level, digits in zip(levels, digits_of(codes, size, len(levels)), strict=True):
            inner = level._codebook
            if not begun:
                inner.init_embed_(rest[None])
                digits = nearest(rest, level.codebook[None])
            left = rest - level.codebook[digits]
            if begun:
                # The averages weigh as one step's latents, however many they began with: else codebooks would lag.
                share = len(rest) / inner.cluster_size.sum()
                inner.cluster_size.mul_(share)
                inner.embed_avg.mul_(share)
                inner.threshold_ema_dead_code = self.dead_share * len(rest) / size
                level.update_indices(rest[None], digits[None])
            if self.unit:
                inner.embed.copy_(F.normalize(inner.embed, dim=-1))
            rest = left

    def forward(self, latents: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (R, C), real bool (R,) -> their quantised vectors (R, C), which pass gradients on, codes (R,), and
        the commitment loss: the mean squared distance of real ones.

        Without codebooks yet, latents stay as they are.
        """
        from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to, straight_through

        if not self.begun:
            return latents, torch.zeros(len(latents), dtype=torch.long, device=latents.device), latents.new_zeros(())
        codebook = self.codebook
        with torch.no_grad():
            codes = nearest(latents, codebook)
            vectors = vectors_of(codes, codebook)
        commitment = (latents - vectors).square().mean(-1)[real].mean()
        return (rotate_to if self.rotation_trick else straight_through)(latents, vectors), codes, commitment

    def use(self) -> Tensor:
        """The fraction of entries that the running average of use counts as alive."""
        counts = torch.stack([level._codebook.cluster_size for level in self.levels])  # type: ignore[misc, union-attr]
        return (counts > self.dead_share * counts.mean(-1, keepdim=True)).float().mean()


class StepWatch:
    """Notices an optimiser step that `after_step` did not follow, with which codebooks would stay as they began and the
    latents of every step be kept."""

    _waiting: ClassVar[WeakSet[StepWatch]] = WeakSet()

    def __init__(self) -> None:
        self._parameters: set[int] = set()
        self._stepped = False

    def batch(self, parameters: Iterable[Tensor]) -> None:
        """A batch begins. Raises ValueError where an optimiser of the parameters stepped and `after_step` did not
        follow."""
        if self._stepped:
            raise ValueError(
                "the optimiser stepped, but after_step() of the model was not called: call it after every "
                "optimizer.step(), or the codebook never moves"
            )
        _notice_steps()
        self._parameters = {id(parameter) for parameter in parameters}
        self._waiting.add(self)

    def followed(self) -> None:
        """`after_step` was called."""
        self._stepped = False
        self._waiting.discard(self)

    @classmethod
    def notice(cls, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """An optimiser stepped."""
        stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for watch in cls._waiting:
            watch._stepped |= not stepped.isdisjoint(watch._parameters)


@cache
def _notice_steps() -> None:
    register_optimizer_step_post_hook(StepWatch.notice)


def _first_level_of_old(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Training states written when there was one level named its tensors without a number."""
    for name in [name for name in state if name.startswith(f"{prefix}_codebook.")]:
        state[f"{prefix}levels.0.{name.removeprefix(prefix)}"] = state.pop(name)
