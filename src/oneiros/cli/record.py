"""`oneiros record`: play episodes and save them as a LeRobot dataset."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from oneiros.data.episodes.episode_writer import EpisodeApart, RecordedEpisode
    from oneiros.data.episodes.format import RecordingFormat
    from oneiros.data.episodes.writer import DatasetWriter
    from oneiros.envs.explore import ActionSource
    from oneiros.envs.pixel_env import PixelEnv
    from oneiros.envs.record import Tally
    from oneiros.records import Camera

EXPERT = "expert"
WALK = "walk"
_ROBOT = "metaworld:"

DESCRIPTION = """Play episodes and save them as a LeRobot dataset (v3.0).

ViZDoom scenarios are recorded with their keys, any of them held together, and with the pose of the camera. Meta-World's
tasks, a robot arm at a table, are seen by a camera that needs no graphics card and played by scripted experts, of whom
only episodes that succeed are kept. Any other Gymnasium environment that renders to an array is recorded with its own
actions. Recording into an existing dataset appends. The dataset is the same for any number of workers.

  oneiros record doom:health_gathering --episodes 60 --out data
  oneiros record doom:health_gathering --episodes 6000 --out data --workers 8
  oneiros record doom:my_way_home --policy walk --depth --labels --episodes 60 --out maze
  oneiros record metaworld:drawer-open-v3 --policy expert --episodes 50 --out drawer
  oneiros record metaworld:door-open-v3,window-open-v3 --policy expert --depth --labels --episodes 50 --out two-tasks
  oneiros record gym:gym_pusht/PushT-v0 --episodes 20 --out pusht
"""


@dataclass(frozen=True)
class RecordSettings:
    env: Annotated[str, tyro.conf.Positional]
    """doom:SCENARIO (or doom:PATH.cfg, one of your own), metaworld:TASK or gym:ENV_ID. Tasks of Meta-World may be
    joined by commas and then take turns; metaworld:MT10 and metaworld:MT50 are its ten and fifty. gym:MODULE:ENV_ID
    where a module of yours registers it."""
    out: Path
    """The dataset's folder: new, empty, or a dataset of the same environment to append to."""
    episodes: int = 10
    """How many episodes to save."""
    max_steps: int | None = None
    """An episode ends after so many steps, if the environment has not ended it before. Default: 150, Meta-World 200."""
    height: int = 64
    """Pixels from top to bottom."""
    width: int = 64
    """Pixels from left to right. The whole view is kept, and squeezed where its shape is another; Meta-World's view
    grows wider instead."""
    frame_skip: int | None = None
    """How long one step lasts: in ViZDoom's tics of 1/35 s (default 4), in steps of Meta-World's simulation of 1/80 s
    (default 1), or in steps of a Gymnasium env (default 1)."""
    depth: bool = False
    """Record depth in metres too (ViZDoom, Meta-World)."""
    labels: bool = False
    """Record the class of every pixel too (ViZDoom, Meta-World)."""
    policy: str | None = None
    """expert: Meta-World's scripted expert of the task, who knows the goal. walk: ViZDoom with --depth, goes where
    there is room instead of into walls, and wanders now and then. module:function: called as f(observation, spec, rng),
    returns an action; a class is made anew each episode. Default: random actions, each held for 1 to 8 steps."""
    keep: Literal["success", "all"] | None = None
    """Which episodes to save: all, or those that reach success, trying anew until there are enough. Default: success
    with the expert, else all."""
    expert_noise: float = 0.0
    """Standard deviation of what is added to each action of the expert, who then has mistakes to correct. What was done
    is what is saved."""
    without_actions: bool = False
    """Keep what was seen and not what was done: a film, from which a world learns too (`oneiros train world` takes
    several datasets). What is appended to it later may have actions."""
    lossless: bool = False
    """Record colour without loss, in five times the room: what a policy sees live is then what it learned from."""
    camera: Literal["auto", "ray", "renderer"] = "auto"
    """What draws Meta-World: ray needs no OpenGL, renderer is MuJoCo's own (slower, with textures), auto takes that one
    where MUJOCO_GL is set and works. Policies want the camera that their demonstrations were recorded with."""
    look: tuple[str, ...] = ()
    """How Meta-World is to look otherwise, by rays: table=0.7,0.2,0.2 (its colour), brightness=0.6, light=1,0,1 (where
    it comes from), shift=0.03,0,0 (metres, of the camera)."""
    state: bool = True
    """Record the numbers that a Gymnasium environment observes, too, where that is a vector."""
    env_args: tuple[str, ...] = ()
    """What a Gymnasium environment is made with, such as level=3 render_size=84."""
    seed: int = 0
    """The same seed gives the same episodes."""
    task: str | None = None
    """The instruction saved with the episodes. Default: the task's name in words, else explore and the environment's
    name."""
    workers: int = 1
    """Processes that play episodes side by side."""
    cluster: str | None = None
    """Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers play. They need this package, and the
    dataset's folder and a policy of yours under the same paths; extra: cluster."""


