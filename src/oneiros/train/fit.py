"""The training engine: any `Trainable`, on one CPU or many GPUs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oneiros.console import Bar, bars, say
from oneiros.disk import check_room
from oneiros.machine import environment
from oneiros.records import Trainable
from oneiros.train.config import FitConfig
from oneiros.train.estimate import checkpoint_bytes, time_needed
from oneiros.train.log import Averages, Metrics, read_metrics
from oneiros.train.machine import drain_gloo, make_fabric, precision_of
from oneiros.train.state import only_training, opening_state, save_checkpoint
from oneiros.train.step import MakeBatch, Stepper
from oneiros.train.stop import StopRequest

__all__ = ["FitConfig", "FitResult", "fit", "fit_from"]

SaveModel = Callable[[nn.Module, Path], None]
Pictures = Callable[[nn.Module, int], Mapping[str, float] | None]

_ESTIMATE_FROM = 50  # steps; shorter runs are over before an estimate is worth its time


@dataclass(frozen=True)
class FitResult:
    """step: steps done in all. loss: mean of the last row. seconds: of training, all sessions together."""

    step: int
    loss: float
    seconds: float
    frames_per_second: float

    def __str__(self) -> str:
        return f"step {self.step:,}, loss {self.loss:.4g}, {self.seconds:,.0f} s"


def fit(
    model: Trainable,
    make_batch: MakeBatch,
    *,
    out: Path,
    config: FitConfig,
    save_model: SaveModel,
    pictures: Pictures | None = None,
    resume: bool = False,
    title: str = "training",
) -> FitResult:
    """Train `model` and keep `out` such that `resume=True` goes on bit-exactly after a kill at any moment.

    make_batch: (step, samples) -> batch, a pure function of its arguments; `samples` are numbers in
        range(batch_size), shared out in contiguous ranges over processes and micro-batches. A batch with `valid`
        (B, T) weighs by its valid frames, so a split batch gives the gradient of the whole one.
    save_model: (model, folder) -> None writes the weights for use; called with the averaged weights in place.
    pictures: (model, step) -> numbers for the row of that step, if any; called with the averaged weights in place and
        the model in eval mode, to draw and measure what it has learned.

    torch's global random numbers are set from (seed, step) before each step. Under torchrun all processes train one
    model with DDP; every machine must see the same `out`.

    Settings of the whole process are left alone: for speed, call `oneiros.machine.prepare` before.

    Raises ValueError for a model that is no `Trainable`, a loss that is not finite or an `out` that does not fit
    `resume`; OSError when the disk takes no more or another process trains into `out`; KeyboardInterrupt after Ctrl-C
    or SIGTERM, once saved. The last checkpoint survives all of them.
    """
    with only_training(out):
        state, config = opening_state(out, config, resume=resume)
        return fit_from(
            state, model, make_batch, out=out, config=config, save_model=save_model, pictures=pictures, title=title
        )


def fit_from(
    state: Mapping[str, Any] | None,
    model: Trainable,
    make_batch: MakeBatch,
    *,
    out: Path,
    config: FitConfig,
    save_model: SaveModel,
    pictures: Pictures | None,
    title: str,
) -> FitResult:
    """`fit`, from the state of a run that was opened before; None begins a new one."""
    if not isinstance(model, Trainable):
        raise ValueError(f"{type(model).__name__} is no oneiros.records.Trainable; derive it from that, not nn.Module")
    fabric = make_fabric(config.precision)
    stepper = Stepper(model, make_batch, config, fabric)
    first = state["step"] if state else 0
    try:
        with bars(visible=fabric.is_global_zero) as track:
            bar = track(title, config.steps, first=first, unit="step")
            run = _Run(stepper, out, bar, save_model, pictures)
            run.start(state)
            return run.train()
    finally:
        drain_gloo()


class _Run:
    """A session of a run: its steps, metrics, pictures and checkpoints."""

    def __init__(self, stepper: Stepper, out: Path, bar: Bar, save_model: SaveModel, pictures: Pictures | None) -> None:
        self.stepper, self.out, self.bar = stepper, out, bar
        self.save_model, self.pictures = save_model, pictures
        self.config, self.leads = stepper.config, stepper.fabric.is_global_zero
        self.averages, self.metrics = Averages(), None
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def start(self, state: Mapping[str, Any] | None) -> None:
        """Go back to `state`, say what the run will cost, and see before the first step that it can be saved."""
        if state:
            self.stepper.load_state_dict(state)
            self.averages.load_state_dict(state["averages"])
            self.began -= state["seconds"]
        self.stepper.model.train()
        self._announce()
        if self.leads and not state:
            self._save()
        if self.leads:
            self.metrics = Metrics(self.out / "metrics.jsonl", last_step=self.stepper.step)
            machine = environment(self.stepper.fabric.device.type, precision_of(self.stepper.fabric))
            (self.out / "environment.json").write_text(json.dumps(machine, indent=2) + "\n")

    def train(self) -> FitResult:
        loss = self._last_loss()
        with StopRequest() as stop:
            while not self._finished():
                values, stopping = self.stepper.do(lambda: stop.requested)
                self.bar(1, f"loss {values['loss']:.4g}  {self.stepper.speed}")
                self.averages.add(values)
                drawing = self.pictures is not None and self._due(self.config.picture_every)
                measured = self._draw() if drawing and self.leads else {}
                if drawing or self._due(self.config.log_every):
                    loss = self._log(measured)
                if self.leads and (stopping or self._due(self.config.save_every)):
                    self._save()
                if stopping and not self._finished():
                    self._say_stopped()
                    raise KeyboardInterrupt
        return FitResult(self.stepper.step, loss, self.seconds, self.stepper.speed.frames_per_second)

    def _last_loss(self) -> float:
        rows = read_metrics(self.out / "metrics.jsonl")
        return rows[-1].get("loss", math.nan) if rows else math.nan

    def _finished(self) -> bool:
        return self.stepper.step == self.config.steps

    def _due(self, every: int) -> bool:
        return self._finished() or (every > 0 and self.stepper.step % every == 0)

    def _announce(self) -> None:
        room = check_room(self.out, checkpoint_bytes(self.stepper.model), "a checkpoint takes")
        steps = self.config.steps - self.stepper.step
        if steps >= _ESTIMATE_FROM:
            where = f"{self.stepper.fabric.device.type}, {precision_of(self.stepper.fabric)}"
            self._say(f"{time_needed(self.stepper, steps)} ({where}); {room}")

    def _log(self, measured: Mapping[str, float]) -> float:
        row = self.averages.take()
        if self.metrics:
            timing = {"seconds": self.seconds, "frames_per_second": self.stepper.speed.frames_per_second}
            self.metrics.write({"step": self.stepper.step} | row | dict(measured) | timing)
        return row["loss"]

    def _save(self) -> None:
        progress = {"config": asdict(self.config), "seconds": self.seconds, "averages": self.averages.state_dict()}
        save_checkpoint(self.out, self.stepper.state_dict() | progress, self._save_averaged)

    def _save_averaged(self, folder: Path) -> None:
        with self.stepper.ema.swapped_in():
            self.save_model(self.stepper.model, folder)

    def _say(self, text: str) -> None:
        if self.leads:
            say(text)

    def _say_stopped(self) -> None:
        step = f"{self.stepper.step:,}"
        self._say(f"saved step {step} in {self.out}; the same command with --resume goes on")

    def _draw(self) -> Mapping[str, float]:
        assert self.pictures is not None
        model = self.stepper.model.eval()
        try:
            with torch.no_grad(), self.stepper.fabric.autocast(), self.stepper.ema.swapped_in():
                return self.pictures(model, self.stepper.step) or {}
        except OSError as error:  # a picture is not worth a run
            self._say(f"no picture of step {self.stepper.step}: {error}")
            return {}
        finally:
            model.train()
