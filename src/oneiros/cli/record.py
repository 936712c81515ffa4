"""`oneiros record`: play episodes and save them as a LeRobot dataset."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from oneiros.envs.record import Tally
    from oneiros.records import Camera

DESCRIPTION = """Play episodes and save them as a LeRobot dataset (v3.0).

ViZDoom scenarios are recorded with their keys, any of them held together, and with the pose of the camera; any other
Gymnasium environment that renders to an array with its own actions. Recording into an existing dataset appends.

  oneiros record doom:health_gathering --episodes 60 --out data
  oneiros record doom:my_way_home --depth --labels --episodes 60 --out maze
  oneiros record gym:CartPole-v1 --episodes 20 --out cartpole
"""


@dataclass(frozen=True)
class Record:
    env: Annotated[str, tyro.conf.Positional]
    """doom:SCENARIO or gym:ENV_ID; gym:MODULE:ENV_ID where a module of yours registers it."""
    out: Path
    """The dataset's folder: new, empty, or a dataset of the same environment to append to."""
    episodes: int = 10
    """How many episodes to record."""
    max_steps: int | None = None
    """An episode ends after so many steps, if the environment has not ended it before. Default: 150, Meta-World 200."""
    height: int = 64
    """Pixels from top to bottom."""
    width: int = 64
    """Pixels from left to right. The whole view is kept, and squeezed where its shape is another."""
    frame_skip: int | None = None
    """How long one step lasts: in ViZDoom's tics of 1/35 s (default 4), or in steps of a Gymnasium env (default 1)."""
    depth: bool = False
    """Record depth in metres too (ViZDoom)."""
    labels: bool = False
    """Record the class of every pixel too (ViZDoom)."""
    policy: str | None = None
    """module:function, called as f(observation, spec, rng), returns an action; a class is made anew each episode.
    expert: Meta-World's scripted expert. Default: random actions, each held for 1 to 8 steps."""
    seed: int = 0
    """The same seed gives the same episodes."""
    task: str | None = None
    """The instruction saved with the episodes. Default: the environment's own, else explore and its name."""
    keep: Literal["success", "all"] | None = None
    """Which episodes to save: all, or those that reach success, trying anew until there are enough. Default: success
    with the expert, else all."""
    expert_noise: float = 0.0
    """Standard deviation of what is added to each action of the expert; saved is what was done."""
    camera: Literal["auto", "ray", "renderer"] = "auto"
    """What draws Meta-World: rays (no OpenGL), MuJoCo's renderer, or that one where MUJOCO_GL is set and works."""


def main(arguments: list[str]) -> None:
    record(tyro.cli(Record, prog="oneiros record", args=arguments, description=DESCRIPTION))


def record(command: Record) -> None:
    """Raises ValueError for bad input and OSError for a full disk; episodes already complete stay readable."""
    from oneiros.data.writer import DatasetWriter
    from oneiros.envs.explore import Expert, StickyRandom, load_policy
    from oneiros.envs.make import make_env
    from oneiros.envs.record import Tally, record_episode

    robot = command.env.startswith("metaworld:")
    max_steps = command.max_steps if command.max_steps is not None else 200 if robot else 150
    if command.episodes < 1 or max_steps < 1:
        raise ValueError(f"{command.episodes} episodes of at most {max_steps} steps; both must be at least 1")
    if command.policy == "expert" and not robot:
        raise ValueError(f"{command.env} has no expert; only metaworld:TASK has one")
    make_policy = load_policy(command.policy) if command.policy not in (None, "expert") else StickyRandom
    env = make_env(
        command.env,
        height=command.height,
        width=command.width,
        frame_skip=command.frame_skip,
        depth=command.depth,
        labels=command.labels,
        camera=command.camera,
    )
    if command.policy == "expert":
        make_policy = partial(Expert, env, noise=command.expert_noise)
    tally = Tally()
    try:
        with (
            DatasetWriter(
                command.out,
                fps=env.fps,
                cameras=env.cameras,
                action_spec=env.action_spec,
                state_names=env.state_names,
                robot_type=command.env,
            ) as writer,
            _progress() as progress,
        ):
            bar = progress.add_task("recording", total=command.episodes, speed="")
            for _ in range(command.episodes):
                tally += record_episode(
                    env,
                    writer,
                    make_policy,
                    seed=command.seed,
                    max_steps=max_steps,
                    task=command.task or (None if robot else f"explore {command.env.partition(':')[2]}"),
                    keep=command.keep or ("success" if command.policy == "expert" else "all"),
                )
                progress.update(bar, advance=1, speed=f"{tally.frames / (tally.playing + tally.encoding):.0f} frames/s")
    finally:
        env.close()
        if tally.episodes:
            print(_summary(command, tally, env.cameras))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes, {task.fields[speed]}"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    )


def _summary(command: Record, tally: Tally, cameras: Sequence[Camera]) -> str:
    lines = [
        f"{tally.episodes} episodes, {tally.frames} frames -> {command.out}",
        f"playing  {_rate(tally.frames, tally.playing)}   (policy, environment, rendering, resizing)",
        f"encoding {_rate(tally.frames, tally.encoding)}   (video, tables, saving)",
    ]
    if tally.failures:
        lines.insert(1, f"{tally.failures} more reached no success and were not saved")
    for camera in cameras:
        if camera.kind == "depth":
            lines.append(f"depth    {_depth_summary(command, camera)}")
        if camera.kind == "labels":
            lines.append(f"labels   {', '.join(f'{number} {name}' for number, name in enumerate(camera.classes))}")
    return "\n".join(lines)


def _depth_summary(command: Record, camera: Camera) -> str:
    if command.env.startswith("doom:"):
        from oneiros.envs.doom import depth_summary

        return depth_summary(command.height, command.width)
    return f"{camera.depth_min:.1f} to {camera.depth_max:.1f} m (farther reads as {camera.depth_max:.1f})"


def _rate(frames: int, seconds: float) -> str:
    return f"{frames / seconds:6.0f} frames/s"
