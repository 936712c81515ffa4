"""From demonstrations and a trained world to a policy that acts from what the world imagines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from oneiros.machine import best_device
from oneiros.policy.config import PolicyConfig
from oneiros.policy.model import WORLD, Policy
from oneiros.policy.settings import POLICY_PRESETS as PRESETS
from oneiros.policy.settings import PolicySettings
from oneiros.policy.training.data import PolicyData, read_policy_data
from oneiros.policy.training.imagination import feature_statistics
from oneiros.policy.training.pictures import draw
from oneiros.policy.training.sentences import sentence_embeddings
from oneiros.policy.training.teacher import WIDTH as TEACHER_WIDTH
from oneiros.records import PolicyBatch
from oneiros.run_folder import read_config
from oneiros.train.fit import FitResult, fit
from oneiros.train.order import Order
from oneiros.train.state import opening_state
from oneiros.train.warm_start import copy_weights
from oneiros.world.model import World

__all__ = ["PRESETS", "PolicySettings", "run"]


def run(settings: PolicySettings) -> FitResult:
    """Train a policy on all readable episodes of a dataset, into the run folder `settings.out`.

    No episode is held out: what a policy is worth shows in its environment. The world is frozen, so what it imagines is
    made once and kept in the cache.
    Raises ValueError or OSError, in one line, for what is wrong with the dataset, the settings or a run folder.
    """
    settings = settings.completed()
    if settings.alignment and settings.former not in (None, "geometry"):
        raise ValueError(f"--alignment is of --former geometry; {settings.former} tells nothing of geometry")
    preset = PRESETS[settings.preset]
    config = settings.fit_config(preset)
    opening_state(settings.out, config, resume=settings.resume)  # before the long part

    world = _load_world(settings)
    data = read_policy_data(settings, world)
    model = _make_policy(settings, world, data)
    order = Order(len(data.moments), batch_size=config.batch_size, seed=config.seed)

    def make_batch(step: int, samples: Sequence[int]) -> PolicyBatch:
        return data.batch(order.indices(step, samples), order.seeds(step, samples))

    def save_model(model: nn.Module, folder: Path) -> None:
        assert isinstance(model, Policy)
        model.save(folder, recipe=settings.to_json(), data=data.origin)

    def pictures(model: nn.Module, step: int) -> dict[str, float]:
        assert isinstance(model, Policy)
        return draw(model, data, step, settings.out / "pictures" / f"step_{step:06d}.png")

    return fit(
        model,
        make_batch,
        out=settings.out,
        config=config,
        save_model=save_model,
        pictures=pictures,
        resume=settings.resume,
        title="policy",
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
        return Policy(PolicyConfig.from_json(read_config(settings.out, Policy.kind).model), world)
    start = Policy.load(settings.warm_start) if settings.warm_start else None
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
        geometry_dim=TEACHER_WIDTH,
        geometry_tokens=settings.geometry_tokens,
        intrinsics=data.depths.intrinsics if data.depths else (),
        max_depth=data.depths.max_depth if data.depths else PolicyConfig.max_depth,
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
