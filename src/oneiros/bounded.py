"""A limit on what is allocated while something builds a model from numbers that a stranger wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

_SHAPED = {"empty", "zeros", "ones", "full", "rand", "randn", "randint", "empty_strided"}
_NUMBERED = {"arange", "eye"}


class BoundedTensors(TorchDispatchMode):
    """Inside, new tensors take at most `most` bytes in all, at four a number: ValueError before more are allocated."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in _NUMBERED:
            self._take([each for each in args if isinstance(each, int)])
        elif name.removeprefix("new_") in _SHAPED:
            self._take(next((each for each in args if isinstance(each, list | tuple)), ()))
        return func(*args, **(kwargs or {}))

    def _take(self, shape: Sequence[int]) -> None:
        self._left -= 4 * abs(math.prod(shape))
        if self._left < 0:
            raise ValueError(f"its tensors, one of them {' x '.join(map(str, shape))}, are far more than its weights")
