"""`oneiros eval AGENT`: what it earns in the real game and in the dream, beside chance, other agents and planners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from oneiros.agents.dream_vector import DreamVector
from oneiros.agents.eval_config import AgentEvalConfig
from oneiros.agents.evaluation import AgentPlayer, Choosing, PlannerPlayer, RandomPlayer, play
from oneiros.agents.model import Agent
from oneiros.agents.planning import PlanConfig, Planner
from oneiros.agents.real_vector import RealVector
from oneiros.agents.report import evaluation_page, save_film
from oneiros.agents.starts import read_starts, recorded_starts
from oneiros.agents.states import check_learns
from oneiros.agents.training import WORLD
from oneiros.agents.vector import WorldVector
from oneiros.console import Track
from oneiros.machine import describe
from oneiros.records import CodeClip
from oneiros.report.files import write
from oneiros.run_folder import read_config, read_origin
from oneiros.sampling import Sampling
from oneiros.world.model import World

FILMS = "films"


@dataclass(frozen=True)
class _Contender:
    """Who plays, and in whose world it sees what it plays."""

    name: str
    player: Callable[[], Choosing]
    world: World
    run: Path


def evaluate_agent(
    run: Path, *, out: Path, config: AgentEvalConfig, beside: Sequence[Path] = (), data: Path | None, track: Track
) -> dict[str, Any]:
    """Measure the agent of `run`, or with a planner what that makes of the world of `run`; write metrics.json,
    report.html and films into `out`.

    Raises ValueError for runs that hold no agent, and for an environment that does not fit their worlds.
    """
    contenders = [_agent(run, config)] if read_config(run).kind == Agent.kind else []
    world, world_run = (contenders[0].world, contenders[0].run) if contenders else _world(run)
    if config.planner:
        contenders.append(_planner(world, world_run, run, data, config))
    if not contenders:
        raise ValueError(f"{run} holds a world: it acts with --planner cem, or after `oneiros train agent {run}`")
    contenders += [_agent(path, config) for path in beside]
    chance = _Contender("random actions", lambda: RandomPlayer(seed=config.seed), world, world_run)
    players, films = [], {}
    if config.env:
        for each in (*contenders, chance):
            players.append(_in_game(each, config, track))
        films |= _film(contenders[0], _game(contenders[0], config, 1), out, "game.mp4", config)
    if config.dreams:
        starts = _beginnings(_starts(world, world_run, run, data))
        for each in [each for each in contenders if each.world is world and each.name != config.planner] + [chance]:
            players.append(_in_dream(each, starts, config, track))
        films |= _film(contenders[0], _dream(contenders[0], starts, config, 1), out, "dream.mp4", config)
    measured = {
        "env": config.env,
        "frame_stride": world.config.frame_stride,
        "players": players,
        "config": vars(config),
        "machine": describe(),
    }
    write(out, measured, evaluation_page(measured, films))
    return measured


def _agent(run: Path, config: AgentEvalConfig) -> _Contender:
    agent = Agent.load(run, config=read_config(run, Agent.kind))
    world, folder = _world(run / WORLD)
    player = lambda: AgentPlayer(agent, seed=config.seed, likeliest=config.likeliest)  # noqa: E731
    return _Contender(run.resolve().name, player, world, folder)


def _world(run: Path) -> tuple[World, Path]:
    world = World.load(run).prepare_for_inference()
    check_learns(world, run)
    return world, run


def _planner(world: World, world_run: Path, run: Path, data: Path | None, config: AgentEvalConfig) -> _Contender:
    assert config.planner is not None
    plan = config.planner
    starts = _starts(world, world_run, run, data)
    dreams = DreamVector(world, starts, num_envs=config.candidates, sampling=_sampling(config))
    planner = Planner(dreams, plan, PlanConfig(horizon=config.ahead))
    return _Contender(plan, lambda: PlannerPlayer(planner, seed=config.seed), world, world_run)


def _starts(world: World, world_run: Path, run: Path, data: Path | None) -> CodeClip:
    """Moments of the dataset's held-out episodes, or those that training kept."""
    if data is not None:
        return recorded_starts(world, world_run, data, held_out=True)
    if read_config(run).kind == Agent.kind:
        return read_starts(world, run)
    origin = read_origin(run)
    if origin.path is None or not Path(origin.path).is_dir():
        raise ValueError(f"{run} does not tell where its dataset lies; name it with --data")
    return recorded_starts(world, world_run, origin.path, held_out=True)


def _beginnings(starts: CodeClip) -> CodeClip:
    """Those that begin an episode, as the game does."""
    first = starts.valid.sum(1) == 1
    actions = None if starts.actions is None else starts.actions[first]
    return CodeClip(starts.codes[first], actions, starts.valid[first])


def _sampling(config: AgentEvalConfig) -> Sampling:
    return Sampling(temperature=config.temperature, min_p=0.0)


def _game(each: _Contender, config: AgentEvalConfig, games: int) -> RealVector:
    assert config.env is not None
    return RealVector.of_game(config.env, each.world, each.run, num_envs=games)


def _dream(each: _Contender, starts: CodeClip, config: AgentEvalConfig, dreams: int) -> DreamVector:
    sampling = _sampling(config)
    return DreamVector(each.world, starts, num_envs=dreams, sampling=sampling, max_steps=config.dream_steps)


def _in_game(each: _Contender, config: AgentEvalConfig, track: Track) -> dict[str, Any]:
    env = _game(each, config, min(config.games, config.episodes))
    return _play(each, env, config.env or "", config.episodes, config, track)


def _in_dream(each: _Contender, starts: CodeClip, config: AgentEvalConfig, track: Track) -> dict[str, Any]:
    env = _dream(each, starts, config, config.dreams)
    return _play(each, env, "dreamed", config.dreams, config, track)


def _play(
    each: _Contender, env: WorldVector, where: str, episodes: int, config: AgentEvalConfig, track: Track
) -> dict[str, Any]:
    advance = track(f"{each.name}, {where}", episodes)
    with closing(env):
        earned = play(each.player(), env, episodes=episodes, seed=config.seed, advance=advance)
    return {"name": each.name, "where": where, **earned.to_json()}


def _film(each: _Contender, env: WorldVector, out: Path, name: str, config: AgentEvalConfig) -> dict[str, float]:
    with closing(env), torch.no_grad():
        return {f"{FILMS}/{name}": save_film(each.player(), env, out / FILMS / name, seed=config.seed)}
