"""An episode with everything a policy saw, and what it imagined at each decision.

Legend: T steps, D decisions, F imagined frames, k steps between two of them, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from oneiros.data.frames import to_uint8
from oneiros.envs.pixel_env import PixelEnv, succeeded
from oneiros.eval.observing import Images, colour_of
from oneiros.eval.rollouts import Learned, begin_at, seed_of, words_of


@dataclass(frozen=True)
class Film:
    """seen: uint8 (T + 1, H, W, 3), before each step and after the last. decisions: (D,) steps at which the policy
    decided. imagined: uint8 (D, F, H, W, 3), what it expected then for k, 2k, ... Fk steps later; F is 0 for a policy
    that imagines nothing. stride: k. success: as in `Outcome`.
    """

    task: str
    start: int
    seen: np.ndarray
    decisions: np.ndarray
    imagined: np.ndarray
    stride: int
    fps: float
    success: bool | None

    def happened(self, decision: int) -> list[np.ndarray | None]:
        """What was seen at the moments that the decision imagined; None after the episode's end."""
        now, count = int(self.decisions[decision]), self.imagined.shape[1]
        rows = [now + (index + 1) * self.stride for index in range(count)]
        return [self.seen[row] if row < len(self.seen) else None for row in rows]


def film(
    actor: Learned,
    env: PixelEnv,
    *,
    task: str | None,
    start: int,
    max_steps: int,
    seed: int = 0,
    ended: Callable[[int], None] = lambda count: None,
) -> Film:
    """Play one episode as `play` does, looking at every step."""
    observation: Images = begin_at(env, task, start)
    words = words_of(env, task)
    actor.begin([seed_of(seed, task, start)], [words])
    seen, decisions, imagined = [colour_of(observation, env, actor.sight)], [], []
    success: bool | None = None
    for index in range(max_steps):
        decides = actor.plans
        action = actor.act([observation], [env])[0]
        if decides:
            decisions.append(index)
            imagined.append(_imagined(actor))
        observation, _, terminated, truncated, info = env.step(action)
        seen.append(colour_of(observation, env, actor.sight))
        if (told := succeeded(info)) is not None:
            success = told or bool(success)
        if success or terminated or truncated:
            break
        ended(0)
    ended(1)
    return Film(
        task=words or task or "",
        start=start,
        seen=np.stack(seen),
        decisions=np.array(decisions),
        imagined=np.stack(imagined),
        stride=_stride(actor.model),
        fps=actor.sight.fps,
        success=success,
    )


def _imagined(actor: Learned) -> np.ndarray:
    """uint8 (F, H, W, 3)."""
    frames = actor.model.imagined_frames(actor.carry)
    if frames is None:
        return np.zeros((0, actor.sight.height, actor.sight.width, 3), np.uint8)
    return to_uint8(frames)[0].cpu().numpy()


def _stride(model: Any) -> int:
    return 1 if model.world is None else int(model.world.config.frame_stride)
