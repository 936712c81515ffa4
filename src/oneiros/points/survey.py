"""A folder of tiles as one list of jobs, which any number of processes and machines work through together.

Beside the copies lies a folder `.oneiros` with what the survey is like, a lock of each tile under way, and a record of
each that is done. A tile is done when its copy and a record of the same model, settings and sources are there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from oneiros.data.clouds.formats import CloudFile, open_cloud
from oneiros.data.clouds.relabel import check_paths
from oneiros.disk import locked, replacing
from oneiros.json_file import read_json
from oneiros.points.labelling import Labelling, label_file, load_segmenter, margin_around
from oneiros.points.profile import CloudProfile
from oneiros.points.segmenter import Segmenter

RECORDS = ".oneiros"


@dataclass(frozen=True)
class TileJob:
    """One tile to be labelled. around: neighbours whose edges are looked at. profile: of the whole survey. key: changes
    when the copy would. columns: of texts. wait: for another process that is at it, instead of leaving
    it to that one."""

    run: Path
    source: Path
    out: Path
    around: tuple[Path, ...]
    profile: Mapping[str, Any]
    how: Labelling
    device: str
    key: str
    columns: str = ""
    wait: bool = False


@dataclass(frozen=True)
class TileResult:
    """counts: as `label_file` gives them. error: why there is no copy. before: it was done already. taken: another
    process is at it."""

    counts: Mapping[str, int] | None = None
    error: str = ""
    before: bool = False
    taken: bool = False


def plan(
    run: Path, copies: Mapping[Path, Path], out: Path, how: Labelling, *, device: str = "cpu", columns: str = ""
) -> list[TileJob]:
    """A job for each tile of a survey, the same in every process that plans it.

    copies: by source; all in `out`. What the survey is like is found once, by whoever comes first, and kept there: the
    labels of a tile do not depend on where the survey was cut. Tiles that cannot be opened have no neighbours.
    Raises ValueError for names that do not fit, and for a run that is no segmenter.
    """
    for source, copy in copies.items():
        check_paths(source, copy)
    model = load_segmenter(run, device=device)
    files = {source.absolute(): _opened(source, columns) for source in sorted(copies)}
    usable = [file for file in files.values() if file is not None and file.num_points]
    profile = _profile(out, usable).to_json()
    margin, boxes = margin_around(model), {file.path: _box(file) for file in usable}
    weights = _digest((run / "model.safetensors").read_bytes(), (run / "config.json").read_bytes())
    jobs = []
    for source, copy in sorted(copies.items()):
        source = source.absolute()
        around = _around(source, boxes, margin)
        told = [weights, asdict(how), columns, profile, [_state(path) for path in (source, *around)]]
        key = _digest(json.dumps(told, sort_keys=True).encode())
        jobs.append(TileJob(run.absolute(), source, copy.absolute(), around, profile, how, device, key, columns))
    return jobs


def label_tile(job: TileJob) -> TileResult:
    """Do a job, unless it is done."""
    record = job.out.parent / RECORDS / f"{job.out.name}.json"
    try:
        lock = locked(record.with_suffix(".lock"), wait=job.wait)
    except BlockingIOError:
        return TileResult(taken=True)
    with lock:
        counts = _done(job, record)
        if counts is not None:
            return TileResult(counts, before=True)
        try:
            counts = label_file(
                _model(job.run, job.device),
                job.source,
                job.out,
                how=job.how,
                profile=CloudProfile.from_json(job.profile),
                around=job.around,
                columns=job.columns,
            )
        except (ValueError, OSError) as error:
            return TileResult(error=str(error))
        with replacing(record) as temporary:
            temporary.write_text(json.dumps({"key": job.key, "counts": counts}))
    return TileResult(counts)


def waiting(job: TileJob) -> TileJob:
    """The same job, to be done after whoever is at it."""
    return replace(job, wait=True)


@lru_cache(maxsize=1)
def _model(run: Path, device: str) -> Segmenter:
    return load_segmenter(run, device=device)


def _done(job: TileJob, record: Path) -> dict[str, int] | None:
    """What was counted, where the copy is there and is the one this job would make."""
    if not (job.out.is_file() and record.is_file()):
        return None
    try:
        kept = read_json(record)
        return dict(kept["counts"]) if kept["key"] == job.key else None
    except (ValueError, KeyError, TypeError):
        return None


def _opened(source: Path, columns: str) -> CloudFile | None:
    try:
        return open_cloud(source.absolute(), columns)
    except (ValueError, OSError):
        return None  # said when its turn comes


def _profile(out: Path, files: Sequence[CloudFile]) -> CloudProfile:
    kept = out / RECORDS / "survey.json"
    with locked(kept.with_suffix(".lock"), wait=True):
        if not kept.is_file():
            found = CloudProfile.of_files(files)
            with replacing(kept) as temporary:
                temporary.write_text(json.dumps(found.to_json()))
        return CloudProfile.from_json(read_json(kept))


def _box(file: CloudFile) -> tuple[np.ndarray, np.ndarray]:
    low, high = file.bounds
    return (low * file.metres)[:2], (high * file.metres)[:2]


def _around(source: Path, boxes: Mapping[Path, tuple[np.ndarray, np.ndarray]], margin: float) -> tuple[Path, ...]:
    """Tiles of which a part lies within the margin, by name."""
    if source not in boxes:
        return ()
    low, high = boxes[source]
    near = (path for path, (a, b) in boxes.items() if (a <= high + margin).all() and (b >= low - margin).all())
    return tuple(path for path in near if path != source)


def _state(path: Path) -> list[Any]:
    try:
        status = os.stat(path)
    except OSError:
        return [path.name]
    return [path.name, status.st_size, status.st_mtime_ns]


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:32]
