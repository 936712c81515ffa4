"""A world model as a Gymnasium environment: agents, planners and players step into the dream as into any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from oneiros.data.frames import depth_from_model, to_uint8
from oneiros.records import ActionSpec, Camera, Clip
from oneiros.run_folder import read_config, read_origin
from oneiros.sampling import Sampling

if TYPE_CHECKING:
    from oneiros.world.model import World

_SPREAD = 4.0  # standard deviations that a Box spans on each side of the mean where the env's bounds are unknown


@dataclass(frozen=True)
class Snapshot:
    """Where a dream was, random numbers included: restored, it goes on just as it did."""

    state: Any
    random: torch.Tensor
    steps: int
    newest: torch.Tensor


class Dream(gym.Env[np.ndarray, Any]):
    """A world as a Gymnasium environment: it dreams on from one of `starts`, as the player's actions decide.

    Observations are uint8 (H, W, 3). A world that learned from rewards and ends pays what the step is expected to pay,
    and ends by chance as often as it takes the real environment to end there (at temperature 0 where that is more
    likely than not), with the probability in info["end_probability"]; any other pays 0 and never ends. A dream is
    truncated after `max_steps` steps, where given. The action space follows the world's `ActionSpec`: discrete ->
    Discrete, keys -> MultiBinary, continuous -> Box (finite actions outside the box are taken as they are); a world
    trained without actions has Discrete(1). With a frame stride of k one step lasts k frames of the recording, a
    continuous action being repeated k times.

    starts: contexts of one sample each, frames (1, T, C, H, W) in [-1, 1]. `reset` draws one of them, or takes the one
    that options={"start": 3} names, or another clip, as options={"context": clip}.
    Two resets with the same seed, followed by the same actions, give the same dream.
    A world of colour and depth also gives info["depth"], float32 (H, W) in [-1, 1]; `depth` makes it metres, where
    `depth_camera` says how they are coded. environment: which the world learned from, such as doom:my_way_home.
    """

    can_think: ClassVar = True
    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 - Gymnasium's own convention

    def __init__(
        self,
        world: World,
        starts: Sequence[Clip],
        *,
        sampling: Sampling | None = None,
        max_steps: int | None = None,
        render_mode: str | None = "rgb_array",
        depth_camera: Camera | None = None,
        environment: str | None = None,
    ) -> None:
        if not starts:
            raise ValueError("a dream needs at least one start clip, got none")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}; a dream only has 'rgb_array'")
        if any(len(start.frames) != 1 for start in starts):
            raise ValueError(f"a start has one sample, got a batch of {max(len(start.frames) for start in starts)}")
        self.world, self.starts = world, tuple(starts)
        self.sampling = sampling or Sampling()
        self.max_steps, self.render_mode, self.depth_camera = max_steps, render_mode, depth_camera
        self.environment = environment
        self.fps = world.config.fps / world.tokenizer.temporal_stride
        self.metadata = {**self.metadata, "render_fps": max(1, round(self.fps))}
        height, width = starts[0].frames.shape[-2:]
        self.observation_space = spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.action_space = action_space_of(self.action_spec)
        self._generator = torch.Generator(world.device)
        self._state: Any = None
        self._steps = 0
        self._newest: torch.Tensor | None = None  # (C, H, W) in [-1, 1]

    @classmethod
    def from_run(
        cls,
        path: str | Path,
        *,
        data: str | Path | None = None,
        image: str | Path | None = None,
        codec: torch.nn.Module | None = None,
        device: str = "cpu",
        sampling: Sampling | None = None,
        max_steps: int | None = None,
        render_mode: str | None = "rgb_array",
    ) -> Dream:
        """The dream of a trained world's run folder.

        It starts from held-out episodes of the dataset `data`, or from the picture `image`, or else from the starts
        that training left in the run folder. codec: of your own, for a world that was made with one. Raises ValueError
        where one of them does not fit the world.
        """
        from oneiros.world.model import World
        from oneiros.world.starts import find_starts

        config = read_config(path, World.kind)
        world = World.load(path, device=device, codec=codec, config=config).prepare_for_inference()
        starts = find_starts(world, Path(path), data=data, image=image)
        origin = read_origin(path, config)
        return cls(
            world,
            [start.to(device) for start in starts],
            sampling=sampling,
            max_steps=max_steps,
            render_mode=render_mode,
            depth_camera=origin.depth_camera,
            environment=origin.environment,
        )

    def another(self) -> Dream:
        """A dream of its own, of the same world and starts."""
        return Dream(
            self.world,
            self.starts,
            sampling=self.sampling,
            depth_camera=self.depth_camera,
            environment=self.environment,
        )

    @property
    def action_spec(self) -> ActionSpec | None:
        """What the player can do; None for a world trained without actions."""
        return self.world.config.action_spec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        clip, info = (options or {}).get("context"), {}
        if clip is None:
            start = (options or {}).get("start")
            if start is None:
                start = int(self.np_random.integers(len(self.starts)))
            if not 0 <= start < len(self.starts):
                raise ValueError(f"start {start} does not exist; this dream has starts 0 to {len(self.starts) - 1}")
            clip, info = self.starts[start], {"start": start}
        self._state = self._begin(clip, int(self.np_random.integers(2**62)))
        self._steps, self._newest = 0, clip.frames[0, -1]
        return self._observe(), {**info, **self._depth()}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._state is None:
            raise ValueError("the dream has not begun; call reset() first")
        self._newest, reward, terminated, end_probability = self._advance(self._to_model(action))
        self._steps += 1
        info: dict[str, Any] = self._depth()
        if self.world.config.ends:
            info["end_probability"] = end_probability
        return self._observe(), reward, terminated, self._steps == self.max_steps, info

    def _begin(self, clip: Clip, seed: int) -> Any:
        """The state after a context, with the random numbers of a seed."""
        self._generator.manual_seed(seed)
        return self.world.init(clip)

    def _advance(self, action: torch.Tensor | None) -> tuple[torch.Tensor, float, bool, float]:
        """Step the state. Returns the newest frame (C, H, W), what the step paid, whether it ended the episode, and how
        probable that was."""
        self._state, frame = self.world.step(self._state, action, generator=self._generator, sampling=self.sampling)
        newest = frame[0] if frame.ndim == 4 else frame[0, -1]  # a video codec dreams several frames a step
        outcome = self.world.outcome(self._state, generator=self._generator, temperature=self.sampling.temperature)
        return newest, outcome.reward.item(), bool(outcome.terminated.item()), outcome.end_probability.item()

    def render(self) -> np.ndarray | None:
        """The newest frame, uint8 (H, W, 3)."""
        return self._observe() if self.render_mode else None

    def depth(self) -> np.ndarray | None:
        """The newest frame's depth, float32 (H, W) in metres; None where there is none, or none can tell its scale."""
        if self._newest is None or len(self._newest) < 4 or self.depth_camera is None:
            return None
        return depth_from_model(self._newest[3], self.depth_camera)

    def snapshot(self) -> Snapshot:
        """What `restore` goes back to, any number of times."""
        if self._newest is None:
            raise ValueError("the dream has not begun; call reset() first")
        return Snapshot(self._state.clone(), self._generator.get_state(), self._steps, self._newest)

    def restore(self, snapshot: Snapshot) -> None:
        self._state, self._steps, self._newest = snapshot.state.clone(), snapshot.steps, snapshot.newest
        self._generator.set_state(snapshot.random)

    def think(self) -> tuple[np.ndarray, dict[str, float] | None]:
        """The normalised entropy of each code of the newest frame, float32 (rows, columns) in [0, 1], and by its name
        the probability of each action, or of a continuous one the expected value; None without an action head. See
        `World.entropy` and `World.action_odds`. The dream goes on as if it had not been asked."""
        if self._state is None:
            raise ValueError("the dream has not begun; call reset() first")
        entropy = self.world.entropy(self._state.clone())[0].float().cpu().numpy()
        spec = self.action_spec
        if spec is None or self.world.action_head is None:
            return entropy, None
        _, odds = self.world.action_odds(self._state.clone())
        return entropy, dict(zip(spec.names, odds[0].tolist(), strict=False))

    def _observe(self) -> np.ndarray:
        if self._newest is None:
            raise ValueError("the dream has not begun; call reset() first")
        return to_uint8(self._newest).cpu().numpy()

    def _depth(self) -> dict[str, np.ndarray]:
        assert self._newest is not None
        return {"depth": self._newest[3].float().cpu().numpy()} if len(self._newest) == 4 else {}

    def _to_model(self, action: Any) -> torch.Tensor | None:
        """An action as a batch of one; whether it is one of the world's, the world itself checks."""
        spec = self.action_spec
        if spec is None:
            return None
        values = np.asarray(action)
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise ValueError(f"action {action!r} does not fit; {spec.kind} actions are finite numbers")
        return actions_for(self.world, values[None])


