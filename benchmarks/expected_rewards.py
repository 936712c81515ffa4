"""What a world expects of the rewards that are rare: on held-out episodes, step by step along their real frames.

    python benchmarks/expected_rewards.py runs/world data --above 50

An agent cannot learn from what its world does not expect. Prints the correlation of expected with real rewards, and
what is expected, and how likely an end is, at steps that pay more than --above and at all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from oneiros import Dataset, World
from oneiros.agents.states import begin, observe, to_model
from oneiros.data.frames import to_model as frames_to_model
from oneiros.records import CodeClip
from oneiros.world.recorded import held_out_episodes
from oneiros.world.starts import load_world


@dataclass
class Options:
    world: tyro.conf.Positional[Path]
    data: tyro.conf.Positional[Path]
    above: float = 0.0
    """Steps that pay more are told apart."""
    episodes: int = 15
    """Of the held-out ones."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    world, data = load_world(options.world, float32=True), Dataset.open(options.data)
    held_out = held_out_episodes(options.world, data)
    chosen = held_out[:: max(1, len(held_out) // options.episodes)][: options.episodes]
    rows = np.concatenate([expectations(world, data, episode) for episode in chosen])
    real, expected, ends = rows.T
    rare = real > options.above
    print(f"{len(rows):,} steps, {rare.sum()} of them pay more than {options.above:g}")
    print(f"correlation of expected with real rewards: {np.corrcoef(real, expected)[0, 1]:.2f}")
    for name, those in (("there", rare), ("elsewhere", ~rare)):
        if those.any():
            means = (values[those].mean() for values in (real, expected, ends))
            print("{:<10} paid {:6.2f}, expected {:6.2f}, probability of an end {:.3f}".format(name, *means))


@torch.no_grad()
def expectations(world: World, data: Dataset, episode: int) -> np.ndarray:
    """Real reward, expected reward and probability of an end, of each step of an episode (T, 3)."""
    frames = frames_to_model(np.ascontiguousarray(data.frames(episode)))
    actions, outcomes = data.actions(episode), data.outcomes(episode)
    assert actions is not None
    assert outcomes is not None
    assert outcomes.reward is not None
    assert world.outcome_head is not None
    codes = world.tokenizer.encode(frames[None, :1])
    state = begin(world, CodeClip(codes, None, torch.ones(1, 1, dtype=torch.bool)), time=0)
    rows = []
    for step in range(int(outcomes.valid.sum())):
        after = frames[min(step + 1, len(frames) - 1)]
        state = observe(world, state, to_model(world, actions[step : step + 1]), after[None])
        expected, end = world.outcome_head.expected(state.step_features)
        rows.append((float(outcomes.reward[step]), expected.item(), end.item()))
    return np.array(rows)


if __name__ == "__main__":
    main()
