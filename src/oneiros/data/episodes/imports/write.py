"""Recordings -> a LeRobot dataset, whole episodes only; what was complete stays, and is not made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from oneiros.data.episodes.imports.recording import ImportedEpisode, Source
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.data.video import can_be_kept
from oneiros.disk import replacing
from oneiros.json_file import read_json
from oneiros.records import Outcomes

_LOG = "meta/imported.json"


@dataclass(frozen=True)
class Imported:
    """episodes: in the dataset now, `before` of them from earlier. left_out: by name in the source, why."""

    episodes: int
    before: int
    frames: int
    left_out: dict[str, str]


def write_recordings(
    source: Source, origin: Path, out: Path, *, shift: int = 0, advance: Callable[[int, str], object] = lambda *_: None
) -> Imported:
    """Write what is not there yet. An episode that cannot be read is left out, and the next is tried.

    origin: where the source is. shift: the action of the source's row t + shift is done between its frames t and t + 1,
    and what came of it goes with it; rows without a frame or an action are dropped. advance: called with 1 and the
    episode's name after each.

    Raises ValueError where `out` holds something else, OSError for a full disk.
    """
    told = {"source": str(origin.resolve()), "kind": source.kind, "shift": shift}
    left_out, frames = {**_read_log(out, told), **source.unusable}, 0
    with DatasetWriter(
        out,
        fps=source.fps,
        cameras=source.cameras,
        action_spec=source.action_spec,
        state_names=source.state_names,
        outcomes=source.outcomes,
        robot_type=source.robot_type,
        confidence=source.partly,
    ) as writer:
        _write_log(out, told, left_out)
        before = writer.num_episodes
        wanted = [each for each in source.recordings if each.name not in left_out]
        for recording in wanted[before:]:
            try:
                frames += _write(recording, writer, shift)
            except ValueError as error:
                left_out[recording.name] = str(error)
                _write_log(out, told, left_out)
            advance(1, recording.name)
        return Imported(writer.num_episodes, before, frames, left_out)


def _write(recording: ImportedEpisode, writer: DatasetWriter, shift: int) -> int:
    actions = None if recording.actions is None else recording.actions()
    state = None if recording.state is None else recording.state()
    outcomes = None if recording.outcomes is None else recording.outcomes()
    first, stop = max(0, -shift), recording.length
    if actions is not None:
        if not recording.length - 1 <= len(actions) <= recording.length:
            raise ValueError(f"{recording.name}: has {recording.length} frames and {len(actions)} actions")
        stop = min(stop, len(actions) - shift + (len(actions) < recording.length))
    sure = _confidence(recording, 0 if actions is None else len(actions))
    if stop - first < 2:
        raise ValueError(f"{recording.name}: has {recording.length} frames; {max(0, stop - first)} are left of them")
    with writer.episode(task=recording.task) as episode:
        if recording.film is not None and stop - first == recording.length and can_be_kept(recording.film):
            episode.keep_film(recording.film)
        row = first
        for row, images in zip(range(first, stop), islice(recording.images(), first, stop), strict=False):
            action, confidence = None, 1.0 if actions is not None else 0.0
            if actions is not None and row + shift < len(actions):
                action = actions[row + shift] if actions.ndim > 1 else int(actions[row + shift])
                confidence = float(sure[row + shift])
            known = {} if outcomes is None else _outcome(outcomes, row + shift, last=row == stop - 1)
            here = None if state is None else state[row]
            episode.add(images=images, action=action, state=here, confidence=confidence, **known)
        if row != stop - 1:
            raise ValueError(f"{recording.name}: frame {row + 1} is missing; it should have {recording.length}")
    return stop - first


def _outcome(outcomes: Outcomes, row: int, *, last: bool) -> dict[str, Any]:
    """What `EpisodeWriter.add` takes of a row; nothing where nothing was done any more. An episode that went on did not
    end, whatever its rows say, as those do in which a task stays done."""
    if row >= len(outcomes.valid) or not outcomes.valid[row]:
        return {}
    last = last or not bool(outcomes.valid[row + 1 :].any())
    flags = {"terminated": outcomes.terminated, "truncated": outcomes.truncated}
    over = {name: last and each is not None and bool(each[row]) for name, each in flags.items()}
    return {"reward": 0.0 if outcomes.reward is None else float(outcomes.reward[row]), **over}


def _confidence(recording: ImportedEpisode, count: int) -> np.ndarray:
    found = np.ones(count, np.float32) if recording.confidence is None else recording.confidence()
    if len(found) < count:
        raise ValueError(f"{recording.name}: says of {len(found)} of its {count} actions how sure they are")
    return found


def _read_log(out: Path, told: dict[str, object]) -> dict[str, str]:
    """What an earlier import left out. ValueError where that was of another source, or read otherwise."""
    path = out / _LOG
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("left_out"), dict):
        raise ValueError(f"{path}: is not what an import left")
    before = {name: found.get(name) for name in told}
    if before != told:
        raise ValueError(f"{out}: was imported from {before}, not from {told}; name a new folder")
    return {str(name): str(why) for name, why in found["left_out"].items()}


def _write_log(out: Path, told: dict[str, object], left_out: dict[str, str]) -> None:
    with replacing(out / _LOG) as temporary:
        temporary.write_text(json.dumps({**told, "left_out": left_out}, indent=1, ensure_ascii=False), encoding="utf-8")
