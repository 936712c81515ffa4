"""Meta-World's robot arm at a table as a Gymnasium environment, seen by a camera that needs no OpenGL."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from gymnasium import spaces

from oneiros.envs.look import Appearance
from oneiros.envs.metaworld.libraries import load_metaworld
from oneiros.envs.metaworld.ray_camera import RayCamera, Shot, Sphere
from oneiros.envs.metaworld.renderer_camera import RendererCamera, is_wanted, opengl_works
from oneiros.envs.metaworld.tasks import LABELS, instruction, label, task_names
from oneiros.envs.pixel_env import (
    CameraKind,
    PixelEnv,
    check_frame_skip,
    check_size,
    make_cameras,
    observation_space,
)
from oneiros.records import ActionSpec, Camera

STEPS_PER_SECOND = 80
STARTS = 50
MAX_SIMULATED_STEPS = 500
_EVALUATION_SEED = 20_240
_VIEW = "corner4"
_DEPTH = (0.2, 6.0)
_GOALS = 8  # more than any task marks
_SCENES_KEPT = 10  # in memory, of some 50 MB each; loading one takes 0.1 s
_SMALLEST_GOAL = 0.015  # metres of radius, so that a goal of 5 mm still covers a pixel or two


class MetaWorldEnv(PixelEnv):
    """One task of Meta-World or several in turns: `frame_skip` steps of its simulation (of 1/80 s) a step.

    Actions: continuous, move_x, move_y, move_z, grip in [-1, 1]; held for the whole step.
    Observations, by name:
        observation.images.corner4  uint8 (height, width, 3), camera corner4 turned upright
        observation.depth.corner4   float32 (height, width), metres, with depth=True
        observation.labels.corner4  uint16 (height, width), indices of `tasks.LABELS`, with labels=True
        observation.state           float32 (4,): the gripper's x, y, z in metres and its opening, 0 to 1
    camera: `ray` needs no OpenGL; `renderer` is MuJoCo's own; `auto` is that one where MUJOCO_GL names an OpenGL that
    works. `camera_kind` says which it became. Goals are shown as spheres where Meta-World marks them by a site. look:
    how the scene looks otherwise, of rays alone.
    A step that reaches success terminates the episode; 500 steps of the simulation truncate it.

    `reset(seed=s)` starts from a state that follows from s alone; `reset(options={"start": i})` from the i-th of 50
    fixed states for evaluation, which no seed gives. options={"task": name} chooses one of several tasks; without it
    they take turns.
    """

    action_spec = ActionSpec("continuous", ("move_x", "move_y", "move_z", "grip"), low=(-1.0,) * 4, high=(1.0,) * 4)
    state_names = ("gripper_x", "gripper_y", "gripper_z", "gripper_opening")
    has_expert = True

    def __init__(
        self,
        spec: str,
        *,
        height: int = 64,
        width: int = 64,
        frame_skip: int = 1,
        seed: int | None = None,
        depth: bool = False,
        labels: bool = False,
        camera: CameraKind = "auto",
        look: Appearance | None = None,
    ) -> None:
        check_frame_skip(frame_skip, "step of the simulation")
        check_size(height, width)
        self.tasks = task_names(spec)
        self.frame_skip = frame_skip
        self.fps = max(1, round(STEPS_PER_SECOND / frame_skip))
        self.metadata = {**self.metadata, "render_fps": self.fps}
        self.camera_kind = camera
        if camera == "auto":
            self.camera_kind = "renderer" if is_wanted() and opengl_works() else "ray"
        if look is not None and self.camera_kind != "ray":
            raise ValueError(f"a look is of the camera of rays (--camera ray); this is {self.camera_kind}")
        self._size, self._next, self._appearance = (height, width), 0, look
        self._scenes: dict[str, tuple[Any, RayCamera | RendererCamera]] = {}
        self._enter(self.tasks[0])
        self.cameras = make_cameras(
            _VIEW,
            size=(height, width),
            focal=(self._eye.focal, self._eye.focal),
            depth=_DEPTH if depth else None,
            classes=LABELS if labels else (),
        )
        self.action_space = spaces.Box(-1, 1, (4,), np.float32)
        self.observation_space = observation_space(self.cameras, self.state_names)
        self._images: dict[str, np.ndarray] = {}
        super().reset(seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        chosen = options or {}
        self._enter(self._choose(chosen.get("task")))
        start = chosen.get("start")
        if start is not None and not 0 <= start < STARTS:
            raise ValueError(f"start {start} of {self._task}: there are {STARTS} fixed states, 0 to {STARTS - 1}")
        self._scene.set_task(_fixed_starts(self._task)[start or 0])
        if start is None:
            self._scene.seed(int(self.np_random.integers(2**31)))
            self._scene.seeded_rand_vec, self._scene._freeze_rand_vec = True, False
        self._vector, _ = self._scene.reset()
        self._expert = load_metaworld("metaworld.policies").ENV_POLICY_MAP[self._task]()
        self._look()
        return self._observation(), {"success": False, "task": self._task}

    def step(
        self, action: Any, observe: bool = True
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """observe=False draws nothing: the images are those of the previous observation, the state is the new one."""
        move = np.asarray(action, np.float32)
        if move.shape != (4,) or not np.isfinite(move).all():
            raise ValueError(f"an action is 4 finite numbers ({', '.join(self.action_spec.names)}), got {action}")
        move, total, success, truncated = move.clip(-1, 1), 0.0, False, False
        for _ in range(self.frame_skip):
            self._vector, reward, _, truncated, info = self._scene.step(move)
            total += float(reward)
            success = bool(info["success"])
            if success or truncated:
                break
        if observe:
            self._look()
        return self._observation(), total, success, bool(truncated), {"success": success, "task": self._task}

    def expert_action(self) -> np.ndarray:
        """What Meta-World's scripted expert, who knows the goal, would do now: float32 (4,) in [-1, 1]."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.clip(self._expert.get_action(self._vector), -1, 1).astype(np.float32)

    def render(self) -> np.ndarray:
        """The newest frame, uint8 (height, width, 3)."""
        return self._images[self.cameras[0].name]

    def close(self) -> None:
        for task in list(self._scenes):
            self._leave(task)

    def _choose(self, task: str | None) -> str:
        if task is None:
            task = self.tasks[self._next % len(self.tasks)]
            self._next += 1
        if task not in self.tasks:
            raise ValueError(f"task {task!r} is none of this environment's: {', '.join(self.tasks)}")
        return task

    def _enter(self, task: str) -> None:
        """Make a task the current one."""
        if task not in self._scenes:
            if len(self._scenes) == _SCENES_KEPT:
                self._leave(next(iter(self._scenes)))
            scene, (height, width) = _quiet_scene(task), self._size
            options = {"height": height, "width": width, "rolled": True, "far": _DEPTH[1]}
            if self.camera_kind == "ray":
                bodies = [label(scene.model.body(body).name) for body in scene.model.geom_bodyid]
                table = [geom for geom, is_of in enumerate(bodies) if is_of == LABELS.index("Table")]
                eye = RayCamera(scene.model, _VIEW, **options, look=self._appearance, table=table)
            else:
                eye = RendererCamera(scene.model, _VIEW, **options)
            self._scenes[task] = scene, eye
        self._scene, self._eye = self._scenes[task]
        self._task, self.task = task, instruction(task)
        model = self._scene.model
        geoms = [label(model.body(body).name) for body in model.geom_bodyid]
        goals, nothing = [LABELS.index("Goal")] * _GOALS, LABELS.index("Background")
        self._label = np.array([*geoms, *goals, nothing], np.uint16)  # nothing is hit -1, goals are -2 and below

    def _leave(self, task: str) -> None:
        scene, eye = self._scenes.pop(task)
        eye.close()
        scene.close()

    def _look(self) -> None:
        shot = self._eye.look(self._scene.data, self._goals())
        self._images = {camera.name: self._image(camera, shot) for camera in self.cameras}

    def _goals(self) -> list[Sphere]:
        """Where the task marks its goal. The sites themselves are not always moved there."""
        sites = [(self._scene.model.site(name), position) for name, position in self._scene._target_site_config]
        return [
            Sphere(tuple(position), max(float(site.size[0]), _SMALLEST_GOAL), tuple(site.rgba[:3]))
            for site, position in sites
        ]

    def _image(self, camera: Camera, shot: Shot) -> np.ndarray:
        if camera.kind == "rgb":
            return shot.rgb
        return shot.depth if camera.kind == "depth" else self._label[shot.hit]

    def _observation(self) -> dict[str, np.ndarray]:
        return {**self._images, "observation.state": self._vector[:4].astype(np.float32)}


@cache
def _fixed_starts(task: str) -> list[Any]:
    """Meta-World's own benchmark of a task with a fixed seed: 50 initial states and goals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_metaworld().MT1(task, seed=_EVALUATION_SEED).train_tasks


def _quiet_scene(task: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_metaworld("metaworld.env_dict").ALL_V3_ENVIRONMENTS[task]()
