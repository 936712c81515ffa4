"""Compiled loops and the threads they run on."""

import threading

import pytest
import torch

from oneiros.ops.threads import in_threads


def test_compiles_where_nothing_can_be_cached():
    """As where the package and the home folder are read-only: numba finds no place for a function without a file."""
    pytest.importorskip("numba")
    from oneiros.ops.compiled import compiled

    space: dict = {}
    exec("def twice(x):\n    return 2 * x", space)
    assert compiled(space["twice"])(3) == 6


def test_as_many_threads_as_torch_uses():
    before = torch.get_num_threads()
    try:
        for num in (1, 2):
            torch.set_num_threads(num)
            together = threading.Barrier(num, timeout=20)
            in_threads(lambda together=together: together.wait(), [()] * 2)  # breaks unless that many run at once
    finally:
        torch.set_num_threads(before)


def test_errors_of_a_thread_are_raised():
    def fail(number):
        raise ValueError(f"number {number}")

    for count in (1, 3):
        with pytest.raises(ValueError, match="number 0"):
            in_threads(fail, [(number,) for number in range(count)])
