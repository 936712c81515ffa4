"""From a run folder and a dataset to metrics.json and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oneiros.console import Track, silent
from oneiros.data.episodes.dataset import Dataset
from oneiros.envs.make import make_env
from oneiros.envs.pixel_env import PixelEnv
from oneiros.machine import describe
from oneiros.report.files import write
from oneiros.run_folder import read_config, read_origin
from oneiros.world.evaluation.config import EvalConfig
from oneiros.world.evaluation.counterfactual import (
    CounterfactualConfig,
    CounterfactualFrames,
    check_actions,
    measure_counterfactual,
)
from oneiros.world.evaluation.fidelity import evaluate
from oneiros.world.evaluation.networks import Networks
from oneiros.world.evaluation.outcomes.measure import measure_outcomes
from oneiros.world.evaluation.report import About, report_html
from oneiros.world.evaluation.things.judge import Judge, SeenAs, find_judge
from oneiros.world.model import World
from oneiros.world.recorded import held_out_episodes, load_clips, load_episodes
from oneiros.world.starts import load_world


def evaluate_world(
    run: Path,
    data: Path,
    *,
    out: Path,
    config: EvalConfig | None = None,
    device: str = "cpu",
    env: str | None = None,
    episodes: Sequence[int] | None = None,
    networks: Networks | None = None,
    codec: nn.Module | None = None,
    track: Track = silent,
) -> dict[str, Any]:
    """Measure the world of a run folder on held-out episodes of a dataset; write `out`/metrics.json and report.html.

    env: an environment such as doom:health_gathering, for the counterfactual accuracy. episodes: instead of those held
    out. codec: of your own, for a world made with one. Returns what metrics.json holds. Raises ValueError for a dataset
    or env that does not fit the world.
    """
    config = config or EvalConfig()
    world, dataset = load_world(run, device=device, float32=config.float32, codec=codec), Dataset.open(data)
    chosen = tuple(episodes) if episodes else held_out_episodes(run, dataset)
    with nullcontext() if env is None else closing(_open_env(world, env, dataset)) as opened:  # or it says why not
        clips: Any = load_clips(world, run, dataset, chosen, length=config.clip_length)
        found = _judge(world, run, dataset, chosen, config, track)
        judge, why_none = (None, found) if isinstance(found, str) else (found, None)
        result = evaluate(world, clips, config=config, networks=networks, judge=judge, track=track)
        result.metrics["things"] = result.metrics["things"] or {"left_out": why_none}
        told = load_episodes(world, run, dataset, chosen)
        result.metrics["outcomes"] = measure_outcomes(world, told, config=config, track=track)
        shown: CounterfactualFrames | None = None
        if opened is not None:
            options = CounterfactualConfig(context=config.context, horizon=min(8, config.horizon), seed=config.seed)
            outcomes, shown = measure_counterfactual(world, opened, config=options, track=track)
            result.metrics["counterfactual"] = {"env": env, **outcomes}
    measured = {
        "run": str(run),
        "data": str(data),
        **result.metrics,
        "config": asdict(config),
        "machine": _machine(world),
    }
    about = About(
        run=run.resolve().name,
        data=data.resolve().name,
        fps=world.config.fps,
        stride=world.config.frame_stride,
        action_spec=world.config.action_spec,
        config={"evaluation": asdict(config), **read_config(run).to_json()},
        machine=measured["machine"],
    )
    write(out, measured, report_html(result, about, shown, judge))
    return measured


def _judge(
    world: World, run: Path, dataset: Dataset, chosen: Sequence[int], config: EvalConfig, track: Track
) -> Judge | str:
    """Who looks for things; learned on episodes that are neither held out nor measured. Or why there is none."""
    kept = {*held_out_episodes(run, dataset), *chosen}
    size = world.tokenizer.config
    camera = read_origin(run).camera_name
    known = any(each.name == camera for each in dataset.cameras)
    return find_judge(
        dataset,
        SeenAs(camera if known else None, size.height, size.width),
        learn_from=[episode.index for episode in dataset.episodes if episode.index not in kept],
        measured=chosen,
        config=config.things,
        seed=config.seed,
        track=track,
    )


def _open_env(world: World, name: str, dataset: Dataset) -> PixelEnv:
    """ValueError where its actions are not the world's, or its rate not the dataset's."""
    size = world.tokenizer.config
    env = make_env(name, height=size.height, width=size.width, depth=size.channels == 4)
    try:
        if env.fps != dataset.fps:
            raise ValueError(f"{name} makes {env.fps} steps a second; {dataset.path} was recorded at {dataset.fps} fps")
        check_actions(world, env)
    except ValueError:
        env.close()
        raise
    return env


def _machine(world: World) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        **describe(),
        "precision": sorted({str(parameter.dtype).removeprefix("torch.") for parameter in world.parameters()}),
        "device": torch.cuda.get_device_name() if world.device.type == "cuda" else str(world.device),
        "parameters": sum(parameter.numel() for parameter in world.parameters()),
    }
