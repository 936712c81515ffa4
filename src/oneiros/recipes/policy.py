"""From demonstrations and a trained world to a policy that acts from what the world imagines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oneiros.data.lerobot import Dataset
from oneiros.models.checkpoint import load, read_config, save
from oneiros.models.policy import Policy
from oneiros.models.policy_config import PolicyConfig
from oneiros.models.world import World
from oneiros.recipes.codes import best_device
from oneiros.recipes.demonstrations import frame_source, read_episodes
from oneiros.recipes.goals import sentence_embeddings
from oneiros.recipes.moments import Moments, read_demonstrations
from oneiros.recipes.policy_settings import POLICY_PRESETS as PRESETS
from oneiros.recipes.policy_settings import PolicySettings
from oneiros.recipes.predictive import Outlook, cached_features, feature_statistics
from oneiros.recipes.warm_start import copy_weights
from oneiros.records import PolicyBatch
from oneiros.train.fit import FitResult, fit
from oneiros.train.log import say
from oneiros.train.order import Order
from oneiros.train.state import opening_state

__all__ = ["PRESETS", "PolicySettings", "run"]


def run(settings: PolicySettings) -> FitResult:
    """Train a policy on all readable episodes of a dataset, into the run folder `settings.out`.

    No episode is held out: what a policy is worth shows in its environment. The world is frozen, so what it imagines is
    made once and kept in the cache.
    Raises ValueError or OSError, in one line, for what is wrong with the dataset, the settings or a run folder.
    """
    settings = settings.completed()
    preset = PRESETS[settings.preset]
    config = settings.fit_config(preset)
    opening_state(settings.out, config, resume=settings.resume)  # before the long part

    world = _load_world(settings)
    data = _read(settings, world)
    model = _make_policy(settings, world, data)
    order = Order(len(data.moments), batch_size=config.batch_size, seed=config.seed)
    told = {"recipe": settings.to_json(), "data": data.origin}

    def make_batch(step: int, samples: Sequence[int]) -> PolicyBatch:
        return data.batch(order.indices(step, samples), order.seeds(step, samples))

    def save_model(model: nn.Module, folder: Path) -> None:
        save(model, folder, extra=told)

    return fit(
        model,
        make_batch,
        out=settings.out,
        config=config,
        save_model=save_model,
        resume=settings.resume,
        title="policy",
    )


@dataclass(frozen=True)
class _Data:
    """Moments, and features (moments, T, N, C) of what the world imagines there. origin: for config.json."""

    moments: Moments
    features: np.ndarray
    origin: dict[str, Any]

    def batch(self, moments: Sequence[int], seeds: Tensor | None) -> PolicyBatch:
        features = torch.from_numpy(np.stack([self.features[moment] for moment in moments])).float()
        return replace(self.moments.batch(moments, seeds), features=features)


def _load_world(settings: PolicySettings) -> World:
    if settings.world is None:
        raise ValueError(
            "a policy needs a world: train one with `oneiros train world DATA --out RUN`, then --world RUN"
        )
    folder = settings.out / "world" if settings.resume else settings.world
    world = load(folder)
    if not isinstance(world, World):
        raise ValueError(f"{folder} holds a {type(world).__name__}, not a World; see `oneiros train world --help`")
    return world.to(best_device()).requires_grad_(False)


def _read(settings: PolicySettings, world: World) -> _Data:
    assert settings.world is not None
    dataset, run = Dataset.open(settings.data), settings.world
    camera = settings.camera
    if settings.resume:
        camera = read_config(settings.out).get("data", {}).get("camera")
        run = run if run.is_dir() else settings.out / "world"  # it may be gone; what it knew of caches is lost then
    cache = settings.cache or settings.world / "cache"
    source = frame_source(dataset, world, run, camera, cache)
    episodes = read_episodes(source, world, _world_caches(run))
    demonstrations = read_demonstrations(dataset, episodes)
    spec = dataset.action_spec
    assert spec is not None
    moments = Moments(demonstrations, spec, horizon=settings.action_horizon, every=settings.every)
    quick = settings.precision != "float32"
    outlook = Outlook(settings.observed_frames, settings.imagined_frames, settings.layer, quick)
    features = cached_features(cache, world, episodes, moments, outlook, data=source.key)
    say(f"{len(moments):,} moments of {len(demonstrations)} episodes; tasks: {', '.join(moments.tasks)}")
    seen, shown = dataset.camera(source.camera), world.tokenizer.config
    origin = {
        "path": str(dataset.path),
        "fingerprint": dataset.fingerprint(),
        "environment": dataset.info.get("robot_type"),
        "fps": dataset.fps,
        "camera": seen.name,
        "recorded": [seen.height, seen.width],
        "height": shown.height,
        "width": shown.width,
        "depth": shown.channels == 4,
        "state_names": list(dataset.state_names),
        "episodes": [episode.index for episode in episodes],
    }
    return _Data(moments, features, origin)


def _world_caches(run: Path) -> list[Path]:
    """Where the world's own training may have left the dataset's codes."""
    recipe = read_config(run).get("recipe", {})
    runs = [Path(recipe[name]) / "cache" for name in ("tokenizer", "warm_start") if recipe.get(name)]
    return [Path(place) for place in (recipe.get("cache"), *runs) if place]


def _make_policy(settings: PolicySettings, world: World, data: _Data) -> Policy:
    torch.manual_seed(settings.seed)
    if settings.resume:
        return Policy(PolicyConfig.from_json(read_config(settings.out)["model"]), world)
    start = load(settings.warm_start) if settings.warm_start else None
    if start is not None and not isinstance(start, Policy):
        raise ValueError(f"{settings.warm_start} holds no policy to begin with")
    state_mean, state_std = data.moments.state_statistics()
    feature_mean, feature_std = feature_statistics(data.features)
    embeddings = sentence_embeddings(data.moments.tasks) if settings.goal == "language" else None
    config = PolicyConfig(
        **PRESETS[settings.preset].model,
        action_spec=data.moments.spec,
        tasks=data.moments.tasks,
        state_mean=state_mean,
        state_std=state_std,
        grid=world.tokenizer.grid,
        feature_mean=feature_mean,
        feature_std=feature_std,
        observed_frames=settings.observed_frames,
        imagined_frames=settings.imagined_frames,
        layer=settings.layer,
        former=settings.former or ("geometry" if settings.alignment else "3d"),
        action_horizon=settings.action_horizon,
        execute=settings.execute,
        goal_dim=0 if embeddings is None else embeddings.shape[1],
    )
    policy = Policy(config, world)
    if embeddings is not None:
        policy.set_goals(embeddings)
    if start:
        copy_weights(policy, start, skip="world.")
    return policy
