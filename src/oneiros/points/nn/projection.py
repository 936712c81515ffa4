"""Constraints as Keras has them: tensors are projected after the optimiser's step, whatever optimiser it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook


class Projected(nn.Module):
    """A module some of whose tensors are projected after every step of an optimiser that holds them.

    So are copies. What is written to a tensor in other ways is not touched before the next step.
    """

    @abstractmethod
    def constrained(self) -> Iterable[tuple[Tensor, Callable[[Tensor], Tensor]]]:
        """The tensors, each with its projection."""

    def project_after_steps(self) -> None:
        """To be called once, by the constructor of a module that has such tensors."""
        _listen()
        _OWNERS.add(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.project_after_steps()


_OWNERS: WeakSet[Projected] = WeakSet()


@cache
def _listen() -> None:
    """Once: torch's hook is for all optimisers."""
    register_optimizer_step_post_hook(_project)


@torch.no_grad()
def _project(optimizer: Optimizer, *_: Any) -> None:
    stepped = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    for owner in list(_OWNERS):
        for tensor, projection in owner.constrained():
            if id(tensor) in stepped:
                tensor.copy_(projection(tensor))
