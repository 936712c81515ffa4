"""Training data of a policy: moments of demonstrations, features that its world imagines there, and geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneiros.console import say
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import check_resumed, origin_of
from oneiros.disk import contained
from oneiros.policy.model import WORLD
from oneiros.policy.settings import PolicySettings
from oneiros.policy.training.demonstrations import frame_source, read_episodes
from oneiros.policy.training.depths import Depths, read_depths
from oneiros.policy.training.imagination import FeatureSpec, cached_features
from oneiros.policy.training.moments import Moments, acted, read_demonstrations
from oneiros.policy.training.teacher import Teacher, cached_teacher
from oneiros.records import PolicyBatch
from oneiros.run_folder import Origin, read_config, read_origin
from oneiros.world.model import World


@dataclass(frozen=True)
class PolicyData:
    """features: float16 (moments, T, N, C), of what the world imagines. offsets: rows from a moment to each of the T
    frames. depths, teacher: None where the policy has no use for them."""

    moments: Moments
    features: np.ndarray
    offsets: tuple[int, ...]
    depths: Depths | None
    teacher: Teacher | None
    origin: Origin

    def batch(self, moments: Sequence[int], seeds: Tensor | None) -> PolicyBatch:
        places = [self.moments.where(moment) for moment in moments]
        features = torch.from_numpy(np.stack([self.features[moment] for moment in moments])).float()
        teacher, mask = self.teacher.of(places, self.offsets) if self.teacher else (None, None)
        return replace(
            self.moments.batch(moments, seeds),
            features=features,
            depth=self.depths.metres(places) if self.depths else None,
            teacher=teacher,
            teacher_mask=mask,
        )


def read_policy_data(settings: PolicySettings, world: World) -> PolicyData:
    """Whatever of it is not in the cache yet is made.

    Raises ValueError or OSError, in one line, for a dataset that lacks what is needed or that the world does not fit.
    """
    assert settings.world is not None
    dataset, run, camera = Dataset.open(settings.data), settings.world, settings.camera
    if settings.resume:
        check_resumed(settings.out, dataset, data_changed=settings.data_changed)
        camera = read_origin(settings.out).camera_name
        run = run if run.is_dir() else settings.out / WORLD  # it may be gone; what it knew of caches is lost then
    cache = settings.cache or contained(run, "cache")
    source = frame_source(dataset, world, run, camera, cache)
    rgb, spec = dataset.camera(source.camera), dataset.action_spec
    if spec is None:
        raise ValueError(f"{dataset.path}: has no actions to learn from")
    _check_geometry(dataset, settings)
    episodes = acted(read_episodes(source, world, _world_caches(run)))
    moments = Moments(
        read_demonstrations(dataset, episodes), spec, horizon=settings.action_horizon, every=settings.every
    )
    say(f"{len(moments):,} moments of {len(episodes)} episodes; tasks: {', '.join(moments.tasks)}")

    spec = FeatureSpec(
        settings.observed_frames, settings.imagined_frames, settings.layers, quick=settings.precision != "float32"
    )
    features = cached_features(cache, world, episodes, moments, spec, data=source.key)
    depths, teacher, size = None, None, (world.tokenizer.config.height, world.tokenizer.config.width)
    if settings.geometry_tokens or settings.alignment:
        depths = read_depths(dataset, episodes, camera=rgb.name, height=size[0], width=size[1], cache=cache)
    if settings.alignment:
        assert depths is not None
        teacher = cached_teacher(
            cache, dataset, depths, grid=world.tokenizer.grid, steps=settings.teacher_steps, seed=settings.seed
        )
    depth_camera = next((each for each in dataset.cameras if each.kind == "depth"), None)
    return PolicyData(
        moments=moments,
        features=features,
        offsets=spec.offsets(world.config.frame_stride),
        depths=depths,
        teacher=teacher,
        origin=origin_of(
            dataset, rgb, depth_camera, [each.index for each in episodes], state_names=dataset.state_names
        ),
    )


def _check_geometry(dataset: Dataset, settings: PolicySettings) -> None:
    """Before the long part."""
    if settings.geometry_tokens < 0:
        raise ValueError(f"geometry_tokens is {settings.geometry_tokens}; it must be 0 (none) or more")
    if settings.alignment and settings.teacher_steps < 1:
        raise ValueError(f"teacher_steps is {settings.teacher_steps}; the teacher of geometry must learn something")
    for kind, needed in (("depth", settings.geometry_tokens or settings.alignment), ("labels", settings.alignment)):
        if needed and not any(camera.kind == kind for camera in dataset.cameras):
            option = "--alignment" if settings.alignment else "--geometry-tokens"
            raise ValueError(f"{dataset.path}: has no {kind} camera, which {option} needs; record it with --{kind}")


def _world_caches(run: Path) -> list[Path]:
    """Where the world's own training may have left the dataset's codes."""
    recipe = read_config(run).recipe
    runs = [Path(recipe[name]) / "cache" for name in ("tokenizer", "warm_start") if recipe.get(name)]
    return [Path(place) for place in (recipe.get("cache"), *runs) if place]
