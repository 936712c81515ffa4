"""The same start, another action: does the dream go where the environment would have gone?

The environment is reset to one start again and again, and each time another action is held. The dream does the same
from the same frames. For every dreamed frame the most similar of the environment's outcomes is looked up; it should be
that of the action which was dreamed.

Legend: S starts, A actions tried, T context frames, H dreamed frames, k frame stride.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from oneiros.console import Track, silent
from oneiros.data.frames import depth_to_model, to_model, to_uint8
from oneiros.envs.actions import action_text
from oneiros.envs.explore import StickyRandom
from oneiros.records import ActionSpec, Clip
from oneiros.world import metrics
from oneiros.world.rollout import begin, roll

if TYPE_CHECKING:
    from oneiros.envs.pixel_env import PixelEnv
    from oneiros.world.model import World

_MOST_ACTIONS = 12
_STARTS_AT_ONCE = 8
_LONGEST_WALK = 30  # random steps before a context begins, so that starts differ


@dataclass(frozen=True)
class CounterfactualConfig:
    """starts: how many. context: frames given. horizon: how long each action is held, in dreamed frames."""

    starts: int = 24
    context: int = 8
    horizon: int = 8
    seed: int = 0


@dataclass(frozen=True)
class CounterfactualFrames:
    """The first start, for a picture. start: uint8 (h, w, 3). real, dreamed: uint8 (A, h, w, 3) after the last step."""

    start: Tensor
    real: Tensor
    dreamed: Tensor
    actions: tuple[str, ...]


@dataclass(frozen=True)
class _Start:
    """context: (1, T, C, h, w) with its actions. real: uint8 (A, H, h, w, 3)."""

    context: Clip
    real: Tensor


def measure_counterfactual(
    world: World, env: PixelEnv, *, config: CounterfactualConfig | None = None, track: Track = silent
) -> tuple[dict[str, Any], CounterfactualFrames]:
    """Accuracy by horizon of telling the action from the dreamed outcome, and the dream's PSNR against the environment.

    Raises ValueError for an env with other actions than the world's, or one that a seed does not bring back to the same
    start, or whose episodes are too short.
    """
    config, spec = config or CounterfactualConfig(), check_actions(world, env)
    actions = tried_actions(spec)
    starts = _find_starts(world, env, actions, config, track)
    dreamed, real = _dream(world, starts, actions, config, track), torch.stack([start.real for start in starts])
    texts = tuple(action_text(action, spec) for action in actions)
    accuracy, counted = outcome_accuracy(dreamed, real)
    summary = {
        "starts": len(starts),
        "actions": list(texts),
        "chance": 1 / len(actions),
        "accuracy": accuracy,
        "outcomes": counted,
        "psnr": metrics.psnr(dreamed, real).mean((0, 1)).tolist(),
    }
    shown = CounterfactualFrames(
        to_uint8(starts[0].context.frames[0, -1]).cpu(), real[0, :, -1], dreamed[0, :, -1], texts
    )
    return summary, shown


def check_actions(world: World, env: PixelEnv) -> ActionSpec:
    """The actions of both. ValueError where they are not the same, or there are none."""
    spec = world.config.action_spec
    if spec is None or not spec.matches(env.action_spec):
        names = "none" if spec is None else ", ".join(spec.names)
        raise ValueError(f"the env's actions are {', '.join(env.action_spec.names)}; the world knows {names}")
    return spec


def _dream(
    world: World, starts: list[_Start], actions: list[np.ndarray], config: CounterfactualConfig, track: Track
) -> Tensor:
    """What each start becomes in the dream with each action held: uint8 (S, A, H, h, w, 3)."""
    held = torch.from_numpy(np.stack(actions))
    if held.is_floating_point():
        held = held.repeat(1, world.config.frame_stride)
    script = held[:, None].expand(-1, config.horizon, *held.shape[1:])
    advance = track("dreaming other actions", len(starts) * len(actions) * config.horizon)
    dreams = []
    for group in (starts[i : i + _STARTS_AT_ONCE] for i in range(0, len(starts), _STARTS_AT_ONCE)):
        state = begin(world, _repeated([start.context for start in group], len(actions)))
        scripts = script.repeat(len(group), *[1] * (script.ndim - 1))
        frames, _ = roll(world, state, scripts, num_frames=config.horizon, seed=config.seed, advance=advance)
        dreams.append(frames.unflatten(0, (len(group), len(actions))))
    return torch.cat(dreams)


def outcome_accuracy(dreamed: Tensor, real: Tensor) -> tuple[list[float | None], list[int]]:
    """How often the nearest real outcome is that of the dreamed action, by horizon; and over how many outcomes.

    dreamed, real: uint8 (S, A, H, h, w, 3). Outcomes that another action shares exactly (a key without effect, a wall)
    tell nothing and are not counted; None where none is left.
    """
    right, counted = zip(*(_told_apart(*start) for start in zip(dreamed, real, strict=True)), strict=True)
    rights, totals = (torch.stack(parts).sum((0, 1)).tolist() for parts in (right, counted))
    return [r / n if n else None for r, n in zip(rights, totals, strict=True)], totals


def _told_apart(dreamed: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """One start, uint8 (A, H, h, w, 3) -> bool (A, H): whether the nearest outcome is the right one, and counts."""
    difference = dreamed.flatten(2).float()[:, None] - real.flatten(2).float()[None]
    nearest = difference.square().mean(-1).argmin(1)  # over the real outcomes
    alike = (real[:, None] == real[None]).flatten(3).all(-1).sum(1)  # 1 = only itself
    counted = alike == 1
    return (nearest == torch.arange(len(real))[:, None]) & counted, counted


def tried_actions(spec: ActionSpec) -> list[np.ndarray]:
    """Actions to try: each choice; no key and each key; each dimension at its mean -1 and +1 standard deviation."""
    if spec.kind == "discrete":
        return [np.array(index) for index in range(min(spec.size, _MOST_ACTIONS))]
    if spec.kind == "keys":
        return [np.zeros(spec.size, bool), *np.eye(spec.size, dtype=bool)[: _MOST_ACTIONS - 1]]
    mean, std = np.array(spec.statistics, np.float32)
    steps = np.diag(std)[: _MOST_ACTIONS // 2]
    return [mean + sign * step for step in steps for sign in (-1, 1)]


def _find_starts(
    world: World, env: PixelEnv, actions: list[np.ndarray], config: CounterfactualConfig, track: Track
) -> list[_Start]:
    starts: list[_Start] = []
    advance = track("the same starts in the env", config.starts)
    for attempt in range(5 * config.starts):
        start = _start(world, env, actions, config, config.seed + attempt)
        if start is not None:
            starts.append(start)
            advance(1)
        if len(starts) == config.starts:
            return starts
    if not starts:
        raise ValueError("every episode of the env ended before all actions could be tried; use a shorter horizon")
    return starts


def _start(
    world: World, env: PixelEnv, actions: list[np.ndarray], config: CounterfactualConfig, seed: int
) -> _Start | None:
    """One start and what each action leads to; None where an episode ends too early."""
    stride, spec = world.config.frame_stride, env.action_spec
    rng, policy = np.random.default_rng(seed), StickyRandom()
    length = int(rng.integers(_LONGEST_WALK + 1)) + (config.context - 1) * stride
    walk = _play(env, seed, lambda observation, _: policy(observation, spec, rng), length)
    if walk is None:
        return None
    outcomes = []
    for action in actions:
        branch = _play(
            env,
            seed,
            lambda _, t, action=action: walk.actions[t] if t < length else action,
            length + config.horizon * stride,
        )
        if branch is None:
            return None
        if not np.array_equal(branch.pictures[length], walk.pictures[length]):
            raise ValueError("the env does not come back to the same start for the same seed and actions")
        outcomes.append(np.stack(branch.pictures[length + stride :: stride]))
    first = length - (config.context - 1) * stride
    done = spec.join(np.stack(walk.actions)[first:length], stride)
    frames = torch.stack([_to_model(walk.observations[t], env) for t in range(first, length + 1, stride)])
    context = Clip(frames[None], torch.from_numpy(done)[None], torch.ones(1, config.context, dtype=torch.bool))
    return _Start(context, torch.from_numpy(np.stack(outcomes)))


@dataclass(frozen=True)
class _Walk:
    observations: list[dict[str, np.ndarray]]
    pictures: list[np.ndarray]
    actions: list[np.ndarray]


def _play(env: PixelEnv, seed: int, policy: Callable[[dict[str, np.ndarray], int], Any], length: int) -> _Walk | None:
    """`length` steps from the start of that seed; None where the episode ends before."""
    observation, _ = env.reset(seed=seed)
    walk = _Walk([observation], [env.render().copy()], [])
    for t in range(length):
        action = np.asarray(policy(observation, t))
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            return None
        walk.observations.append(observation)
        walk.pictures.append(env.render().copy())
        walk.actions.append(action)
    return walk


def _to_model(observation: dict[str, np.ndarray], env: PixelEnv) -> Tensor:
    """(C, h, w) in [-1, 1]: colour, and depth where the env has it."""
    by_kind = {camera.kind: camera for camera in reversed(env.cameras)}
    colour = to_model(observation[by_kind["rgb"].name].copy())
    if "depth" not in by_kind:
        return colour
    camera = by_kind["depth"]
    return torch.cat([colour, depth_to_model(observation[camera.name], camera)[None]])


def _repeated(contexts: list[Clip], times: int) -> Clip:
    """Clips of one sample as one batch, each `times` in a row."""
    actions = [context.actions for context in contexts if context.actions is not None]
    frames, done, valid = (
        torch.cat(tensors).repeat_interleave(times, 0)
        for tensors in ([c.frames for c in contexts], actions, [c.valid for c in contexts])
    )
    return Clip(frames, done, valid)
