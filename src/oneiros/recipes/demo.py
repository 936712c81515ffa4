"""From nothing to a world that can be played, in one go: record, train, evaluate, report."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from oneiros.console import bars
from oneiros.data.lerobot import Dataset
from oneiros.data.writer import DatasetWriter
from oneiros.envs.explore import StickyRandom
from oneiros.envs.make import make_env
from oneiros.envs.record import record_episode
from oneiros.eval.drift import DriftConfig
from oneiros.eval.run import evaluate_run
from oneiros.eval.world import EvalConfig
from oneiros.recipes import tokenizer, world
from oneiros.recipes.settings import DemoSettings, TokenizerSettings, WorldSettings


def run(settings: DemoSettings) -> dict[str, Any]:
    """Do what is not done yet, so that an interrupted demo goes on where it was. Returns what metrics.json holds."""
    began = time.monotonic()
    data, tokenizer_run, world_run = (settings.out / name for name in ("data", "tokenizer", "world"))

    _say(1, f"recording {settings.episodes} episodes of {settings.env}", began)
    _record(settings, data)

    _say(2, "training a tokenizer: frames <-> codes", began)
    tokenizer.run(_resumed(TokenizerSettings(data=data, out=tokenizer_run, preset=settings.preset)))

    _say(3, "training a world: codes and actions -> the next codes", began)
    world.run(_resumed(WorldSettings(data=data, tokenizer=tokenizer_run, out=world_run, preset=settings.preset)))

    _say(4, "measuring it on episodes it never saw", began)
    config = EvalConfig(horizon=8, drift=DriftConfig(frames=300), speed_steps=200)
    with bars() as track:
        measured = evaluate_run(world_run, data, out=world_run / "eval", config=config, track=track)
    _say(5, "done", began)
    return measured


def _record(settings: DemoSettings, data: Path) -> None:
    done = len(Dataset.open(data).episodes) if data.exists() else 0
    if done >= settings.episodes:
        return
    env = make_env(settings.env)
    try:
        with DatasetWriter.of(env, data, robot_type=settings.env) as writer, bars() as track:
            advance = track("recording", settings.episodes - done)
            for _ in range(settings.episodes - done):
                record_episode(env, writer, StickyRandom, seed=0, max_steps=150, task=f"explore {settings.env}")
                advance(1)
    finally:
        env.close()


def _resumed(settings: Any) -> Any:
    """The same run, gone on with if a checkpoint of it is there."""
    return replace(settings, resume=(settings.out / "state.pt").is_file())


def _say(number: int, what: str, began: float) -> None:
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    print(f"[{number}/5, {minutes}:{seconds:02d}] {what}", file=sys.stderr, flush=True)
