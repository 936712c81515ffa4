"""`oneiros record`: play episodes and save them as a LeRobot dataset."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from oneiros.envs.record import Tally

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
    max_steps: int = 150
    """An episode ends after so many steps, if the environment has not ended it before."""
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
    Default: random actions, each held for 1 to 8 steps."""
    seed: int = 0
    """The same seed gives the same episodes."""
    task: str | None = None
    """The instruction saved with the episodes. Default: explore and the environment's name."""


def main(arguments: list[str]) -> None:
    record(tyro.cli(Record, prog="oneiros record", args=arguments, description=DESCRIPTION))


def record(command: Record) -> None:
    """Raises ValueError for bad input and OSError for a full disk; episodes already complete stay readable."""
    from oneiros.data.writer import DatasetWriter
    from oneiros.envs.explore import StickyRandom, load_policy
    from oneiros.envs.make import make_env
    from oneiros.envs.record import Tally, record_episode

    if command.episodes < 1 or command.max_steps < 1:
        raise ValueError(f"{command.episodes} episodes of at most {command.max_steps} steps; both must be at least 1")
    make_policy = load_policy(command.policy) if command.policy else StickyRandom
    env = make_env(
        command.env,
        height=command.height,
        width=command.width,
        frame_skip=command.frame_skip,
        depth=command.depth,
        labels=command.labels,
    )
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
                    max_steps=command.max_steps,
                    task=command.task or f"explore {command.env.partition(':')[2]}",
                )
                progress.update(bar, advance=1, speed=f"{tally.frames / (tally.playing + tally.encoding):.0f} frames/s")
    finally:
        env.close()
        if tally.episodes:
            print(_summary(command, tally))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes, {task.fields[speed]}"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    )


def _summary(command: Record, tally: Tally) -> str:
    lines = [
        f"{tally.episodes} episodes, {tally.frames} frames -> {command.out}",
        f"playing  {_rate(tally.frames, tally.playing)}   (policy, environment, rendering, resizing)",
        f"encoding {_rate(tally.frames, tally.encoding)}   (video, tables, saving)",
    ]
    if command.depth:
        from oneiros.envs.doom import depth_summary

        lines.append(f"depth    {depth_summary(command.height, command.width)}")
    if command.labels:
        from oneiros.envs.doom import LABELS

        lines.append(f"labels   {', '.join(f'{number} {name}' for number, name in enumerate(LABELS))}")
    return "\n".join(lines)


def _rate(frames: int, seconds: float) -> str:
    return f"{frames / seconds:6.0f} frames/s"
