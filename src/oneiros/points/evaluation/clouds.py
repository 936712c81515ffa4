"""How much two classifications of the same clouds agree, such as before and after a clean-up by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from oneiros.console import Track, silent
from oneiros.data.clouds.classes import ASPRS, Grouping, parse_classes
from oneiros.data.clouds.cloud import CLASSIFICATION, Cloud
from oneiros.data.clouds.formats import ENDINGS, open_cloud
from oneiros.points.evaluation.confusion import Confusion
from oneiros.points.evaluation.report import write_report

_SAME = 0.002  # metres by which formats may round the coordinates of a point


def compare_clouds(
    first: Path,
    second: Path,
    *,
    out: Path,
    classes: str = "",
    second_classes: str = "",
    names: Sequence[str] = (),
    columns: str = "",
    track: Track = silent,
) -> dict[str, Any]:
    """Measure the classes of `second` against those of `first`, the truth; write `out`/metrics.json and report.html.

    first, second: clouds of the same points, in any order, or folders of such with the same names. classes: codes of
        each class (`parse_classes`), by default each code that occurs; points of no class in `first` are left out, and
        so are those of no class in `second`, which are counted as `unmatched`. second_classes: the same classes by the
        codes of `second`, where these are others. names: of the classes. columns: of texts, see `open_cloud`.
    Returns the figures. Raises ValueError, in one line, for clouds that are not of the same points.
    """
    pairs = _pairs(first, second)
    truth_of = parse_classes(classes, names) if classes else _every_code(pairs, names, columns)
    said_of = parse_classes(second_classes, truth_of.names) if second_classes else truth_of
    if len(said_of.codes) != len(truth_of.codes):
        raise ValueError(
            f"--second-classes has {len(said_of.codes)} classes, the first cloud's {len(truth_of.codes)}; one for each"
        )
    confusion, labels, unmatched = Confusion(len(truth_of.names)), [], 0
    advance = track("comparing clouds", len(pairs))
    for one, other in pairs:
        codes = _codes(one, other, columns)
        truth, said = truth_of.labels(codes[0]), said_of.labels(codes[1])
        unmatched += int(((truth >= 0) & (said < 0)).sum())
        truth = np.where(said < 0, -1, truth)
        said = np.maximum(said, 0)
        confusion.add(truth, said)
        labels.append((truth.astype(np.int16), said.astype(np.int16)))
        advance(1)
    if not confusion.num_points:
        raise ValueError(f"{first}, {second}: no point has a class in both")

    def shown() -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        for (one, _), (truth, said) in zip(pairs, labels, strict=True):
            yield one.name, open_cloud(one, columns).read(attributes=()).xyz, truth, said

    config = {"truth": str(first), "compared": str(second), "unmatched points": unmatched}
    title = f"{second.name} beside {first.name}"
    write_report(out, title=title, names=truth_of.names, confusion=confusion, clouds=shown(), config=config)
    return confusion.scores(truth_of.names) | {"unmatched": unmatched}


def _pairs(first: Path, second: Path) -> list[tuple[Path, Path]]:
    if not first.is_dir() and not second.is_dir():
        return [(first, second)]
    if not (first.is_dir() and second.is_dir()):
        raise ValueError(f"{first} and {second}: compare two clouds, or two folders of clouds")
    inside = sorted(path for path in first.iterdir() if path.suffix.lower() in ENDINGS)
    if not inside:
        raise ValueError(f"{first}: holds no clouds ({', '.join(ENDINGS)})")
    if missing := [path.name for path in inside if not (second / path.name).is_file()]:
        raise ValueError(f"{second}: has no {missing[0]}" + (f" (nor {len(missing) - 1} more)" if missing[1:] else ""))
    return [(path, second / path.name) for path in inside]


def _every_code(pairs: Sequence[tuple[Path, Path]], names: Sequence[str], columns: str) -> Grouping:
    """A class for each code that occurs anywhere."""
    found = sorted({code for pair in pairs for path in pair for code in open_cloud(path, columns).classes})
    if names:
        raise ValueError("--names needs --classes, which says what they name")
    return Grouping(tuple(f"{code} {ASPRS.get(code, '')}".strip() for code in found), tuple((code,) for code in found))


def _codes(first: Path, second: Path, columns: str) -> tuple[np.ndarray, np.ndarray]:
    """Classification codes of both, point by point."""
    one, other = _read(first, columns), _read(second, columns)
    if len(one) != len(other):
        raise ValueError(f"{second}: has {len(other):,} points, {first.name} {len(one):,}; they must be the same")
    truth, said = one.classification, other.classification
    assert truth is not None
    assert said is not None
    if not len(one) or np.abs(one.xyz - other.xyz).max() <= _SAME:
        return truth, said
    distance, place = KDTree(other.xyz).query(one.xyz, distance_upper_bound=2 * _SAME)
    if (apart := ~np.isfinite(distance)).any():
        raise ValueError(
            f"{second}: {apart.sum():,} points of {first.name} are not where any of its are; they must be the same"
        )
    return truth, said[place]


def _read(path: Path, columns: str) -> Cloud:
    file = open_cloud(path, columns)
    if CLASSIFICATION not in file.attribute_names:
        raise ValueError(f"{path}: has no classification to compare")
    return file.read(attributes=(CLASSIFICATION,))
