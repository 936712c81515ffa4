"""A dataset of the dot world and the run folder of a tiny untrained world, for what needs files and real models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.records import ActionSpec, Camera
from oneiros.run_folder import Origin
from oneiros.world.config import WorldConfig
from oneiros.world.model import World
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from tests.dot_world import SIZE, SPECS, moves, over, paid, places_of, real_episode

CAMERA = Camera("observation.images.front", SIZE, SIZE)
FPS = 10


def write_dataset(
    path: Path, kind: str = "keys", *, episodes: int = 10, length: int = 30, outcomes: bool = False
) -> Path:
    """outcomes: also what steps pay and which is the last, by the rules of `tests.dot_world`; no picture follows it."""
    spec = SPECS[kind]
    with DatasetWriter(path, fps=FPS, cameras=(CAMERA,), action_spec=spec, outcomes=outcomes) as writer:
        for seed in range(episodes):
            frames, actions = real_episode(length, spec, seed)
            places = places_of(frames)
            rewards, ends = paid(places).tolist(), over(places, moves(actions, spec)).tolist()
            with writer.episode(task="move the dot") as episode:
                for row, (frame, action) in enumerate(zip(frames.numpy(), actions.numpy(), strict=True)):
                    known = {"reward": rewards[row], "terminated": ends[row], "truncated": row == length - 1}
                    episode.add(images={CAMERA.name: frame}, action=action, **(known if outcomes else {}))
                    if outcomes and ends[row]:
                        break
    return path


def save_world(
    run: Path,
    data: Path | None = None,
    kind: str | None = "keys",
    *,
    stride: int = 1,
    held_out: tuple[int, ...] = (7, 9),
    **outcomes: Any,
) -> Path:
    """An untrained world of the dots with seeded weights; its config.json says what training on `data` would say.
    outcomes: fields of its config for rewards and ends."""
    origin = Origin(fingerprint=Dataset.open(data).fingerprint(), held_out=held_out) if data else None
    return _save(run, SPECS[kind] if kind else None, fps=FPS, stride=stride, origin=origin, **outcomes)


def save_world_for(run: Path, dataset: Dataset) -> Path:
    """An untrained world with a dataset's actions and speed."""
    return _save(run, dataset.action_spec, fps=dataset.fps, stride=1, origin=None)


def _save(
    run: Path, spec: ActionSpec | None, *, fps: float, stride: int, origin: Origin | None, **outcomes: Any
) -> Path:
    torch.manual_seed(0)
    tokenizer = Tokenizer(
        TokenizerConfig(height=SIZE, width=SIZE, codebook_size=16, code_dim=8, codec_width=8, codec_depth=1)
    )
    config = WorldConfig(
        action_spec=spec,
        frame_stride=stride,
        fps=fps / stride,
        dim=32,
        depth=1,
        head_dim=16,
        tokens_per_step=2,
        window=6,
        **outcomes,
    )
    World(config, tokenizer).save(run, data=origin)
    return run
