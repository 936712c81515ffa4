"""From demonstrations straight to actions: the baseline that a policy with a world is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneiros.console import say
from oneiros.data.augment import augment
from oneiros.data.episodes.clips import EpisodeArrays, frames_of, spread
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import check_resumed, decoded_frames, origin_of
from oneiros.policy.carry import observed_rows
from oneiros.policy.cloning import Cloning, CloningConfig
from oneiros.policy.settings import CloningSettings
from oneiros.policy.training.moments import Moments, acted, read_demonstrations
from oneiros.policy.training.sentences import sentence_embeddings
from oneiros.records import PolicyBatch
from oneiros.run_folder import Origin, read_config
from oneiros.train.fit import FitResult
from oneiros.train.recipe import Recipe, train
from oneiros.train.settings import shared
from oneiros.train.warm_start import copy_weights

__all__ = ["CloningSettings", "prepare", "run"]

_MEASURED = 32  # moments, the same each time


def run(settings: CloningSettings) -> FitResult:
    """Train behaviour cloning on all readable episodes of a dataset, into the run folder `settings.out`.

    Raises ValueError or OSError, in one line, for what is wrong with the dataset, the settings or a run folder.
    """
    return train(settings, prepare)


def prepare(settings: CloningSettings) -> Recipe:
    """The policy of the settings, and the moments that it learns from."""
    data = _read(settings)
    model = _make_model(settings, data)
    looked_at = data.batch(spread(_MEASURED, len(data.moments)), None)

    def make_batch(indices: Sequence[int], seeds: Tensor) -> PolicyBatch:
        batch = data.batch(indices, seeds)
        if not settings.augment:
            return batch
        assert batch.frames is not None
        assert batch.seeds is not None
        return replace(batch, frames=augment(batch.frames, batch.seeds))

    def measure(step: int, picture: Path) -> dict[str, float]:
        return {"sampled/action_error": float(model(looked_at.to(model.device)).parts["cloning/action_error"])}

    return Recipe(
        title="cloning",
        model=model,
        num_samples=len(data.moments),
        make_batch=make_batch,
        save=partial(model.save, data=data.origin),
        measure=measure,
    )


@dataclass(frozen=True)
class _Data:
    """Moments of episodes of frames. origin: for config.json."""

    moments: Moments
    episodes: list[EpisodeArrays]
    observed_frames: int
    frame_stride: int
    origin: Origin

    def batch(self, moments: Sequence[int], seeds: Tensor | None) -> PolicyBatch:
        places = [self.moments.where(moment) for moment in moments]
        rows = [(place, observed_rows(row, self.observed_frames, self.frame_stride)) for place, row in places]
        frames = frames_of(np.stack([self.episodes[place].content[chosen] for place, chosen in rows]))
        return replace(self.moments.batch(moments, seeds), frames=frames)


def _read(settings: CloningSettings) -> _Data:
    for name in ("height", "width", "frame_stride", "observed_frames"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} is {getattr(settings, name)}; it must be at least 1")
    dataset, height, width = Dataset.open(settings.data), settings.height, settings.width
    if settings.resume:
        check_resumed(settings.out, dataset, data_changed=settings.data_changed)
    camera = dataset.camera(settings.camera)
    depth_camera = dataset.camera(kind="depth") if settings.depth else None
    episodes = decoded_frames(
        dataset,
        [episode.index for episode in dataset.episodes],
        size=(height, width),
        camera=camera.name,
        depth=settings.depth,
        cache=settings.cache or settings.out / "cache",
    )
    episodes = acted(episodes)
    demonstrations, spec = read_demonstrations(dataset, episodes), dataset.action_spec
    assert spec is not None
    moments = Moments(demonstrations, spec, horizon=settings.action_horizon, every=settings.every)
    say(f"{len(moments):,} moments of {len(demonstrations)} episodes; tasks: {', '.join(moments.tasks)}")
    origin = origin_of(
        dataset, camera, depth_camera, [episode.index for episode in episodes], state_names=dataset.state_names
    )
    return _Data(moments, episodes, settings.observed_frames, settings.frame_stride, origin)


def _make_model(settings: CloningSettings, data: _Data) -> Cloning:
    torch.manual_seed(settings.seed)
    if settings.resume:
        config = CloningConfig.from_json(read_config(settings.out, Cloning.kind).model)
        data.moments.check_like(settings.out, config.action_spec, config.tasks, len(config.state_mean))
        return Cloning(config)
    start = Cloning.load(settings.warm_start) if settings.warm_start else None
    state_mean, state_std = data.moments.state_statistics()
    embeddings = sentence_embeddings(data.moments.tasks) if settings.goal == "language" else None
    config = CloningConfig(
        **settings.model_of_preset(),
        **shared(settings, CloningConfig),
        action_spec=data.moments.spec,
        tasks=data.moments.tasks,
        state_mean=state_mean,
        state_std=state_std,
        channels=4 if settings.depth else 3,
        goal_dim=0 if embeddings is None else embeddings.shape[1],
    )
    model = Cloning(config)
    if embeddings is not None:
        model.set_goals(embeddings)
    if start:
        copy_weights(model, start)
    return model
