"""Checkpoints: written to a temporary folder, then renamed, so that a run can go on after a kill at any moment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from oneiros.disk import contained, locked, publish
from oneiros.train.config import FitConfig

STATE, _LOCK = "state.pt", ".lock"

# A resumed run may get longer or be cut and shown differently; anything else would make it another run.
_FREE_TO_CHANGE = {"steps", "accumulate", "precision", "save_every", "picture_every"}


@contextmanager
def only_training(out: Path) -> Iterator[None]:
    """Inside, no other process trains into `out`; of processes that train together, the first stands for all.

    Raises OSError where another is at it, ValueError where something in `out` is a symbolic link that leads out of it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    contained(out)
    new = not out.exists()
    try:
        lock = locked(out / _LOCK)
    except BlockingIOError:
        raise OSError(f"{out}: another training writes there; wait for its end, or choose another folder") from None
    try:
        yield
    finally:
        (out / _LOCK).unlink(missing_ok=True)
        lock.close()
        if new:
            with suppress(OSError):  # what was wrong before anything was written leaves no folder either
                out.rmdir()


def save_checkpoint(out: Path, state: dict[str, Any], write_model: Callable[[Path], None]) -> None:
    """Write the model's files and `state.pt` into `out`, each appearing whole or not at all.

    `state.pt` comes last: it alone decides where `--resume` goes on, and it holds everything that takes.
    Raises OSError, with the last complete checkpoint untouched, if the disk takes no more.
    """
    temporary = out / ".saving"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write_model(temporary)
        torch.save(state, temporary / STATE)
        files = [path for path in temporary.rglob("*") if path.is_file()]
        files.sort(key=lambda path: path.name == STATE)
        publish(temporary, out, [str(path.relative_to(temporary)) for path in files])
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch.save reports a full disk as RuntimeError about positions, without the word
        raise OSError(
            f"could not save step {state['step']} in {out}: {_reason(error, out)}. "
            "The last complete checkpoint is untouched; make room and use --resume"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def opening_state(out: Path, config: FitConfig, *, resume: bool) -> dict[str, Any] | None:
    """The state that a run in `out` starts from, None for a new one. ValueError where `out` and `resume` do not fit."""
    if not resume:
        if (out / STATE).exists():
            raise ValueError(f"{out} already holds a run; add --resume to go on with it, or choose another folder")
        return None
    state = load_state(out)
    for name, value in asdict(config).items():
        before = state["config"].get(name, value)
        if name not in _FREE_TO_CHANGE and before != value:
            raise ValueError(
                f"{out} was trained with {name} {before}, not {value}: resume with the same, or start a new run from it"
            )
    if state["step"] > config.steps:
        raise ValueError(f"{out} is at step {state['step']} already, beyond the {config.steps} asked for")
    return state


def load_state(out: Path) -> dict[str, Any]:
    """The `state.pt` of a run. Runs no code from the file. Raises ValueError where there is none or it is damaged."""
    path = out / STATE
    if not path.is_file():
        raise ValueError(f"{out} holds no run to resume: {STATE} is missing")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names damage in half a dozen ways
        raise ValueError(f"{path} is damaged ({type(error).__name__}); start a new run") from error
    if not isinstance(state, dict) or not {"step", "config", "model", "optimizer", "ema"} <= state.keys():
        raise ValueError(f"{path} is no training state; start a new run")
    return state


def _reason(error: Exception, out: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    free = shutil.disk_usage(out).free
    return f"the disk takes no more ({free / 1e6:,.0f} MB free; {' '.join(str(error).split())})"
