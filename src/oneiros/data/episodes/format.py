"""What a recording holds, and whether it fits a dataset that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from oneiros.data.episodes.features import ACTION, CONFIDENCE, STATE, build_features, read_cameras
from oneiros.data.episodes.metadata import DATA, VIDEO
from oneiros.records import ActionSpec, Camera

CHUNKS_SIZE = 1000
DATA_FILE_MB, VIDEO_FILE_MB = 100, 200


@dataclass(frozen=True)
class RecordingFormat:
    """What every row of a dataset holds. outcomes: what its step paid, and whether it was the last. confidence: how
    sure its action is, where not all are known."""

    fps: int
    cameras: tuple[Camera, ...]
    action_spec: ActionSpec | None
    state_names: tuple[str, ...]
    outcomes: bool = False
    confidence: bool = False


def new_info(fmt: RecordingFormat, robot_type: str) -> dict[str, Any]:
    """info.json of a new, empty dataset."""
    return {
        "codebase_version": "v3.0",
        "robot_type": robot_type,
        **totals(0, 0, 0),
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": fmt.fps,
        "data_path": DATA,
        "video_path": VIDEO if fmt.cameras else None,
        "features": build_features(
            fps=fmt.fps,
            cameras=fmt.cameras,
            action_spec=fmt.action_spec,
            state_names=fmt.state_names,
            outcomes=fmt.outcomes,
            confidence=fmt.confidence,
        ),
    }


def totals(num_episodes: int, num_frames: int, num_tasks: int) -> dict[str, Any]:
    """The fields of info.json that grow with the dataset."""
    return {
        "total_episodes": num_episodes,
        "total_frames": num_frames,
        "total_tasks": num_tasks,
        "splits": {"train": f"0:{num_episodes}"},
    }


def check_same_format(
    path: Path, fmt: RecordingFormat, theirs: Mapping[str, Any], ours: Mapping[str, Any], fps: int
) -> None:
    """ValueError when rows of this format do not fit the dataset at `path`."""
    if fps != fmt.fps:
        raise ValueError(f"{path}: was recorded at {fps} fps, this recording runs at {fmt.fps}")
    if theirs.keys() != ours.keys():
        different = ", ".join(sorted(theirs.keys() ^ ours.keys()))
        if different == CONFIDENCE:
            raise ValueError(
                f"{path}: was begun with actions in every row; record films without them into a folder of their own"
            )
        raise ValueError(f"{path}: has other columns or cameras than this recording (only one has {different})")
    recorded = {camera.name: camera for camera in read_cameras(theirs)}
    for camera in fmt.cameras:
        if camera != recorded[camera.name]:
            theirs_is, ours_is = (_differences(a, b) for a, b in permutations((recorded[camera.name], camera)))
            raise ValueError(f"{path}: {camera.name} was recorded with {theirs_is}; this recording has {ours_is}")
    if fmt.action_spec is not None:
        saved = (theirs[ACTION].get("info") or {}).get("action_spec")
        if saved is None:
            raise ValueError(f"{path}: was not recorded by Oneiros; record into a new folder")
        spec = ActionSpec.from_json(saved)
        if not fmt.action_spec.matches(spec):
            raise ValueError(
                f"{path}: has {spec.kind} actions ({', '.join(spec.names)}), "
                f"this recording {fmt.action_spec.kind} ones ({', '.join(fmt.action_spec.names)})"
            )
    if fmt.state_names and theirs[STATE]["shape"] != [len(fmt.state_names)]:
        raise ValueError(f"{path}: has states of shape {theirs[STATE]['shape']}, this recording {len(fmt.state_names)}")


def _differences(camera: Camera, other: Camera) -> str:
    """What of a camera is otherwise in another: `height 64, width 64`."""
    theirs = asdict(other)
    return ", ".join(f"{name} {value}" for name, value in asdict(camera).items() if value != theirs[name])
