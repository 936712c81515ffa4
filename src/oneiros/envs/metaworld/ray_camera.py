"""A camera for MuJoCo scenes that needs no OpenGL: one ray a pixel, shaded so that form can be seen.

MuJoCo's `mj_multiRay` tells how far each ray goes and which geom it meets. Depth and labels follow at once; colour is
the geom's own (the mean of its texture), lit from above and from the camera. Rays meet geoms only, so spheres that
MuJoCo draws as sites are put in by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oneiros.envs.look import Appearance
from oneiros.envs.metaworld.libraries import load_mujoco

# MuJoCo's own choice of what is drawn: groups 0, 1 and 2, while scenes keep what only collides in groups 3 to 5.
_SHOWN = np.array([1, 1, 1, 0, 0, 0], np.uint8)
_HIDDEN = 5
_AMBIENT, _FROM_ABOVE, _FROM_CAMERA = 0.35, 0.35, 0.35
_SKY = 0.7
_UNSET = (0.5, 0.5, 0.5, 1.0)  # a geom of this colour takes its material's


@dataclass(frozen=True)
class Sphere:
    """What rays cannot meet: position in the world and radius in metres, colour 0 to 1."""

    position: tuple[float, float, float]
    radius: float
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Shot:
    """One picture: rgb uint8 (H, W, 3); depth float32 (H, W), metres along the optical axis, `far` where nothing is;
    hit int32 (H, W): number of the geom, -1 where nothing is, -2 - i for sphere i."""

    rgb: np.ndarray
    depth: np.ndarray
    hit: np.ndarray


class RayCamera:
    """A camera of the model, by name; fixed in the world.

    rolled: the picture is turned by 180 degrees, for cameras that were mounted upside down. look: how the scene looks
    otherwise; table: which geoms are the table, for that.
    Camera coordinates are x right, y down, z ahead; pixel centres are whole numbers: x = (u - cx) / fx * z.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        *,
        height: int,
        width: int,
        rolled: bool = False,
        far: float = 10.0,
        look: Appearance | None = None,
        table: Sequence[int] = (),
    ) -> None:
        look = look or Appearance()
        camera = model.camera(name)
        self._model, self._far = model, np.float32(far)
        self.focal = focal_length(model, name, height)
        axes = np.zeros(9)
        self._mujoco = load_mujoco()
        self._mujoco.mju_quat2Mat(axes, camera.quat)
        side = -1.0 if rolled else 1.0
        # MuJoCo's cameras look along -z with y up
        self._axes = axes.reshape(3, 3) * (side, -side, -1.0)
        self._position = np.array(camera.pos, np.float64) + look.shift
        columns = (np.arange(width) - (width - 1) / 2) / self.focal
        rows = (np.arange(height) - (height - 1) / 2) / self.focal
        across, down = np.meshgrid(columns, rows)
        ahead = np.stack([across, down, np.ones_like(across)], -1)
        length = np.linalg.norm(ahead, axis=-1, keepdims=True)
        self._rays = np.ascontiguousarray((ahead / length) @ self._axes.T).reshape(-1)
        self._unit = (ahead / length).astype(np.float32)
        self._across, self._down = across.astype(np.float32), down.astype(np.float32)
        self._cosine = (1 / length[..., 0]).astype(np.float32)
        self._above = (self._axes.T @ (np.array(look.light) / np.linalg.norm(look.light))).astype(np.float32)
        self._brightness = np.float32(look.brightness[0])
        self._colours = _colours(model)
        if look.table:
            self._colours[np.array(table, np.int64)] = look.table
        bodies = model.geom_bodyid
        self._still = (model.body_weldid[bodies] == 0) & (model.body_mocapid[model.body_rootid[bodies]] < 0)
        self._background: tuple[np.ndarray, np.ndarray] | None = None
        self._places = np.empty(0)

    def close(self) -> None:
        pass  # rays hold nothing

    def look(self, data: Any, spheres: Sequence[Sphere] = ()) -> Shot:
        """What the camera sees now. data: after `mj_forward`."""
        depth, hit = self._cast(data)
        for number, sphere in enumerate(spheres):
            self._put(sphere, -2 - number, depth, hit)
        table = np.concatenate([self._colours, np.array([s.colour for s in spheres[::-1]], np.float32).reshape(-1, 3)])
        table = np.concatenate([table, np.full((1, 3), _SKY, np.float32)])  # so that -1 is the sky, -2 the first sphere
        rgb = table[hit] * self._light(depth, hit)[..., None]
        return Shot((np.minimum(rgb, 1) * 255).astype(np.uint8), depth, hit)

    def _cast(self, data: Any) -> tuple[np.ndarray, np.ndarray]:
        """Depth float32 (H, W) and hit int32 (H, W). What never moves is met once and remembered until it does."""
        places = np.concatenate([data.geom_xpos[self._still], data.geom_xmat[self._still]], 1)
        if self._background is None or not np.array_equal(places, self._places):
            self._background, self._places = self._trace(data, moving=False), places
        distance, hit = self._trace(data, moving=True)
        behind, background = self._background
        farther = (hit < 0) | ((background >= 0) & (behind < distance))
        distance, hit = np.where(farther, behind, distance), np.where(farther, background, hit)
        depth = np.where(hit < 0, self._far, distance.astype(np.float32) * self._cosine)
        return np.minimum(depth, self._far), hit

    def _trace(self, data: Any, *, moving: bool) -> tuple[np.ndarray, np.ndarray]:
        """Along every ray, float64 (H, W) metres and int32 (H, W) geoms, or -1: of what moves, or of what does not."""
        shape, group = self._cosine.shape, self._model.geom_group
        distance, hit = np.empty(shape), np.empty(shape, np.int32)
        hidden = self._still if moving else ~self._still
        shown, group[hidden] = group.copy(), _HIDDEN
        try:
            self._mujoco.mj_multiRay(
                *(self._model, data, self._position, self._rays, _SHOWN, 1, -1),
                *(hit.reshape(-1), distance.reshape(-1), hit.size, self._mujoco.mjMAXVAL),
            )
        finally:
            group[:] = shown
        return distance, hit

    def _put(self, sphere: Sphere, number: int, depth: np.ndarray, hit: np.ndarray) -> None:
        """Draw a sphere where it is nearer than what is there."""
        centre = (self._axes.T @ (np.array(sphere.position) - self._position)).astype(np.float32)
        along = self._unit @ centre
        inside = along**2 - (centre @ centre - np.float32(sphere.radius) ** 2)
        near = (along - np.sqrt(np.maximum(inside, 0))) * self._cosine
        seen = (inside > 0) & (near > 0) & (near < depth)
        depth[seen], hit[seen] = near[seen], number

    def _light(self, depth: np.ndarray, hit: np.ndarray) -> np.ndarray:
        """How bright each pixel's surface is, float32 (H, W), from normals."""
        normals = self.normals(depth)
        from_above = np.maximum(normals @ self._above, 0)
        from_camera = np.abs(np.einsum("hwc,hwc->hw", normals, self._unit))
        light = _AMBIENT + _FROM_ABOVE * from_above + _FROM_CAMERA * from_camera
        return np.where(hit == -1, 1, light) * self._brightness

    def normals(self, depth: np.ndarray) -> np.ndarray:
        """Unit normals towards the camera, float32 (H, W, 3) in camera coordinates.

        On a plane 1 / depth is affine in the pixel, m . (x, y, 1) with m = normal / distance, so that its differences
        between neighbours give the normal exactly. Of the two neighbours the one that changes less counts: at an edge
        that is the one on the same surface.
        """
        inverse = 1 / depth
        across = _slope(inverse, 1) * np.float32(self.focal)
        down = _slope(inverse, 0) * np.float32(self.focal)
        ahead = inverse - across * self._across - down * self._down
        scale = -1 / np.sqrt(across**2 + down**2 + ahead**2)
        return np.stack([across * scale, down * scale, ahead * scale], -1)


