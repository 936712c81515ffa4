"""Looking for what is wrong with a cloud."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np

from oneiros.data.checks import Check, Problem
from oneiros.data.clouds.cloud import CLASSIFICATION, COLOURS, METRES, CloudFile
from oneiros.data.clouds.strays import limits, outside
from oneiros.data.clouds.summary import CloudSummary

_ROUNDING = 0.01  # between a header's bounds and its points, in metres
_METRES = "coordinates are in metres"
_FINE = 0.01  # metres that coordinates are to tell apart


def run_checks(file: CloudFile, summary: CloudSummary) -> tuple[Check, ...]:
    """Every check of a cloud, in the order of the table that `oneiros inspect` prints."""
    found = {
        _METRES: _check_unit(file),
        "coordinates tell points apart": _check_resolution(file, summary),
        "no point lies far from all others": _check_strays(summary),
        "the header's bounds are those of the points": _check_bounds(file, summary),
        "attributes are numbers": _check_numbers(file, summary),
        "points are classified": _check_classes(file, summary),
    }
    notes = {_METRES: _unit_note(file)}
    return tuple(Check(name, tuple(problems), notes.get(name, "")) for name, problems in found.items())


def require_metres(file: CloudFile) -> None:
    """ValueError when coordinates cannot be brought to metres, as far as the file or its bounds tell; reads no points
    of LAS. Where nothing tells, they are taken for metres."""
    for problem in _check_unit(file):
        if problem.fatal:
            raise ValueError(f"{file.path}: {problem.text}")


def _check_unit(file: CloudFile) -> Iterator[Problem]:
    low, high = file.bounds
    named = [unit for unit in (file.unit, file.vertical_unit) if unit is not None]
    if file.unit == "degree":
        yield Problem("x and y are in units of degree, not metres; reproject the cloud", fatal=True)
    elif unknown := [unit for unit in named if unit not in METRES]:
        yield Problem(f"coordinates are in units of {unknown[0]}, not metres; reproject the cloud", fatal=True)
    elif file.unit is None and _like_degrees(low, high):
        width, height = (high - low)[:2].max(), (high - low)[2]
        yield Problem(
            f"x and y span at most {width:.3g} and z spans {height:.3g}: x and y look like degrees, not metres; "
            "reproject the cloud",
            fatal=True,
        )


def _unit_note(file: CloudFile) -> str:
    """Where the unit is not told, or another one; empty where it is said to be the metre, or the check fails."""
    named = [unit for unit in (file.unit, file.vertical_unit) if unit is not None]
    if any(unit not in METRES for unit in named):
        return ""
    if file.unit is None:
        code = file.crs if file.crs and file.crs.startswith("EPSG:") else ""
        told = f" (pyproj, once it is installed, knows that of {code})" if code and not find_spec("pyproj") else ""
        return f"nothing says in what unit x and y are; they are taken for metres{told}"
    if all(unit == "metre" for unit in named):
        return ""
    which = "x, y and z are" if len(set(named)) == 1 else f"x and y are in {file.unit}, z is"
    return f"{which} in {named[-1]}: brought to metres inside, written back as they are"


def _like_degrees(low: np.ndarray, high: np.ndarray) -> bool:
    width, height = (high - low)[:2].max(), (high - low)[2]
    return bool((np.abs([low, high])[:, :2] <= (180, 90)).all() and 0 < width < 0.01 * height)


def _check_resolution(file: CloudFile, summary: CloudSummary) -> Iterator[Problem]:
    if not file.single:
        return
    largest = float(np.abs([summary.low, summary.high]).max())
    step = float(np.spacing(np.float32(largest)))
    if step > _FINE:
        yield Problem(
            f"coordinates are float32, which at {largest:,.0f} tells places apart that are {step:g} from each other; "
            "write them as double, or subtract an offset first"
        )


def _check_strays(summary: CloudSummary) -> Iterator[Problem]:
    xyz = summary.sample.xyz
    stray = outside(xyz, *limits(xyz))
    extremes = np.array([summary.low, summary.high])
    if not stray.any() and not outside(extremes, *limits(xyz)).any():
        return
    place = xyz[stray][0] if stray.any() else extremes[int(outside(extremes, *limits(xyz)).argmax())]
    yield Problem(
        f"points lie far from all others, such as at {', '.join(f'{value:,.2f}' for value in place)}; "
        "they are left out of training, and labelled 1 (unclassified)"
    )


def _check_bounds(file: CloudFile, summary: CloudSummary) -> Iterator[Problem]:
    said, found = np.array(file.bounds), np.array([summary.low, summary.high])
    if not np.isfinite(said).all():
        yield Problem("the header's bounds are no numbers")
        return
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
