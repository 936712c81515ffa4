"""From demonstrations and a trained world to a policy that acts from what the world imagines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from oneiros.machine import best_device
from oneiros.policy.config import PolicyConfig
from oneiros.policy.model import WORLD, Policy
from oneiros.policy.settings import PolicySettings
from oneiros.policy.training.data import PolicyData, read_policy_data
from oneiros.policy.training.imagination import feature_statistics
from oneiros.policy.training.pictures import draw
from oneiros.policy.training.sentences import sentence_embeddings
from oneiros.policy.training.teacher import WIDTH as TEACHER_WIDTH
from oneiros.run_folder import read_config
from oneiros.train.fit import FitResult
from oneiros.train.recipe import Recipe, train
from oneiros.train.settings import check_as_begun, shared
from oneiros.train.warm_start import copy_weights
from oneiros.world.model import World

__all__ = ["PolicySettings", "prepare", "run"]


def run(settings: PolicySettings) -> FitResult:
    """Train a policy on all readable episodes of a dataset, into the run folder `settings.out`.

    No episode is held out: what a policy is worth shows in its environment. The world is frozen, so what it imagines is
    made once and kept in the cache.
    Raises ValueError or OSError, in one line, for what is wrong with the dataset, the settings or a run folder.
    """
    return train(settings, prepare)


def prepare(settings: PolicySettings) -> Recipe:
    """The policy of the settings, and the moments that it learns from."""
    if settings.alignment and settings.former not in (None, "geometry"):
        raise ValueError(f"--alignment is of --former geometry; {settings.former} tells nothing of geometry")
    world = _load_world(settings)
    data = read_policy_data(settings, world)
    policy = _make_policy(settings, world, data)
    return Recipe(
        title="policy",
        model=policy,
        num_samples=len(data.moments),
        make_batch=data.batch,
        save=partial(policy.save, data=data.origin),
        measure=lambda step, picture: draw(policy, data, step, picture),
    )


def _load_world(settings: PolicySettings) -> World:
    if settings.world is None:
        raise ValueError(
            "a policy needs a world: train one with `oneiros train world DATA --out RUN`, then --world RUN"
        )
    world = World.load(settings.out / WORLD if settings.resume else settings.world)
    return world.to(best_device()).requires_grad_(False)


def _make_policy(settings: PolicySettings, world: World, data: PolicyData) -> Policy:
    torch.manual_seed(settings.seed)
    if settings.resume:
        config = PolicyConfig.from_json(read_config(settings.out, Policy.kind).model)
        check_as_begun(settings, config)
        data.moments.check_like(settings.out, config.action_spec, config.tasks, len(config.state_mean))
        return Policy(config, world)
    start = Policy.load(settings.warm_start) if settings.warm_start else None
    state_mean, state_std = data.moments.state_statistics()
    feature_mean, feature_std = feature_statistics(data.features)
    embeddings = sentence_embeddings(data.moments.tasks) if settings.goal == "language" else None
    former = settings.former or ("geometry" if settings.alignment else "3d")
    config = PolicyConfig(
        **settings.model_fields(PolicyConfig),
        **shared(replace(settings, former=former), PolicyConfig),
        action_spec=data.moments.spec,
        tasks=data.moments.tasks,
        state_mean=state_mean,
        state_std=state_std,
        grid=world.tokenizer.grid,
        feature_mean=feature_mean,
        feature_std=feature_std,
        geometry_dim=TEACHER_WIDTH,
        intrinsics=data.depths.intrinsics if data.depths else (),
        max_depth=data.depths.max_depth if data.depths else PolicyConfig.max_depth,
        goal_dim=0 if embeddings is None else embeddings.shape[1],
    )
    policy = Policy(config, world)
    if embeddings is not None:
        policy.set_goals(embeddings)
    if start:
        copy_weights(policy, start, skip="world.")
    return policy
