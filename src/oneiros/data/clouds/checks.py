"""Looking for what is wrong with a cloud."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from oneiros.data.checks import Check, Problem
from oneiros.data.clouds.cloud import CLASSIFICATION, COLOURS, CloudFile
from oneiros.data.clouds.summary import CloudSummary

_ROUNDING = 0.01  # between a header's bounds and its points, in metres
_METRES = ("metre", "metres", "m")


def run_checks(file: CloudFile, summary: CloudSummary) -> tuple[Check, ...]:
    """Every check of a cloud, in the order of the table that `oneiros inspect` prints."""
    found = {
        "coordinates are in metres": _check_unit(file),
        "the header's bounds are those of the points": _check_bounds(file, summary),
        "attributes are numbers": _check_numbers(file, summary),
        "points are classified": _check_classes(file, summary),
    }
    return tuple(Check(name, tuple(problems)) for name, problems in found.items())


def require_metres(file: CloudFile) -> None:
    """ValueError when coordinates are not in metres, as far as the file or its bounds tell; reads no points of LAS."""
    for problem in _check_unit(file):
        raise ValueError(f"{file.path}: {problem.text}")


def _check_unit(file: CloudFile) -> Iterator[Problem]:
    low, high = file.bounds
    width, height = (high - low)[:2].max(), (high - low)[2]
    angles = (np.abs([low, high])[:, :2] <= (180, 90)).all()
    if file.unit is not None and file.unit.lower() not in _METRES:
        yield Problem(f"x and y are in units of {file.unit}, not metres; reproject the cloud", fatal=True)
    elif file.unit is None and angles and 0 < width < 0.01 * height:
        yield Problem(
            f"x and y span at most {width:.3g} and z spans {height:.3g}: x and y look like degrees, not metres; "
            "reproject the cloud",
            fatal=True,
        )


def _check_bounds(file: CloudFile, summary: CloudSummary) -> Iterator[Problem]:
    said, found = np.array(file.bounds), np.array([summary.low, summary.high])
    for axis in np.flatnonzero(~(np.abs(said - found) <= _ROUNDING).all(axis=0)):
        low, high = said[:, axis]
        yield Problem(
            f"the header says {'xyz'[axis]} runs from {low:.2f} to {high:.2f}; "
            f"that of the points from {found[0, axis]:.2f} to {found[1, axis]:.2f}"
        )


def _check_numbers(file: CloudFile, summary: CloudSummary) -> Iterator[Problem]:
    for name, count in summary.missing.items():
        yield Problem(f"{name} is NaN for {count:,} of {file.num_points:,} points", fatal=name in COLOURS)


def _check_classes(file: CloudFile, summary: CloudSummary) -> Iterator[Problem]:
    if CLASSIFICATION not in file.attribute_names:
        yield Problem("there is no classification: nothing to train on")
    elif len(summary.classes) == 1:
        (number,) = summary.classes
        yield Problem(f"every point is of class {number} ({file.class_names.get(number, 'no name')})")
