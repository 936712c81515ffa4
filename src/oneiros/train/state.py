"""Checkpoints: written to a temporary folder, then renamed, so that a run can go on after a kill at any moment."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from oneiros.disk import contained, locked, publish
from oneiros.train.config import FitConfig

STATE, _LOCK, _SAVING = "state.pt", ".lock", ".saving"

# A resumed run may get longer or be cut and shown differently; anything else would make it another run.
_FREE_TO_CHANGE = {"steps", "accumulate", "precision", "save_every", "picture_every"}


@contextmanager
def only_training(out: Path) -> Iterator[None]:
    """Inside, no other process trains into `out`; of processes that train together, the first stands for all.

    A checkpoint that a killed training left half written is removed.
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
    shutil.rmtree(out / _SAVING, ignore_errors=True)  # what a killed training left half written
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
    temporary = out / _SAVING
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


def opening_state(
    out: Path, config: FitConfig, *, resume: bool, keep: Collection[str] = ()
) -> tuple[dict[str, Any] | None, FitConfig]:
    """The state that a run in `out` starts from, None for a new one, and its config: `config`, but a run that goes on
    keeps its own values of the fields `keep`. ValueError where `out`, `config` and `resume` do not fit."""
    if not resume:
        if (out / STATE).exists():
            raise ValueError(f"{out} already holds a run; add --resume to go on with it, or choose another folder")
        return None, config
    state = load_state(out)
    config = replace(config, **{name: state["config"][name] for name in keep if name in state["config"]})
    for name, value in asdict(config).items():
        before = state["config"].get(name, value)
        if name not in _FREE_TO_CHANGE and before != value:
            raise ValueError(
                f"{out} was trained with {name} {before}, not {value}: resume with the same, or start a new run from it"
            )
    if state["step"] > config.steps:
        raise ValueError(f"{out} is at step {state['step']} already, beyond the {config.steps} asked for")
    return state, config


def load_state(out: Path) -> dict[str, Any]:
    """The `state.pt` of a run. Runs no code from the file. Raises ValueError where there is none or it is damaged."""
    path = out / STATE
    if not path.is_file():
        raise ValueError(f"{out} holds no run to resume: {STATE} is missing")
    try:
        with zipfile.ZipFile(path) as archive:  # torch compresses nothing; what is compressed may grow a thousandfold
            if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
                raise ValueError("compressed")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names damage in half a dozen ways
        raise ValueError(f"{path} is damaged ({type(error).__name__}); start a new run") from error
    if wrong := _wrong_part(state):
        raise ValueError(f"{path} is no training state: {wrong} is missing or of a wrong type; start a new run")
    return state


def _wrong_part(state: Any) -> str | None:
    """The first part of a state that is not as `_Run` and `Stepper` write it; whether it fits a model shows there."""
    if not isinstance(state, dict):
        return "everything"
    tensors, numbers = (partial(_holds, kinds=(kind,)) for kind in (Tensor, float))
    right = {
        "step": _is_count(state.get("step")),
        "seconds": type(state.get("seconds")) is float,
        "config": _holds(state.get("config"), kinds=(int, float, str, bool, tuple, list)),
        "model": tensors(state.get("model")),
        "ema": tensors(state.get("ema")),
    }
    averages, optimizer = state.get("averages"), state.get("optimizer")
    right["averages"] = (
        isinstance(averages, dict) and numbers(averages.get("sums")) and _is_count(averages.get("count"))
    )
    moments = optimizer.get("state") if isinstance(optimizer, dict) else None
    right["optimizer"] = isinstance(moments, dict) and all(tensors(each) for each in moments.values())
    return next((name for name, fine in right.items() if not fine), None)


def _holds(values: Any, *, kinds: tuple[type, ...]) -> bool:
    """Whether these are values of some types, each by its name."""
    return isinstance(values, dict) and all(
        isinstance(name, str) and isinstance(value, kinds) for name, value in values.items()
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _reason(error: Exception, out: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    free = shutil.disk_usage(out).free
    return f"the disk takes no more ({free / 1e6:,.0f} MB free; {' '.join(str(error).split())})"
