"""States of worlds whose dreams begin one by one, or that watch real frames instead of dreaming.

Legend: B batch, T frames, N codes per frame, D width, P x P cells of the grid that features are pooled to.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from oneiros.records import CodeClip
from oneiros.world.dream import actions_for
from oneiros.world.model import World
from oneiros.world.state import WorldState

POOL = 4  # cells on a side: where something stands must remain to be seen


def check_steps_one_by_one(world: World) -> None:
    """Raises ValueError for a world whose codec makes or sees several frames at once."""
    if world.tokenizer.temporal_stride > 1 or world.tokenizer.lookback:
        raise ValueError("agents need a world that takes and makes single frames; this one has a codec for videos")


def check_learns(world: World, run: Path) -> None:
    """Raises ValueError for a world in which there is nothing to earn, or nothing to do."""
    check_steps_one_by_one(world)
    if world.config.action_spec is None:
        raise ValueError(f"{run} was trained without actions: there is nothing that an agent could do in it")
    if not (world.config.pays or world.config.ends):
        raise ValueError(
            f"{run} was trained without rewards and ends: there is nothing to learn from in it; record them, as "
            "`oneiros record` does, and train a world on those"
        )


@torch.no_grad()
def begin(world: World, clip: CodeClip, *, time: int) -> WorldState:
    """The state after a clip of T codes, the newest of which is frame `time` of the dreams that it joins."""
    conditions = world.action_embedding(clip.actions, clip.codes.shape[1], len(clip.codes))
    lookback = world.config.window
    state = WorldState.after(world.dynamics, clip.codes, conditions, lookback=lookback, time=time)
    missing = lookback - state.codes.shape[1]
    earlier = state.codes[:, :1].expand(-1, missing, -1)  # as many codes as the others have; nobody looks at these
    return replace(state, codes=torch.cat([earlier, state.codes], 1))


@torch.no_grad()
def observe(world: World, state: WorldState, actions: Tensor | None, frames: Tensor) -> WorldState:
    """The state after real frames (B, C, H, W) in [-1, 1] that `actions` led into. Consumes `state`."""
    codes = world.tokenizer.encode(frames[:, None].to(world.device))[:, 0]
    null = world.action_embedding.null.expand(len(frames), -1)
    return state.observed(codes, null if actions is None else world.action_embedding.vectors(actions.to(world.device)))


@torch.no_grad()
def pooled(world: World, state: WorldState) -> tuple[WorldState, np.ndarray]:
    """The state, its pending step flushed, and its newest frame's hidden features float32 (B, P * P * D), means over
    parts of the picture, row by row."""
    state, features = world.features(state)
    grid = features.float().transpose(1, 2).unflatten(2, world.tokenizer.grid)
    cells = F.adaptive_avg_pool2d(grid, pooled_grid(world)).flatten(2).transpose(1, 2)
    return state, cells.flatten(1).cpu().numpy()


def pooled_grid(world: World) -> tuple[int, int]:
    """Rows and columns of the cells that features are pooled to."""
    rows, columns = world.tokenizer.grid
    return min(POOL, rows), min(POOL, columns)


def to_model(world: World, actions: np.ndarray) -> Tensor | None:
    """Actions (B, ...) of the action space as the world takes them. Raises ValueError where they do not fit."""
    given, spec = actions_for(world, actions), world.config.action_spec
    if given is not None and spec is not None:
        spec.check(given, "B", per_step=world.actions_per_step)
    return given
