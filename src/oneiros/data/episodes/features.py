"""What a LeRobot dataset says about its columns and cameras (`features` in info.json) <-> ActionSpec and Camera.

Readers ignore keys they do not know, so what LeRobot has no word for (the kind of an action, camera intrinsics) lives
in a feature's `info`, under `action_spec` and `camera`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oneiros.data.video import pixel_format
from oneiros.records import ActionSpec, Camera

ACTION, STATE = "action", "observation.state"
REWARD, DONE, TRUNCATED = "next.reward", "next.done", "next.truncated"
CONFIDENCE = "action_confidence"  # of each row's action: 1 recorded, 0 not known, between inferred
PICTURES = ("video", "image")  # types of cameras: films, or a picture in every row
MOST_NUMBERS = 2**16  # of a vector such as an action, or choices of one

_ACTIONS, _STATES = (ACTION, "actions"), (STATE, "state")  # first our own name, then openpi's
_NUMBERS = ("bool", "int", "uint", "float", "double")
_OUTCOMES = {REWARD: "float32", DONE: "bool", TRUNCATED: "bool"}
_INDEX_FEATURES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def build_features(
    *,
    fps: int,
    cameras: Sequence[Camera],
    action_spec: ActionSpec | None,
    state_names: Sequence[str],
    outcomes: bool = False,
    confidence: bool = False,
) -> dict[str, dict[str, Any]]:
    """The `features` table of info.json. outcomes: with what steps paid, and which of them were the last. confidence:
    with a column that says how sure each action is."""
    features: dict[str, dict[str, Any]] = {}
    if state_names:
        features[STATE] = _vector("float32", len(state_names), list(state_names))
    if action_spec is not None:
        features |= action_features(action_spec, confidence=confidence)
    if outcomes:
        features |= {name: _vector(dtype, 1, None) for name, dtype in _OUTCOMES.items()}
    for camera in cameras:
        features[camera.name] = _camera_feature(camera, fps)
    return {**features, **{name: _vector(dtype, 1, None) for name, dtype in _INDEX_FEATURES.items()}}


def action_features(spec: ActionSpec, *, confidence: bool) -> dict[str, dict[str, Any]]:
    """The entries of `features` for actions, and for how sure they are."""
    feature = _vector("int64", 1, [ACTION])
    if spec.kind != "discrete":
        feature = _vector("float32", spec.size, [*spec.names])
    features = {ACTION: {**feature, "info": {"action_spec": spec.to_json()}}}
    return features | ({CONFIDENCE: _vector("float32", 1, None)} if confidence else {})


def _vector(dtype: str, size: int, names: list[str] | None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [size], "names": names}


def _camera_feature(camera: Camera, fps: int) -> dict[str, Any]:
    codes = camera.kind != "rgb"
    channels = 1 if codes else 3
    info = {
        "video.height": camera.height,
        "video.width": camera.width,
        "video.codec": "hevc" if codes else "h264",
        "video.pix_fmt": pixel_format(camera.height, camera.width, codes=codes, lossless=camera.lossless),
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": False,
        "is_depth_map": camera.kind == "depth",
    }
    if camera.kind == "depth":
        info |= {
            "video.depth_min": camera.depth_min,
            "video.depth_max": camera.depth_max,
            "video.shift": camera.depth_shift,
            "video.use_log": camera.depth_log,
            "depth_unit": "mm",
        }
    info["camera"] = {"kind": camera.kind, "fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy}
    if camera.classes:
        info["camera"]["classes"] = list(camera.classes)
    if camera.lossless:
        info["camera"]["lossless"] = True
    return {
        "dtype": "video",
        "shape": [camera.height, camera.width, channels],
        "names": ["height", "width", "channels"],
        "info": info,
    }


def action_column(features: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The column that holds the actions; None where there is none."""
    return _column(features, _ACTIONS)


