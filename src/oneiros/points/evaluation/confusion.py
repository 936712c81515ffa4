"""How well points were classified: a confusion matrix that accumulates, and the measures read off it.

Every measure is explained, with its limits, in docs/metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

IGNORED = -1  # a true label that is neither learned from nor measured
_MEASURES = ("iou", "f1", "precision", "recall")


class Confusion:
    """How many points of each true class (row) were called which class (column).

    matrix: int64 (num_classes, num_classes), on the CPU.
    A measure of a class that has nothing to be measured on is nan: IoU and F1 where the class is neither true nor
    predicted anywhere, precision where it is never predicted, recall where it is never true. Means leave nan out.
    """

    def __init__(self, num_classes: int):
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; at least one class is needed")
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    @property
    def num_classes(self) -> int:
        return len(self.matrix)

    def add(self, truth: Tensor | np.ndarray, predicted: Tensor | np.ndarray) -> None:
        """Count points. truth, predicted: integers (N,), arrays or tensors; points whose truth is -1 are left out.

        Raises ValueError for shapes that differ and for labels that are no class.
        """
        truth, predicted = torch.as_tensor(truth), torch.as_tensor(predicted)
        if truth.shape != predicted.shape:
            raise ValueError(f"truth {tuple(truth.shape)} and prediction {tuple(predicted.shape)} differ in shape")
        known = truth != IGNORED
        truth, predicted = truth[known].long(), predicted[known].long()
        self._check("truth", truth)
        self._check("prediction", predicted)
        counts = torch.bincount(truth * self.num_classes + predicted, minlength=self.num_classes**2)
        self.matrix += counts.cpu().reshape_as(self.matrix)

    def _check(self, name: str, labels: Tensor) -> None:
        wrong = (labels < 0) | (labels >= self.num_classes)
        if wrong.any():
            raise ValueError(f"{name} holds the label {labels[wrong][0]}; classes are 0 to {self.num_classes - 1}")

    @property
    def num_points(self) -> int:
        return int(self.matrix.sum())

    @property
    def points(self) -> Tensor:
        """How many points are truly of each class: int64 (num_classes,)."""
        return self.matrix.sum(dim=1)

    @property
    def iou(self) -> Tensor:
        """Points rightly called a class / points that are or were called so: float64 (num_classes,)."""
        hits, true, called = self._counts()
        return hits / (true + called - hits)

    @property
    def f1(self) -> Tensor:
        """Harmonic mean of precision and recall: float64 (num_classes,)."""
        hits, true, called = self._counts()
        return 2 * hits / (true + called)

    @property
    def precision(self) -> Tensor:
        """Of the points called a class, how many are: float64 (num_classes,)."""
        hits, _, called = self._counts()
        return hits / called

    @property
    def recall(self) -> Tensor:
        """Of the points of a class, how many were called so: float64 (num_classes,)."""
        hits, true, _ = self._counts()
        return hits / true

    def _counts(self) -> tuple[Tensor, Tensor, Tensor]:
        matrix = self.matrix.double()
        return matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that are true or predicted somewhere; nan where nothing was counted."""
        return self.iou.nanmean().item()

    @property
    def accuracy(self) -> float:
        """Share of points rightly called; nan where nothing was counted."""
        return (self.matrix.diagonal().sum() / self.matrix.sum()).item()

    def scores(self, names: Sequence[str]) -> dict[str, Any]:
        """What metrics.json holds; null where there is nothing to measure. names: one a class, each another."""
        if len(set(names)) != self.num_classes:
            raise ValueError(f"{self.num_classes} classes need as many different names, got {list(names)}")
        measures = {measure: [_or_none(value) for value in getattr(self, measure).tolist()] for measure in _MEASURES}
        classes = {
            name: {**{measure: values[k] for measure, values in measures.items()}, "points": int(self.points[k])}
            for k, name in enumerate(names)
        }
        return {
            "miou": _or_none(self.miou),
            "accuracy": _or_none(self.accuracy),
            "classes": classes,
            "confusion": self.matrix.tolist(),
        }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def score_table(scores: dict[str, Any]) -> Table:
    """For a terminal. scores: as `Confusion.scores` gives them."""
    from rich.table import Table

    table = Table(title=f"mIoU {three_digits(scores['miou'])}, overall accuracy {three_digits(scores['accuracy'])}")
    table.add_column("class")
    for head in ("IoU", "F1", "precision", "recall", "points"):
        table.add_column(head, justify="right")
    for name, values in scores["classes"].items():
        table.add_row(name, *(three_digits(values[measure]) for measure in _MEASURES), f"{values['points']:,}")
    return table


def three_digits(value: float | None) -> str:
    """A share with three digits; a dash where there was nothing to measure."""
    return "–" if value is None else f"{value:.3f}"
