"""Depth frames of a recorded dataset as clouds, coloured and labelled where it has such cameras too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from oneiros.data.clouds.cloud import CLASSIFICATION, COLOURS, Cloud
from oneiros.data.depth import codes_to_depth
from oneiros.data.episodes.dataset import Dataset
from oneiros.records import Camera

_POSE = ("x", "y", "z", "yaw")


def clouds(dataset: Dataset, episode: int, *, stride: int = 1, camera: str | None = None) -> Iterator[Cloud]:
    """A cloud for every `stride`-th row of an episode: metres, z up, points in the order of the image.

    camera: the depth camera; by default the first.
    Where the states tell the camera's x, y, z and yaw (ViZDoom), points are where they are in the world, so that the
    clouds of an episode fit together. Elsewhere the camera is the origin and looks along +x.
    Attributes: `row` of the episode; red, green, blue (uint8) and classification (uint8, named by `class_names`) from
    the rgb and labels cameras of the same size and the same last part of the name, where there are such.
    Depth at either end of the camera's range is clipped, or says that nothing was seen: it gives no point.

    ValueError for a stride below 1, or a camera without intrinsics.
    """
    if stride < 1:
        raise ValueError(f"stride is {stride}; it must be at least 1")
    eye = dataset.camera(camera, "depth")
    if not (eye.fx and eye.fy):
        raise ValueError(f"{dataset.path}: {eye.name} has no focal length (fx, fy); without it there are no points")
    return _clouds(dataset, episode, stride, eye)


def has_pose(dataset: Dataset) -> bool:
    """Whether the states tell where the camera is, so that clouds of several rows share one world."""
    return all(name in dataset.state_names for name in _POSE)


def _clouds(dataset: Dataset, episode: int, stride: int, eye: Camera) -> Iterator[Cloud]:
    cameras = {"depth": eye} | {kind: found for kind in ("rgb", "labels") if (found := _beside(dataset, eye, kind))}
    names = dict(enumerate(cameras["labels"].classes)) if "labels" in cameras else {}
    rays, poses = _rays(eye), _poses(dataset, episode)
    streams = [dataset.stream(episode, found) for found in cameras.values()]
    for row, frames in enumerate(zip(*streams, strict=True)):
        if row % stride:
            continue
        images = dict(zip(cameras, frames, strict=True))
        depth = codes_to_depth(images.pop("depth"), eye)
        valid = (depth > eye.depth_min) & (depth < eye.depth_max)
        xyz = _to_world(depth[valid, None] * rays[valid], poses[row] if poses is not None else np.zeros(4))
        attributes = {"row": np.full(len(xyz), row, np.uint32), **_attributes(images, valid)}
        yield Cloud(xyz, attributes, path=dataset.path, class_names=names)


def _rays(camera: Camera) -> np.ndarray:
    """float64 (H, W, 3): where each pixel looks, forward, left and up, at a depth of 1 m."""
    left = (camera.cx - np.arange(camera.width)) / camera.fx
    up = (camera.cy - np.arange(camera.height)) / camera.fy
    return np.stack(np.broadcast_arrays(1.0, left, up[:, None]), axis=-1)


def _to_world(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """(N, 3) forward, left, up of a camera at x, y, z, turned by yaw (counter-clockwise from +x), -> (N, 3) x, y, z."""
    cos, sin = np.cos(pose[3]), np.sin(pose[3])
    return pose[:3] + points @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


def _poses(dataset: Dataset, episode: int) -> np.ndarray | None:
    """float64 (T, 4), or None where the states do not tell."""
    states = dataset.states(episode)
    if states is None or not has_pose(dataset):
        return None
    return states[:, [dataset.state_names.index(name) for name in _POSE]].astype(np.float64)


def _beside(dataset: Dataset, eye: Camera, kind: str) -> Camera | None:
    """The camera of this kind that sees what the depth camera sees, pixel by pixel."""
    view = (eye.name.rpartition(".")[2], eye.height, eye.width)
    same = (
        camera
        for camera in dataset.cameras
        if camera.kind == kind and (camera.name.rpartition(".")[2], camera.height, camera.width) == view
    )
    return next(same, None)


def _attributes(images: Mapping[str, np.ndarray], valid: np.ndarray) -> dict[str, np.ndarray]:
    attributes = {}
    if "rgb" in images:
        attributes |= dict(zip(COLOURS, images["rgb"][valid].T, strict=True))
    if "labels" in images:
        attributes[CLASSIFICATION] = images["labels"][valid].astype(np.uint8)
    return attributes
