"""Disk and time that a run will take, estimated before it starts."""

from __future__ import annotations

import copy
import time
from typing import Any

from oneiros.console import duration
from oneiros.records import Trainable
from oneiros.train.step import Stepper


def checkpoint_bytes(model: Trainable) -> int:
    """Bytes of one checkpoint on disk: weights twice, their average, and AdamW's two moments."""
    everything = sum(tensor.nbytes for tensor in model.state_dict().values())
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return 2 * everything + 3 * trained


def time_needed(stepper: Stepper, steps: int) -> str:
    """Time for `steps` steps, as text, measured on a few with a copy of the model that is thrown away."""
    model, batch = copy.deepcopy(stepper.model), stepper.batch(stepper.shards[0])
    seconds = min(_seconds(stepper, model, batch) for _ in range(3)) * len(stepper.shards)
    return f"{steps:,} steps of {seconds:.2g} s take about {duration(steps * seconds)}"


def _seconds(stepper: Stepper, model: Trainable, batch: Any) -> float:
    started = time.perf_counter()
    with stepper.fabric.autocast():
        total = model(batch).total
    if total.requires_grad:  # else only `after_step` learns
        total.backward()
    total.item()  # waits for a GPU
    seconds = time.perf_counter() - started
    model.after_step()  # the first may have only begun what the others use
    return seconds
