"""Metrics of a run, as rows on disk, and its speed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from oneiros.disk import replacing
from oneiros.json_file import parse_json


class Averages:
    """Means of the steps' numbers since the last row of metrics."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, values: dict[str, float]) -> None:
        self.count += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.count = dict(state["sums"]), state["count"]


class Speed:
    """Samples and frames per second over the last steps."""

    def __init__(self) -> None:
        self.seconds = self.samples = self.frames = 0.0

    def add(self, seconds: float, *, samples: float, frames: float) -> None:
        keep = 0.9
        self.seconds = keep * self.seconds + seconds
        self.samples = keep * self.samples + samples
        self.frames = keep * self.frames + frames

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def frames_per_second(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        return f"{self.samples_per_second:,.0f} samples/s  {self.frames_per_second:,.0f} frames/s"


class Metrics:
    """`metrics.jsonl`: one JSON object a line, in the order of `step`."""

    def __init__(self, path: Path, *, last_step: int) -> None:
        """Rows after `last_step` (written after the checkpoint that a resumed run starts from) are dropped."""
        kept = [json.dumps(row) + "\n" for row in read_metrics(path) if row["step"] <= last_step]
        with replacing(path) as temporary:
            temporary.write_text("".join(kept))
        self._path = path

    def write(self, row: dict[str, float]) -> None:
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OSError(
                f"{self._path} takes no more rows ({error.strerror}). "
                "The last complete checkpoint is untouched; make room and use --resume"
            ) from error


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.jsonl`: each has a whole `step` and numbers. Other lines are left out, such as a last one
    cut short by a kill, and what a power cut made of those before."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [row for line in lines if (row := _row(line))]


def _row(line: bytes) -> dict[str, float] | None:
    with suppress(ValueError):
        row = parse_json(line, "a row")
        numbers = isinstance(row, dict) and all(type(value) in (int, float) for value in row.values())
        if numbers and type(row.get("step")) is int:
            return row
    return None