def focal_length(model: Any, name: str, height: int) -> float:
    """In pixels, across and down alike, from the camera's vertical field of view."""
    return height / 2 / math.tan(math.radians(model.camera(name).fovy[0]) / 2)


def _slope(values: np.ndarray, axis: int) -> np.ndarray:
    """Differences to the next or the previous value along an axis, whichever is smaller."""
    steps = np.diff(values, axis=axis)
    first, last = np.take(steps, [0], axis), np.take(steps, [-1], axis)
    back, forth = np.concatenate([first, steps], axis), np.concatenate([steps, last], axis)
    return np.where(np.abs(back) < np.abs(forth), back, forth)


def _colours(model: Any) -> np.ndarray:
    """The colour of every geom, float32 (G, 3): its own or its material's, times its texture's mean."""
    colours = np.array(model.geom_rgba[:, :3], np.float32)
    for geom, material in enumerate(model.geom_matid):
        if material < 0:
            continue
        if tuple(model.geom_rgba[geom]) == _UNSET:
            colours[geom] = model.mat_rgba[material, :3]
        texture = model.mat_texid[material, load_mujoco().mjtTextureRole.mjTEXROLE_RGB]
        if texture >= 0:
            colours[geom] *= _mean_colour(model, texture)
    return colours


def _mean_colour(model: Any, texture: int) -> np.ndarray:
    channels = model.tex_nchannel[texture]
    start, size = model.tex_adr[texture], model.tex_height[texture] * model.tex_width[texture] * channels
    return model.tex_data[start : start + size].reshape(-1, channels)[:, :3].mean(0) / 255
