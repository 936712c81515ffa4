"""What a decision of a policy costs in processor time, part by part, on one thread and in float32.

    python benchmarks/decision.py runs/world
    python benchmarks/decision.py runs/world --imagined-frames 4 --denoising-steps 10

The world is a trained one; the policy around it is of the small preset and knows nothing, which costs the same. Times
are the middle of all decisions, on whatever else the machine does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch

from oneiros.policy.config import PolicyConfig
from oneiros.policy.model import Policy
from oneiros.policy.settings import POLICY_PRESETS
from oneiros.records import Observation
from oneiros.world.model import World

_T = TypeVar("_T")
_STATES = 4


def make_policy(world: World, imagined_frames: int, denoising_steps: int) -> Policy:
    spec, width = world.config.action_spec, world.config.dim
    if spec is None:
        raise SystemExit("decision: a policy needs a world with actions")
    fields: dict[str, Any] = {**POLICY_PRESETS["small"].model, "denoising_steps": denoising_steps}
    config = PolicyConfig(
        action_spec=spec,
        tasks=("a task",),
        state_mean=(0.0,) * _STATES,
        state_std=(1.0,) * _STATES,
        feature_mean=(0.0,) * width,
        feature_std=(1.0,) * width,
        imagined_frames=imagined_frames,
        **fields,
    )
    return Policy(config, world).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("--imagined-frames", type=int, default=PolicyConfig.imagined_frames)
    parser.add_argument("--denoising-steps", type=int, default=POLICY_PRESETS["small"].model["denoising_steps"])
    parser.add_argument("--decisions", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    world = World.load(options.world)
    policy = make_policy(world, options.imagined_frames, options.denoising_steps)
    world.prepare_for_inference(float32=True)
    size, parts = world.tokenizer.config, {}

    def timed(name: str, part: Callable[[], _T]) -> _T:
        began = time.process_time()
        result = part()
        parts.setdefault(name, []).append(1e3 * (time.process_time() - began))
        return result

    seen = Observation(
        torch.rand(1, size.channels, size.height, size.width) * 2 - 1, torch.zeros(1, _STATES), ("a task",)
    )
    carry = policy.init(1)
    while len(parts.get("decision", ())) < options.decisions:
        before = carry
        if not carry.chunking.plans(carry.step):
            carry, _ = policy.act(carry, seen)
            continue
        carry, _ = timed("decision", lambda now=before: policy.act(now, seen))
        features = timed("observe and imagine", lambda now=before: policy.imagine(now, seen))
        tokens = timed("condense", lambda known=features: policy.condition(known, seen))
        timed("denoise", lambda now=before, known=tokens: policy.denoise(known, now.noise_seeds))
    print(f"| {' | '.join(parts)} |", f"|{'---|' * len(parts)}", sep="\n")
    print(f"| {' | '.join(f'{median(times):.0f} ms' for times in parts.values())} |")


if __name__ == "__main__":
    main()