def main(arguments: list[str]) -> None:
    record(tyro.cli(RecordSettings, prog="oneiros record", args=arguments, description=DESCRIPTION))


def record(command: RecordSettings) -> None:
    """Record episodes. Raises ValueError for bad input, OSError for a full disk; complete episodes stay readable."""
    from oneiros.console import bars, say
    from oneiros.data.episodes.writer import DatasetWriter
    from oneiros.envs.record import Tally

    _check(command)
    stage = _Stage(command)
    tally, began = Tally(), time.perf_counter()
    try:
        with (
            DatasetWriter.of(
                stage.env,
                command.out,
                outcomes=True,
                robot_type=command.env,
                confidence=command.without_actions,
                lossless=command.lossless,
            ) as writer,
            bars() as track,
        ):
            if not writer.format.outcomes:
                say(f"{command.out} was begun without rewards and ends, and goes on without")
            advance = track("recording", command.episodes)
            for recorded in stage.record(writer) if _alone(command) else _record_by_many(command, writer):
                tally += recorded
                advance(1, f"{(tally.frames + tally.dropped) / (time.perf_counter() - began):.0f} frames/s")
    finally:
        stage.close()
        if tally.episodes:
            print(_summary(command, tally, stage.env, time.perf_counter() - began))


class _Stage:
    """The environment of a recording, and who plays in it."""

    def __init__(self, command: RecordSettings) -> None:
        from oneiros.envs.look import read_look
        from oneiros.envs.make import make_env, read_arguments

        self.command = command
        self.env: PixelEnv = make_env(
            command.env,
            height=command.height,
            width=command.width,
            frame_skip=command.frame_skip,
            depth=command.depth,
            labels=command.labels,
            camera=command.camera,
            state=command.state,
            arguments=read_arguments(command.env_args),
            look=read_look(command.look),
        )
        self._make_policy = _policy_of(command, self.env)

    def record_one(self, writer: DatasetWriter | EpisodeApart) -> Tally:
        from oneiros.envs.record import record_episode

        command, task = self.command, self.command.task
        if task is None and not command.env.startswith(_ROBOT):
            task = f"explore {command.env.partition(':')[2]}"
        return record_episode(
            self.env,
            writer,
            self._make_policy,
            seed=command.seed,
            max_steps=_max_steps(command),
            task=task,
            keep=command.keep or ("success" if command.policy == EXPERT else "all"),
            without_actions=command.without_actions,
        )

    def record(self, writer: DatasetWriter) -> Iterator[Tally]:
        for _ in range(self.command.episodes):
            yield self.record_one(writer)

    def close(self) -> None:
        self.env.close()


def _policy_of(command: RecordSettings, env: PixelEnv) -> Callable[[], ActionSource]:
    """What is made anew for each episode, and chooses its actions."""
    from oneiros.envs.explore import Expert, StickyRandom, load_policy
    from oneiros.envs.walk import Walker

    if command.policy == EXPERT:
        return partial(Expert, env, noise=command.expert_noise)
    if command.policy == WALK:
        Walker.check(env)
        return Walker
    return load_policy(command.policy) if command.policy else StickyRandom


@dataclass(frozen=True)
class _Job:
    """The episode of a recording at one place of the dataset. scratch: a folder in which it makes one of its own."""

    command: RecordSettings
    format: RecordingFormat
    place: int
    scratch: Path


_stages: list[_Stage] = []  # of a worker, one at most: starting a game takes a while