def state_column(features: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The column that holds the robot's own state; None where there is none."""
    return _column(features, _STATES)


def outcome_columns(features: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Those of the columns of rewards and ends that are there: one number a row."""
    return tuple(name for name in _OUTCOMES if name in features and _is_number(features[name]))


def _is_number(feature: Mapping[str, Any]) -> bool:
    return str(feature.get("dtype", "")).startswith(_NUMBERS) and math.prod(feature.get("shape") or [1]) == 1


def _column(features: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str | None:
    numbers = (name for name in names if str(features.get(name, {}).get("dtype", "")).startswith(_NUMBERS))
    return next(numbers, None)


def used_features(features: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Those that are read: cameras, actions, how sure they are, states, rewards and ends."""
    columns = (action_column(features), CONFIDENCE, state_column(features), *outcome_columns(features))
    return {name: each for name, each in features.items() if each.get("dtype") in PICTURES or name in columns}


def unused_features(features: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those that nothing here reads, but for what numbers rows and episodes."""
    used = used_features(features)
    return [name for name in features if name not in used and name not in _INDEX_FEATURES]


def read_cameras(features: Mapping[str, Mapping[str, Any]]) -> tuple[Camera, ...]:
    """Every feature of pictures as a Camera, in the order of the file."""
    return tuple(_read_camera(name, feature) for name, feature in features.items() if feature.get("dtype") in PICTURES)


def _read_camera(name: str, feature: Mapping[str, Any]) -> Camera:
    info: Mapping[str, Any] = feature.get("info") or feature.get("video_info") or {}
    extra: Mapping[str, Any] = info.get("camera") or {}
    size = dict(zip(flat_names(feature), feature["shape"], strict=False))
    if "height" not in size or "width" not in size:  # names are missing: the order every LeRobot writer uses
        shape = feature["shape"]
        first = len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3)  # channels first, as torch has them
        size = dict(zip(("height", "width"), shape[1:] if first else shape[:2], strict=True))
    depth = bool(info.get("is_depth_map") or info.get("video.is_depth_map"))
    default = Camera(name, 1, 1)
    camera = Camera(
        name=name,
        height=int(size["height"]),
        width=int(size["width"]),
        kind="depth" if depth else extra.get("kind", "rgb"),
        fx=float(extra.get("fx", 0.0)),
        fy=float(extra.get("fy", 0.0)),
        cx=float(extra.get("cx", 0.0)),
        cy=float(extra.get("cy", 0.0)),
        depth_min=float(info.get("video.depth_min", default.depth_min)),
        depth_max=float(info.get("video.depth_max", default.depth_max)),
        depth_shift=float(info.get("video.shift", default.depth_shift)),
        depth_log=bool(info.get("video.use_log", default.depth_log)),
        classes=tuple(str(each) for each in extra.get("classes", ())),
        lossless=bool(extra.get("lossless", False)),
    )
    if camera.kind not in ("rgb", "depth", "labels"):
        raise ValueError(f"{name} is a camera of {camera.kind!r}; it must be rgb, depth or labels")
    numbers = (camera.fx, camera.fy, camera.cx, camera.cy, camera.depth_min, camera.depth_max, camera.depth_shift)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} has a number that is none among {', '.join(map(str, numbers))}")
    return camera


def read_action_spec(feature: Mapping[str, Any], statistics: Mapping[str, Any]) -> ActionSpec:
    """The spec that Oneiros' writer saved, else what the column's type suggests.

    A whole number is a choice, a vector of bools is keys, any other vector is continuous.
    statistics: the column's `min`, `max`, `mean`, `std`.
    """
    saved = (feature.get("info") or {}).get("action_spec")
    if saved is not None:
        spec = ActionSpec.from_json(saved)
        if spec.kind != "discrete" and spec.size != np.prod(feature["shape"]):
            raise ValueError(f"{ACTION} has shape {feature['shape']} and {spec.size} names")
        return spec if spec.kind != "continuous" or spec.mean else _with_statistics(spec, statistics)
    size, dtype = int(np.prod(feature["shape"])), str(feature["dtype"])
    if dtype.startswith(("int", "uint")) and size == 1:
        if not 0 <= np.max(statistics["max"]) < MOST_NUMBERS:
            raise ValueError(
                f"{ACTION} is a choice, up to {np.max(statistics['max']):g}; it must be 0 to {MOST_NUMBERS}"
            )
        return ActionSpec("discrete", tuple(str(i) for i in range(int(np.max(statistics["max"])) + 1)))
    names = names_of(feature, ACTION)
    if dtype == "bool":
        return ActionSpec("keys", names)
    return _with_statistics(ActionSpec("continuous", names), statistics)


def _with_statistics(spec: ActionSpec, statistics: Mapping[str, Any]) -> ActionSpec:
    mean, std = (tuple(float(x) for x in np.ravel(statistics[name])) for name in ("mean", "std"))
    return ActionSpec.from_json({**spec.to_json(), "mean": mean, "std": std})


def names_of(feature: Mapping[str, Any], word: str) -> tuple[str, ...]:
    """A name for each number of a column: the feature's own, where they are as many and differ, else word_0, word_1...

    Names of each axis of several, as [["left", "right"], ["x", "y"]] of (2, 2), make left.x, left.y, right.x, right.y.
    """
    size, axes = math.prod(feature["shape"]), feature.get("names")
    names = flat_names(feature)
    if isinstance(axes, list) and [len(axis) if isinstance(axis, list) else 0 for axis in axes] == feature["shape"]:
        names = tuple(".".join(map(str, each)) for each in itertools.product(*axes))
    return names if len(names) == len(set(names)) == size else tuple(f"{word}_{i}" for i in range(size))


def flat_names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    """A feature's names, which other writers give as a list, a list of lists, a dict of lists, or one of places."""

    def leaves(names: Any) -> list[str]:
        if isinstance(names, Mapping):
            places = list(names.values())
            if places and all(type(place) is int for place in places):
                return sorted((str(name) for name in names), key=lambda name: names[name])
            names = places
        if isinstance(names, list):
            return [leaf for name in names for leaf in leaves(name)]
        return [] if names is None else [str(names)]

    return tuple(leaves(feature.get("names")))
