"""Beginning with another run's weights."""

from __future__ import annotations

import torch
from torch import nn

from oneiros.console import say


@torch.no_grad()
def copy_weights(model: nn.Module, source: nn.Module, *, skip: str = "-") -> None:
    """Copy every parameter that has the same name and shape in both, and print which begin fresh.

    skip: names beginning with this stay as they are. Raises ValueError where nothing fits.
    """
    theirs = dict(source.named_parameters())
    ours = {name: parameter for name, parameter in model.named_parameters() if not name.startswith(skip)}
    fitting = [name for name in ours if name in theirs and theirs[name].shape == ours[name].shape]
    if not fitting:
        raise ValueError(f"no weight of the {type(source).__name__} to start from fits this {type(model).__name__}")
    for name in fitting:
        ours[name].copy_(theirs[name])
    fresh = sorted({name.split(".")[0] for name in ours.keys() - set(fitting)})
    say(f"began with {len(fitting)} of {len(ours)} tensors" + (f"; fresh ones in {', '.join(fresh)}" if fresh else ""))
