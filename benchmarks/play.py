"""How fast a world plays: one dream, one frame at a time, as a player waits for it.

    python benchmarks/play.py                 the demo's architecture, untrained (speed does not depend on weights)
    python benchmarks/play.py demo/world      a trained run

Prints frames/s over the whole run, the 50th, 95th and 99th percentile of a step, memory before and after, and how much
slower it would be to recompute the window's history for every group of codes, as a world without a cache must.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

from oneiros.records import ActionSpec, Clip
from oneiros.world.config import WorldConfig
from oneiros.world.model import World
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig

WARM_UP = 50


def resident_megabytes() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def random_action(world: World) -> torch.Tensor | None:
    spec = world.config.action_spec
    if spec is None:
        return None
    if spec.kind == "keys":
        return torch.rand(1, spec.size) < 0.3
    if spec.kind == "discrete":
        return torch.randint(spec.size, (1,))
    return torch.randn(1, spec.size * world.config.frame_stride)


def start(world: World) -> Clip:
    config, frames = world.tokenizer.config, 8
    return Clip(
        torch.rand(1, frames, config.channels, config.height, config.width) * 2 - 1,
        None,
        torch.ones(1, frames, dtype=torch.bool),
    )


def play(world: World, frames: int) -> list[float]:
    """Seconds of each step, from the action to the decoded frame."""
    state, seconds = world.init(start(world)), []
    for _ in range(WARM_UP + frames):
        action = random_action(world)
        began = time.perf_counter()
        state, _ = world.step(state, action)
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


def recompute(world: World, frames: int) -> list[float]:
    """The same codes drawn without a cache: every group of a frame costs a pass over the whole window."""
    dynamics, window = world.dynamics, world.config.window
    codes = torch.randint(len(dynamics.codebook), (1, window, dynamics.layout.num_codes))
    conditions = torch.randn(1, window, world.config.dim)
    seconds = []
    with torch.no_grad():
        for _ in range(frames):
            began = time.perf_counter()
            for _ in range(dynamics.layout.num_steps - 1):
                dynamics.logits(dynamics(codes, conditions)[:, -1, : dynamics.layout.tokens_per_step])
            world.tokenizer.decode(codes[:, -1:])
            seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a world's run folder")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    if options.run:
        world = World.load(options.run)
    else:
        keys = ActionSpec("keys", ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD"))
        world = World(WorldConfig(action_spec=keys, dim=192, window=8), Tokenizer(TokenizerConfig())).eval()
    world.prepare_for_inference()
    parameters = sum(p.numel() for p in world.parameters()) / 1e6
    print(f"{parameters:.1f} M parameters, {options.threads} threads, torch {torch.__version__}")

    play(world, WARM_UP)
    before = resident_megabytes()
    seconds = torch.tensor(play(world, options.frames), dtype=torch.float64)
    p50, p95, p99 = (seconds.quantile(q).item() * 1e3 for q in (0.5, 0.95, 0.99))
    print(f"cached      {1 / seconds.mean():7.1f} frames/s over {len(seconds)} frames")
    print(f"            step p50 {p50:.1f} ms   p95 {p95:.1f} ms   p99 {p99:.1f} ms")
    print(f"            memory {before:.0f} MiB before, {resident_megabytes():.0f} MiB after")
    slow = torch.tensor(recompute(world, 20), dtype=torch.float64)
    ratio = slow.mean() / seconds.mean()
    print(f"recomputed  {1 / slow.mean():7.1f} frames/s: the cache makes a frame {ratio:.1f}x faster")


if __name__ == "__main__":
    main()