def _play(job: _Job) -> tuple[RecordedEpisode, Tally] | Exception:
    """A job's episode; or what stopped it, to be raised when the dataset has come to its place."""
    from oneiros.data.episodes.episode_writer import EpisodeApart

    try:
        if not _stages or _stages[0].command != job.command:
            while _stages:
                _stages.pop().close()
            _stages.append(_Stage(job.command))
        folder = Path(tempfile.mkdtemp(dir=job.scratch))  # not that of a worker which is thought dead
        apart = EpisodeApart(job.format, folder, path=job.command.out, num_episodes=job.place)
        tally = _stages[0].record_one(apart)
    except (ValueError, OSError) as error:
        return (ValueError if isinstance(error, ValueError) else OSError)(str(error))
    assert apart.recorded is not None
    return apart.recorded, tally


def _record_by_many(command: RecordSettings, writer: DatasetWriter) -> Iterator[Tally]:
    """Episodes that workers play side by side, saved one after another in the order of their places."""
    from oneiros.cluster import work_through

    first, scratch = writer.num_episodes, writer.scratch.absolute() / "apart"
    scratch.mkdir(parents=True)
    jobs = [_Job(command, writer.format, first + number, scratch) for number in range(command.episodes)]
    waiting = {}
    for job, result in work_through(_play, jobs, workers=command.workers, cluster=command.cluster):
        waiting[job.place] = result
        while (ready := waiting.pop(writer.num_episodes, None)) is not None:
            if isinstance(ready, Exception):
                raise ready
            episode, tally = ready
            began = time.perf_counter()
            writer.append(episode)
            for folder in {path.parent for path in episode.videos.values()}:
                shutil.rmtree(folder)
            yield replace(tally, encoding=tally.encoding + time.perf_counter() - began)


def _alone(command: RecordSettings) -> bool:
    return command.workers == 1 and command.cluster is None


def _max_steps(command: RecordSettings) -> int:
    if command.max_steps is not None:
        return command.max_steps
    return 200 if command.env.startswith(_ROBOT) else 150


def _check(command: RecordSettings) -> None:
    max_steps = _max_steps(command)
    if command.episodes < 1 or max_steps < 1:
        raise ValueError(f"{command.episodes} episodes of at most {max_steps} steps; both must be at least 1")
    if command.policy == EXPERT and not command.env.startswith(_ROBOT):
        raise ValueError(f"{command.env} has no expert; only metaworld:TASK has")
    if command.expert_noise < 0 or (command.expert_noise > 0 and command.policy != EXPERT):
        raise ValueError(f"expert noise is {command.expert_noise}; at least 0, and only with --policy expert")
    if command.workers < 1:
        raise ValueError(f"--workers is {command.workers}; it must be at least 1")


def _summary(command: RecordSettings, tally: Tally, env: PixelEnv, seconds: float) -> str:
    played = tally.frames + tally.dropped
    lines = [
        f"{tally.episodes} episodes, {tally.frames} frames -> {command.out}",
        f"playing  {_rate(played, tally.playing)}   (policy, environment, rendering, resizing)",
        f"encoding {_rate(played, tally.encoding)}   (video, tables, saving)",
    ]
    if not _alone(command):
        lines.append(f"together {_rate(played, seconds)}   (the two above are of one worker)")
    if tally.failures:
        lines.insert(1, f"{tally.failures} of {tally.episodes + tally.failures} attempts failed and were not saved")
    if env.camera_kind is not None:
        lines.append(f"camera   {'rays' if env.camera_kind == 'ray' else 'the renderer of MuJoCo'}")
    for camera in env.cameras:
        if camera.kind == "depth":
            lines.append(f"depth    {_depth_summary(command, camera)}")
        if camera.kind == "labels":
            lines.append(f"labels   {', '.join(f'{number} {name}' for number, name in enumerate(camera.classes))}")
    return "\n".join(lines)


def _depth_summary(command: RecordSettings, camera: Camera) -> str:
    if command.env.startswith("doom:"):
        from oneiros.envs.doom import depth_summary

        return depth_summary(command.height, command.width)
    return f"{camera.depth_min:.1f} to {camera.depth_max:.1f} m (farther reads as {camera.depth_max:.1f})"


def _rate(frames: int, seconds: float) -> str:
    return f"{frames / seconds:6.0f} frames/s"
