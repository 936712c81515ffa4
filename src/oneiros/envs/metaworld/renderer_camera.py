"""MuJoCo's own renderer with the face of `RayCamera`, for where OpenGL can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from oneiros.envs.metaworld.libraries import load_mujoco
from oneiros.envs.metaworld.ray_camera import Shot, Sphere, focal_length

REMEDY = "install libosmesa6 (apt-get install libosmesa6) and set MUJOCO_GL=osmesa"

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
mujoco.Renderer(model, 8, 8).render()
print("drawn")
"""


@cache
def opengl_works() -> bool:
    """Whether MuJoCo can draw here. Asked in a process of its own: a driver that fails may end the process."""
    answer = subprocess.run([sys.executable, "-P", "-c", _PROBE], capture_output=True, text=True, check=False)
    return answer.stdout.strip() == "drawn"


def is_wanted() -> bool:
    """Whether the user has chosen an OpenGL for MuJoCo."""
    return os.environ.get("MUJOCO_GL", "").strip().lower() not in ("", "disable", "disabled", "off", "false", "0")


class RendererCamera:
    """See `RayCamera`. Textures and lights are the scene's; shadows and smoothed edges are off, which is faster.

    Raises ValueError where OpenGL does not work, naming the remedy.
    """

    def __init__(
        self, model: Any, name: str, *, height: int, width: int, rolled: bool = False, far: float = 10.0
    ) -> None:
        if not opengl_works():
            raise ValueError(f"MuJoCo's renderer does not work here; {REMEDY}, or use --camera ray")
        mujoco = load_mujoco()
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        frame = model.vis.global_
        frame.offheight, frame.offwidth = max(frame.offheight, height), max(frame.offwidth, width)
        self.focal = focal_length(model, name, height)
        self._renderer = mujoco.Renderer(model, height, width)
        self._view = mujoco.MjvOption()
        self._view.sitegroup[:] = 0
        self._name, self._far = name, np.float32(far)
        self._turn = slice(None, None, -1 if rolled else 1)

    def look(self, data: Any, spheres: Sequence[Sphere] = ()) -> Shot:
        """What the camera sees now. data: after `mj_forward`."""
        renderer = self._renderer
        renderer.update_scene(data, camera=self._name, scene_option=self._view)
        for number, sphere in enumerate(spheres):
            _add(renderer.scene, sphere, -2 - number)
        rgb = self._upright(renderer.render())
        renderer.enable_depth_rendering()
        depth = self._upright(renderer.render())
        renderer.enable_segmentation_rendering()
        hit = self._upright(renderer.render()[..., 0])
        renderer.disable_segmentation_rendering()
        return Shot(rgb, np.where(hit == -1, self._far, np.minimum(depth, self._far)), hit.astype(np.int32))

    def close(self) -> None:
        self._renderer.close()

    def _upright(self, image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(image[self._turn, self._turn])


def _add(scene: Any, sphere: Sphere, number: int) -> None:
    """One more geom in the scene as drawn; `number` is what the segmentation calls it."""
    mujoco, geom = load_mujoco(), scene.geoms[scene.ngeom]
    mujoco.mjv_initGeom(
        geom,
        mujoco.mjtGeom.mjGEOM_SPHERE,
        np.full(3, sphere.radius),
        np.array(sphere.position),
        np.eye(3).ravel(),
        np.array([*sphere.colour, 1], np.float32),
    )
    geom.segid, geom.objid = scene.ngeom, number
    scene.ngeom += 1
