"""How many frames a second dreams side by side make, features only: for each size of the batch.

    OMP_NUM_THREADS=1 python benchmarks/dream_batch.py src/oneiros/world/bundled/health_gathering --float32

Counted in processor seconds, so that other work on the machine does not count; a line for each size: the median of some
repeats, and what drawing codes takes of it. --float32: without bf16, which most processors are no faster with.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro

from oneiros.agents.states import begin, pooled, to_model
from oneiros.records import Clip, CodeClip
from oneiros.sampling import Sampling
from oneiros.world.dream import action_space_of
from oneiros.world.model import World
from oneiros.world.starts import load_world, starts_from_run


@dataclass
class Options:
    world: tyro.conf.Positional[Path]
    """The run folder of a world, with starts."""
    sizes: tuple[int, ...] = (1, 8, 32, 64, 256)
    """How many dreams go on together."""
    frames: int = 256
    """To dream in a repeat, all dreams together, at least two steps."""
    repeats: int = 5
    float32: bool = False


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    world = load_world(options.world, float32=options.float32)
    start = starts_from_run(world, options.world)[0]
    threads = torch.get_num_threads()
    print(f"{threads} thread{'s' * (threads > 1)}, {'float32' if options.float32 else 'bf16 where it is faster'}")
    for size in options.sizes:
        rates = measure(world, start, size, options)
        print(
            f"B = {size:>3}   {median(rates):6.1f} frames per processor second ({min(rates):.1f} to {max(rates):.1f})"
        )


def measure(world: World, start: Clip, size: int, options: Options) -> list[float]:
    """Frames per processor second in each repeat, after a warm-up."""
    length = start.frames.shape[1]
    codes = world.tokenizer.encode(start.frames).expand(size, -1, -1)
    actions = None if start.actions is None else start.actions.expand(size, *start.actions.shape[1:])
    clip = CodeClip(codes, actions, torch.ones(size, length, dtype=torch.bool))
    state = begin(world, clip, time=world.config.window)
    space, generator = action_space_of(world.config.action_spec), torch.Generator().manual_seed(0)
    space.seed(0)
    steps, rates = max(2, options.frames // size), []
    for _ in range(options.repeats + 1):
        began = time.process_time()
        for _ in range(steps):
            done = to_model(world, np.stack([space.sample() for _ in range(size)]))
            state, _ = world.step_codes(state, done, generator=generator, sampling=Sampling(temperature=1.0, min_p=0.0))
            state, _ = pooled(world, state)
        rates.append(steps * size / (time.process_time() - began))
    return rates[1:]


if __name__ == "__main__":
    main()