def actions_for(world: World, actions: np.ndarray) -> torch.Tensor | None:
    """Actions (B, ...) of the action space as the world takes them, a continuous one for each row of a step; None for a
    world without. Whether they are the world's is not checked."""
    spec = world.config.action_spec
    if spec is None:
        return None
    if spec.kind == "continuous":
        actions = np.tile(actions, world.config.frame_stride * world.tokenizer.temporal_stride)
    dtype = {"discrete": np.int64, "keys": np.bool_, "continuous": np.float32}[spec.kind]
    return torch.from_numpy(np.array(actions, dtype)).to(world.device)


def action_space_of(spec: ActionSpec | None) -> spaces.Space[Any]:
    """The Gymnasium space of actions; of a world without actions, the one of doing nothing."""
    if spec is None:
        return spaces.Discrete(1)
    if spec.kind == "discrete":
        return spaces.Discrete(spec.size)
    if spec.kind == "keys":
        return spaces.MultiBinary(spec.size)
    mean, std = np.array(spec.statistics, np.float32)
    low, high = (np.array(bound or [np.inf] * spec.size, np.float32) for bound in (spec.low, spec.high))
    low = np.where(np.isfinite(low), low, mean - _SPREAD * std)
    high = np.where(np.isfinite(high), high, mean + _SPREAD * std)
    return spaces.Box(np.minimum(low, high), np.maximum(low, high), dtype=np.float32)
