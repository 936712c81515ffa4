"""Optimiser, learning rate, clipping of gradients, and the moving average of the weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from oneiros.records import Trainable
from oneiros.train.config import FitConfig


def learning_rate(step: int, config: FitConfig) -> float:
    """Linear warm-up, then a cosine from the full rate to `final_lr_fraction` of it. `step` counts from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.steps - 1 - config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * (config.final_lr_fraction + (1 - config.final_lr_fraction) * cosine)


def make_optimizer(model: Trainable, config: FitConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that need gradients, each at the rate that the model scales it to.

    Matrices are decayed, vectors are not.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[model.learning_rate_scale(name), config.weight_decay if parameter.ndim > 1 else 0.0].append(
                parameter
            )
    if not groups:
        if not model.learns_without_gradients:
            raise ValueError(f"{type(model).__name__} has no parameters to train")
        groups[1.0, 0.0] = []
    return torch.optim.AdamW(
        [{"params": params, "scale": scale, "weight_decay": decay} for (scale, decay), params in groups.items()],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def rescale_and_clip(parameters: list[nn.Parameter], scale: float, clip_norm: float) -> float:
    """Multiply all gradients by `scale`, then shorten them to `clip_norm` (0: never). Returns the norm between."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = float(nn.utils.get_total_norm(gradients)) * scale
    if clip_norm and norm > clip_norm:
        scale *= clip_norm / norm
    if scale != 1.0:
        torch._foreach_mul_(gradients, scale)
    return norm


class Ema:
    """Exponential moving average of a model's trained parameters: smoother weights for evaluation and play.

    Buffers are left as they are: a codebook is a moving average already (averaging it once more lost 0.07 dB of
    reconstruction). The decay grows as (1 + step) / (10 + step) up to its final value, so that short runs forget their
    beginning too.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.trained = trained if decay else {}
        self.average = {name: tensor.detach().clone() for name, tensor in self.trained.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        if self.trained:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.average.values()), list(self.trained.values()), 1 - decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside, the model carries the averaged weights; afterwards the trained ones again, bit for bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self.trained.items():
            parameter.data, self.average[name] = self.average[name], parameter.data

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.average)

    def load_state_dict(self, average: dict[str, Tensor]) -> None:
        for name, tensor in self.average.items():
            if average[name].shape != tensor.shape:
                raise ValueError(f"the average of {name} is of another shape")
            tensor.copy_(average[name])
