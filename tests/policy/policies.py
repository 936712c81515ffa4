"""A small policy on a world of scrambled weights, and moments of a toy whose actions are known."""

from __future__ import annotations

import torch
from torch import Tensor

from oneiros.policy.config import PolicyConfig
from oneiros.policy.model import Policy
from oneiros.records import ActionSpec, Clip, Observation, PolicyBatch
from oneiros.world.model import World
from tests.world.worlds import SPECS, make_world, random_actions, scramble

TASKS = ("left", "right")
HORIZON, STRIDE = 6, 2
NEUTRAL = {"feature_mean": (0.0,) * 32, "feature_std": (1.0,) * 32}
DEPTH = {"geometry_tokens": 3, "intrinsics": (8.0, 8.0, 4.0, 4.0), "num_points": 16}


def make_policy(kind: str = "continuous", *, world: World | None = None, spec: ActionSpec | None = None, **options):
    """A `Policy`, in eval mode; its new head would say nothing, so all weights are moved from their start."""
    world = world or make_world(kind, frame_stride=STRIDE)
    torch.manual_seed(5)
    sizes = {"dim": 32, "former_depth": 1, "latents_per_frame": 2, "heads": 4, "encoder_depth": 1, "decoder_depth": 2}
    data = {"tasks": TASKS, "state_mean": (1.0, 0.0), "state_std": (0.5, 2.0), **NEUTRAL}
    shape = {"imagined_frames": 2, "action_horizon": HORIZON, "execute": 2, "denoising_steps": 4}
    config = PolicyConfig(action_spec=spec or SPECS[kind], **{**sizes, **data, **shape, **options})
    policy = Policy(config, world)
    for name, module in policy.named_children():
        if name != "world":
            scramble(module, 1)
    return policy.eval()


def moments(policy: Policy, kind: str = "continuous", batch: int = 3, seed: int = 0) -> PolicyBatch:
    """A batch of nonsense that fits the policy."""
    generator = torch.Generator().manual_seed(seed)
    config = policy.config
    places = policy.former.features_per_view if hasattr(policy.former, "features_per_view") else 32
    features = torch.randn(batch, config.num_frames, places, 32, generator=generator)
    actions = random_actions(kind, batch, config.action_horizon, seed)
    assert actions is not None
    return PolicyBatch(
        goal=torch.randint(len(TASKS), (batch,), generator=generator),
        actions=actions,
        valid=torch.arange(config.action_horizon) < torch.randint(1, HORIZON, (batch, 1), generator=generator),
        features=features,
        state=torch.randn(batch, 2, generator=generator),
        depth=torch.rand(batch, 8, 8, generator=generator) + 0.5,
        seeds=torch.arange(batch) + 10,
    )


def part(batch: PolicyBatch, rows: list[int]) -> PolicyBatch:
    """Some samples of a batch."""
    values = {name: value[rows] for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return PolicyBatch(**values)


def observation(batch: int, step: int = 0, *, task: str = "left") -> Observation:
    """What B environments show in a step, all different."""
    generator = torch.Generator().manual_seed(100 + step)
    frames = torch.rand(batch, 4, 4, 8, generator=generator) * 1.6 - 0.8
    return Observation(frames, torch.randn(batch, 2, generator=generator), (task,) * batch)


def rows_of(seen: Observation, rows: list[int]) -> Observation:
    task = None if seen.task is None else tuple(seen.task[row] for row in rows)
    return Observation(seen.frames[rows], None if seen.state is None else seen.state[rows], task)


def noted_clips(policy: Policy, monkeypatch) -> list[Clip]:
    """The clips that a policy goes on to imagine from."""
    clips, imagine = [], policy.world.imagine

    def noted(clip, *arguments, **options):
        clips.append(clip)
        return imagine(clip, *arguments, **options)

    monkeypatch.setattr(policy.world, "imagine", noted)
    return clips
