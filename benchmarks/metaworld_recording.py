"""How fast episodes of Meta-World are recorded on one core, and where the time goes.

    python benchmarks/metaworld_recording.py [--task drawer-open-v3] [--frames 300] [--size 96]

Plays the expert and writes colour, depth and labels as `oneiros record` does. Times are CPU seconds of the whole
process, the encoders' threads included, so that other work on the machine does not count. "rays" is `mj_multiRay` over
what moves, the floor of the ray-cast camera: nothing about it can be made faster from outside MuJoCo.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from oneiros.data.episodes.writer import DatasetWriter
from oneiros.envs.explore import Expert
from oneiros.envs.metaworld.env import MetaWorldEnv
from oneiros.envs.record import Tally, record_episode


class Clock:
    """CPU seconds by name. A name may be timed within another; then the other counts it too."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str):
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start

    def around(self, name: str, function: Callable) -> Callable:
        def timed(*arguments, **options):
            with self(name):
                return function(*arguments, **options)

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="drawer-open-v3")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--camera", choices=("ray", "renderer"), default="ray")
    options = parser.parse_args()
    env = MetaWorldEnv(
        options.task, height=options.size, width=options.size, depth=True, labels=True, camera=options.camera
    )
    clock, tally = Clock(), Tally()
    env.reset = clock.around("reset", env.reset)
    env.step = clock.around("step", env.step)
    env._look = clock.around("camera", env._look)
    if options.camera == "ray":
        env._eye._trace = clock.around("rays", env._eye._trace)
    env.reset(seed=0)  # the first loads files
    clock.seconds.clear()
    with TemporaryDirectory() as folder, _writer(env, folder) as writer, clock("all"):
        while tally.frames < options.frames:
            tally += record_episode(env, writer, lambda: Expert(env), seed=0, max_steps=200, task=None, keep="success")
    _report(clock.seconds, tally, f"{options.task}, {options.size}x{options.size}, {env.camera_kind}")
    env.close()


def _writer(env: MetaWorldEnv, folder: str) -> DatasetWriter:
    return DatasetWriter.of(env, Path(folder) / "data")


def _report(seconds: dict[str, float], tally: Tally, title: str) -> None:
    frames = tally.frames + tally.dropped
    playing = seconds["reset"] + seconds["step"]
    rays = seconds.get("rays", 0.0)
    parts = {
        "simulation, resets included": playing - seconds["camera"],
        "rays": rays,
        "shading and the rest of the camera": seconds["camera"] - rays,
        "encoding, expert, saving": seconds["all"] - playing,
    }
    print(f"{title}: {frames / seconds['all']:.0f} frames/s of CPU time ({frames} frames, {tally.failures} failures)")
    for name, part in parts.items():
        print(f"  {1000 * part / frames:6.2f} ms  {name}")
    wall = tally.playing + tally.encoding
    print(f"  {frames / wall:6.0f} frames/s by the clock on the wall, other work on the machine included")


if __name__ == "__main__":
    main()
