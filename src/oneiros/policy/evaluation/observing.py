"""What a policy sees of an environment: pictures as its training saw those of the dataset, states as they are.

Legend: B environments, C channels (3 RGB, 4 RGB + depth), H x W pixels of the model's frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oneiros.agreement import Controls, check_agreement
from oneiros.data.depth import codes_to_depth, depth_to_codes
from oneiros.data.frames import codes_to_model, resize, resize_nearest, to_model
from oneiros.data.video import as_stored
from oneiros.envs.look import Appearance
from oneiros.envs.make import make_env
from oneiros.envs.pixel_env import PixelEnv
from oneiros.records import ActionSpec, Camera, Observation

Images = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ObservationSpec:
    """How a model looks at an environment: as it saw the recording that it learned from.

    height, width, channels: of the model's frames. rendered: height and width of the environment's pictures, those of
    the recording. fps: steps a second of the recording. camera: the colour camera's name, None = the first.
    depth_camera: how the recording coded metres, None = as the environment does. metres: whether depth in metres is
    given beside the frames. state_size: numbers of proprioception, 0 = none. action_spec: of the model. instruction:
    what to tell the model where the environment does not say what is to be done. lossless: whether the recording kept
    colours as they were. look: how the environment looks otherwise than there.
    """

    height: int
    width: int
    channels: int
    rendered: tuple[int, int]
    fps: float
    action_spec: ActionSpec
    camera: str | None = None
    depth_camera: Camera | None = None
    metres: bool = False
    state_size: int = 0
    instruction: str = ""
    lossless: bool = False
    look: Appearance | None = None

    @property
    def depth(self) -> bool:
        return self.channels == 4 or self.metres


def open_env(name: str, spec: ObservationSpec) -> PixelEnv:
    """The environment as large and as fast as what the model learned from.

    Raises ValueError where it has other actions, no such camera, no state though one is needed, or cannot run as fast.
    """
    height, width = spec.rendered
    env = make_env(name, height=height, width=width, depth=spec.depth, fps=spec.fps, look=spec.look)
    try:
        _check(name, env, spec)
    except ValueError:
        env.close()
        raise
    return env


def _check(name: str, env: PixelEnv, spec: ObservationSpec) -> None:
    policy = Controls("the policy", spec.action_spec, spec.fps)
    check_agreement(Controls(name, env.action_spec, env.fps), policy)
    if spec.state_size and len(env.state_names) != spec.state_size:
        has = f"{len(env.state_names)} ({', '.join(env.state_names)})" if env.state_names else "none"
        raise ValueError(f"{name} has {has} numbers of state; the policy was trained with {spec.state_size}")
    cameras = [camera.name for camera in env.cameras if camera.kind == "rgb"]
    if spec.camera is not None and spec.camera not in cameras:
        raise ValueError(f"{name} has the cameras {', '.join(cameras)}; the policy was trained on {spec.camera}")


def colour_of(observation: Images, env: PixelEnv, spec: ObservationSpec) -> np.ndarray:
    """uint8 (H, W, 3) of the model's size, its colours as a recording keeps them."""
    name = spec.camera or next(camera.name for camera in env.cameras if camera.kind == "rgb")
    seen = np.asarray(observation[name])
    return resize((seen if spec.lossless else as_stored(seen))[None], spec.height, spec.width)[0]


def frame_of(observation: Images, env: PixelEnv, spec: ObservationSpec) -> tuple[Tensor, Tensor | None]:
    """Frames float32 (C, H, W) in [-1, 1], and metres (H, W) where the model takes them.

    Training saw frames through a recording: depth in 12-bit codes, and unless it was lossless chroma of half the
    resolution. So does this.
    """
    colour = to_model(colour_of(observation, env, spec).copy())
    if not spec.depth:
        return colour, None
    camera = next(camera for camera in env.cameras if camera.kind == "depth")
    coded = spec.depth_camera or camera
    codes = depth_to_codes(np.asarray(observation[camera.name]), coded)
    codes = resize_nearest(codes[None], spec.height, spec.width)[0]
    frame = torch.cat([colour, codes_to_model(codes)[None]]) if spec.channels == 4 else colour
    return frame, torch.from_numpy(codes_to_depth(codes, coded)) if spec.metres else None


def observe(
    observations: Sequence[Images], envs: Sequence[PixelEnv], tasks: Sequence[str], spec: ObservationSpec
) -> Observation:
    """What B environments show, as one record."""
    frames, metres = zip(*(frame_of(*pair, spec) for pair in zip(observations, envs, strict=True)), strict=True)
    return Observation(
        frames=torch.stack(frames),
        state=state_of(observations, spec),
        task=tuple(tasks),
        depth=torch.stack(metres) if spec.metres else None,
    )


def state_of(observations: Sequence[Images], spec: ObservationSpec) -> Tensor | None:
    """(B, S) in the environment's own units."""
    if not spec.state_size:
        return None
    return torch.from_numpy(np.stack([np.asarray(one["observation.state"], np.float32) for one in observations]))
