"""Shared by all formats that labels are written into: checks, and putting the file in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

import numpy as np

from oneiros.data.clouds.cloud import CHUNK
from oneiros.disk import replacing

Parts = np.ndarray | Iterable[np.ndarray]
# labels (n,) and their probabilities float32 (n, C), C = 0 where none are written
LabelPart = tuple[np.ndarray, np.ndarray]
CERTAINTY = ("entropy", "margin")  # written beside probabilities
COPIES = {".e57": ".laz"}  # what the copy of a format is, where that has no place for classes


def label_parts(
    labels: Parts, probabilities: Parts | None, *, num_points: int, num_classes: int
) -> Iterator[LabelPart]:
    """The labels with their probabilities, in pieces as they come.

    ValueError when they are not one whole number per point, or probabilities not `num_classes` numbers.
    """
    done = 0
    rows = repeat(None) if probabilities is None else _parts(probabilities)
    for some, of_some in zip(_parts(labels), rows, strict=probabilities is not None):
        if some.ndim != 1 or some.dtype.kind not in "iu":
            raise ValueError(f"labels have shape {some.shape} and type {some.dtype}; they must be (n,) whole numbers")
        of_some = np.empty((len(some), 0), np.float32) if of_some is None else of_some
        if of_some.shape != (len(some), num_classes):
            raise ValueError(
                f"probabilities have shape {of_some.shape}; they must be {(len(some), num_classes)}: "
                "a row for each label and a column for each of the class names"
            )
        done += len(some)
        if done > num_points:
            break
        yield some, of_some.astype(np.float32)
    if done != num_points:
        found = f"at least {done:,}" if done > num_points else f"{done:,}"
        raise ValueError(f"there are {found} labels for {num_points:,} points; there must be one for each")


def _parts(values: Parts) -> Iterator[np.ndarray]:
    if hasattr(values, "__array__"):  # an array, or a tensor
        whole = np.asarray(values)
        return (whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK))
    return map(np.asarray, values)


def with_certainty(part: LabelPart) -> LabelPart:
    """The same with two more columns (n, C + 2): the entropy of the probabilities in bits, 0 where all is sure, and how
    much likelier the first is than the second."""
    labels, chances = part
    logs = np.log2(chances, out=np.zeros_like(chances), where=chances > 0)
    ordered = np.sort(np.pad(chances, ((0, 0), (1, 0))), axis=1)
    certainty = np.stack([-(chances * logs).sum(1), ordered[:, -1] - ordered[:, -2]], 1)
    return labels, np.concatenate([chances, np.maximum(certainty, 0)], 1)


def check_range(labels: np.ndarray, highest: int, why: str) -> None:
    """ValueError when a label is not in [0, highest]."""
    wrong = (labels < 0) | (labels > highest)
    if wrong.any():
        raise ValueError(f"a label is {labels[wrong][0]}; {why} from 0 to {highest}")


def check_paths(source: Path, out: Path) -> None:
    """ValueError unless `out` is another file than `source`, of the same format."""
    if out.exists() and out.samefile(source):
        raise ValueError(f"{out}: is the source itself, which is never written to; choose another name")
    ending = COPIES.get(source.suffix.lower(), source.suffix.lower())
    if out.suffix.lower() != ending or out.name.lower().endswith(".copc.laz"):
        shown = " (COPC cannot be written)" if out.name.lower().endswith(".copc.laz") else ""
        form = f"as LAZ, since {source.suffix} has no place for them" if ending != source.suffix.lower() else ""
        form = form or f"in the format of {source.name}"
        raise ValueError(f"{out}: labels are written {form}: the name must end in {ending}{shown}")


@contextmanager
def rewriting(path: Path) -> Iterator[BinaryIO]:
    """An open file that replaces `path` when the block ends well. OSError, in one line, where it cannot be written."""
    with replacing(path) as temporary, temporary.open("w+b") as file:
        yield file
