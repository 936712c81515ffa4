"""`oneiros demo`: record, train, evaluate, report, in one go."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

DESCRIPTION = """From nothing to a world you can play: record ViZDoom, train a tokenizer and a world on it, measure both
on episodes they never saw, and write a report with pictures. Interrupted, it goes on where it was.

  oneiros demo
  oneiros demo --env doom:my_way_home --out maze
"""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """A demo to run. The default takes a quarter of an hour on two cores."""

    out: Path = Path("demo")
    """Where everything goes: data/, tokenizer/, world/."""

    env: str = "doom:health_gathering"
    """doom:SCENARIO or gym:ENV_ID."""

    episodes: int = 200
    """To record; the last tenth is held out and never trained on."""

    preset: Literal["tiny", "small", "base"] = "small"
    """Of the tokenizer and the world: tiny takes a minute and dreams mud."""


def main(arguments: list[str]) -> None:
    settings = tyro.cli(DemoSettings, prog="oneiros demo", args=arguments, description=DESCRIPTION)
    from oneiros import machine

    machine.prepare()
    print(_summary(settings, run(settings)))


def _summary(settings: DemoSettings, measured: dict[str, Any]) -> str:
    horizon = 4
    model, copied = (measured["psnr"][name][horizon - 1] for name in ("model", "copy_last_frame"))
    world = settings.out / "world"
    return (
        f"{horizon} frames ahead, the dream is {model - copied:+.1f} dB from copying the last frame "
        f"({model:.1f} against {copied:.1f} dB PSNR)\n"
        f"and the right actions are worth {measured['delta_psnr'][horizon - 1]:.1f} dB. It dreams "
        f"{measured['speed']['frames_per_second']:.0f} frames a second.\n\n"
        f"Look:  {world / 'eval' / 'report.html'}\n"
        f"Play:  oneiros play {world}\n"
        f"Film:  oneiros dream {world} {settings.out / 'data'} --out dream.mp4"
    )


def run(settings: DemoSettings) -> dict[str, Any]:
    """Do what is not done yet, so that an interrupted demo goes on where it was. Returns what metrics.json holds."""
    from oneiros.console import bars
    from oneiros.train.state import STATE
    from oneiros.world.evaluation.config import DriftConfig, EvalConfig
    from oneiros.world.evaluation.run import evaluate_world
    from oneiros.world.settings import TokenizerSettings, WorldSettings
    from oneiros.world.training import tokenizer, world

    began = time.monotonic()
    data, tokenizer_run, world_run = (settings.out / name for name in ("data", "tokenizer", "world"))

    _say(1, f"recording {settings.episodes} episodes of {settings.env}", began)
    _record(settings, data)

    _say(2, "training a tokenizer: frames <-> codes", began)
    begun = (tokenizer_run / STATE).is_file()
    tokenizer.run(TokenizerSettings(data=data, out=tokenizer_run, preset=settings.preset, resume=begun))

    _say(3, "training a world: codes and actions -> the next codes", began)
    begun = (world_run / STATE).is_file()
    world.run(WorldSettings(data=data, tokenizer=tokenizer_run, out=world_run, preset=settings.preset, resume=begun))

    _say(4, "measuring it on episodes it never saw", began)
    config = EvalConfig(horizon=8, drift=DriftConfig(frames=300), speed_steps=200)
    with bars() as track:
        measured = evaluate_world(world_run, data, out=world_run / "eval", config=config, track=track)
    _say(5, "done", began)
    return measured


def _record(settings: DemoSettings, data: Path) -> None:
    from oneiros.console import bars
    from oneiros.data.episodes.dataset import Dataset
    from oneiros.data.episodes.writer import DatasetWriter
    from oneiros.envs.explore import StickyRandom
    from oneiros.envs.make import make_env
    from oneiros.envs.record import record_episode

    done = len(Dataset.open(data).episodes) if data.exists() else 0
    if done >= settings.episodes:
        return
    env = make_env(settings.env, labels=settings.env.startswith("doom:"))  # to measure which things stay
    try:
        with DatasetWriter.of(env, data, robot_type=settings.env) as writer, bars() as track:
            advance = track("recording", settings.episodes - done)
            for _ in range(settings.episodes - done):
                record_episode(env, writer, StickyRandom, seed=0, max_steps=150, task=f"explore {settings.env}")
                advance(1)
    finally:
        env.close()


def _say(number: int, what: str, began: float) -> None:
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    print(f"[{number}/5, {minutes}:{seconds:02d}] {what}", file=sys.stderr, flush=True)
