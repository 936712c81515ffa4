"""How fast a world plays: one dream, one frame at a time, as a player waits for it.

    python benchmarks/play.py                 the demo's architecture, untrained (speed does not depend on weights)
    python benchmarks/play.py demo/world      a trained run
    python benchmarks/play.py src/oneiros/world/bundled/health_gathering
    python benchmarks/play.py demo/world --onnx               ONNX Runtime beside it, as oneiros play --engine onnx

Prints, for one thread and for all, without bf16 and where the machine multiplies it faster also with it: frames/s over
the whole run, percentiles of a step, and the processor time of a step over that of its matrix products alone, which are
done bare, in float32 and by one thread. Then memory before and after, and how much slower it would be to recompute the
window's history for every group of codes, as a world without a cache must.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import torch

from oneiros.machine import bf16_is_faster, cores, processor
from oneiros.records import ActionSpec, Clip
from oneiros.world.config import WorldConfig
from oneiros.world.model import World
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig

WARM_UP = 50
ROUNDS = 30


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


def dreamer(world: World) -> Callable[[], object]:
    """What dreams one frame after another of a world."""
    state = world.init(start(world))

    def step() -> None:
        nonlocal state
        state, _ = world.step(state, random_action(world))

    return step


def exported_dreamer(world: World, threads: int) -> Callable[[], object]:
    """The same by ONNX Runtime, of a world as it was trained."""
    from oneiros.export.dream import ExportedDream, open_engine

    dream = ExportedDream(world, [start(world)], open_engine(world, threads=threads))
    dream.reset(seed=0)
    return lambda: dream.step(dream.action_space.sample())


def play(step: Callable[[], object], frames: int) -> list[float]:
    """Seconds of each step, from the action to the decoded frame."""
    seconds = []
    for _ in range(WARM_UP + frames):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


def bare_products(world: World) -> float:
    """Seconds of processor time for the products of the blocks that a step needs, by one thread: the least of a few
    rounds, for other processes only ever add."""
    layout, before = world.dynamics.layout, torch.get_num_threads()
    m, calls = layout.tokens_per_step, layout.num_steps - 1
    linear = [layer for layer in world.dynamics.blocks.modules() if isinstance(layer, torch.nn.Linear)]
    weights = [layer.weight.float() for layer in linear]
    work = [(torch.randn(rows, w.shape[1]), w) for rows in [2 * m] + [m] * (calls - 1) for w in weights]
    torch.set_num_threads(1)
    rounds = []
    with torch.no_grad():
        for _ in range(ROUNDS):
            began = time.process_time()
            for x, weight in work:
                torch.nn.functional.linear(x, weight)
            rounds.append(time.process_time() - began)
    torch.set_num_threads(before)
    return min(rounds)


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


def load(run: str | None) -> World:
    torch.manual_seed(0)
    if run:
        world = World.load(run)
    else:
        keys = ActionSpec("keys", ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD"))
        world = World(WorldConfig(action_spec=keys, dim=192, window=8), Tokenizer(TokenizerConfig())).eval()
    return world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a world's run folder")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, torch.get_num_threads()}))
    parser.add_argument("--float32", action="store_true", help="leave out bf16")
    parser.add_argument("--onnx", action="store_true", help="ONNX Runtime too")
    options = parser.parse_args()
    kinds = ["float32"] + ["bf16"] * (bf16_is_faster("cpu") and not options.float32) + ["onnx"] * options.onnx

    world = load(options.run).prepare_for_inference(float32=True)
    parameters = sum(p.numel() for p in world.parameters()) / 1e6
    products = bare_products(world)
    print(f"{parameters:.1f} M parameters, torch {torch.__version__}, {processor()}, {cores()} cores")
    print(f"the products of a step alone: {products * 1e3:.1f} ms of processor time, float32")
    print(f"{'':18}frames/s   p50 ms   p95 ms   p99 ms   p99/p50   processor ms   over products")
    for kind in kinds:
        for threads in options.threads:
            torch.set_num_threads(threads)
            if kind == "onnx":
                step = exported_dreamer(load(options.run), threads)
            else:
                step = dreamer(load(options.run).prepare_for_inference(float32=kind == "float32"))
            play(step, WARM_UP)
            before, began = resident_megabytes(), time.process_time()
            seconds = torch.tensor(play(step, options.frames), dtype=torch.float64)
            work = (time.process_time() - began) / (len(seconds) + WARM_UP)
            p50, p95, p99 = (seconds.quantile(q).item() * 1e3 for q in (0.5, 0.95, 0.99))
            name = f"{kind}, {threads} thread{'s' * (threads > 1)}"
            print(
                f"{name:18}{1 / seconds.mean():8.1f} {p50:8.1f} {p95:8.1f} {p99:8.1f} {p99 / p50:9.2f} "
                f"{work * 1e3:14.1f} {work / products:15.1f}"
            )
    print(f"memory {before:.0f} MiB before, {resident_megabytes():.0f} MiB after the last {options.frames} frames")
    slow = torch.tensor(recompute(world, 20), dtype=torch.float64)
    print(
        f"recomputed {1 / slow.mean():.1f} frames/s: the cache makes a frame {slow.mean() / seconds.mean():.1f}x faster"
    )


if __name__ == "__main__":
    main()
