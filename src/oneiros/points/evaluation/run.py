"""How well a trained segmenter labels clouds whose classes are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oneiros.console import Track, say, silent
from oneiros.data.clouds.checks import require_metres
from oneiros.data.clouds.classes import Grouping
from oneiros.data.clouds.formats import open_cloud
from oneiros.points.distance import compare
from oneiros.points.evaluation.confusion import Confusion
from oneiros.points.evaluation.report import write_report
from oneiros.points.labelling import label_points, load_segmenter
from oneiros.run_folder import read_cloud_origin, read_config


def evaluate_segmenter(
    run: Path,
    clouds: Sequence[Path] = (),
    *,
    out: Path,
    device: str = "cpu",
    strict: bool = False,
    columns: str = "",
    track: Track = silent,
) -> dict[str, Any]:
    """Label classified clouds, by default those that the run held out; write `out`/metrics.json and report.html.

    Every point whose code belongs to a class is measured. Returns the figures. Raises ValueError for a run that is no
    segmenter and for clouds that do not fit it or, with `strict`, lie far from those of its training.
    """
    model, origin = load_segmenter(run, device=device), read_cloud_origin(run)
    paths = tuple(clouds) or tuple(Path(path) for path in origin.held_out)
    if not paths:
        raise ValueError(f"{run} held out no whole cloud; name the classified clouds to measure on")
    trained_on = {Path(path).resolve() for path in origin.train}
    for path in paths:
        if path.resolve() in trained_on:
            say(f"{path}: the segmenter was trained on this cloud; figures on it flatter")
    compare(model, origin, paths, strict=strict, columns=columns, track=track)
    grouping = Grouping(model.config.names, model.config.codes)
    confusion, labels = Confusion(len(grouping.names)), []
    advance = track("labelling clouds", len(paths))
    for path in paths:
        file = open_cloud(path, columns)
        require_metres(file)
        cloud = file.read_metres()
        if cloud.classification is None:
            raise ValueError(f"{path}: has no classification to measure against")
        truth = grouping.labels(cloud.classification)
        predicted = label_points(model, cloud).argmax(1).numpy()
        confusion.add(truth, predicted)
        labels.append((truth.astype(np.int16), predicted.astype(np.int16)))
        advance(1)

    if not confusion.num_points:
        codes = ", ".join(str(code) for group in grouping.codes for code in group)
        raise ValueError(f"{', '.join(map(str, paths))}: no point is of a class that {run} knows (codes {codes})")

    def shown() -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        for path, (truth, predicted) in zip(paths, labels, strict=True):
            file = open_cloud(path, columns)
            yield path.name, file.read(attributes=()).xyz * file.metres, truth, predicted

    title = f"Segmentation by {run.resolve().name}"
    config = read_config(run).to_json()
    write_report(out, title=title, names=grouping.names, confusion=confusion, clouds=shown(), config=config)
    return confusion.scores(grouping.names)
