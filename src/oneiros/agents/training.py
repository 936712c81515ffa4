"""From a world to an agent that learned in its dreams, in a run folder; and back to the world, in rounds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oneiros.agents.dream_vector import DreamVector
from oneiros.agents.evaluation import AgentPlayer
from oneiros.agents.learning import Learner
from oneiros.agents.model import Agent, AgentConfig
from oneiros.agents.real_vector import RealVector
from oneiros.agents.refining import Rounds
from oneiros.agents.report import save_film, training_page
from oneiros.agents.settings import AgentSettings
from oneiros.agents.starts import recorded_starts, save_starts
from oneiros.agents.states import check_learns
from oneiros.agents.vector import WorldVector
from oneiros.console import bars, say
from oneiros.data.episodes.remote.hub import located
from oneiros.records import CodeClip
from oneiros.run_folder import CONFIG, WEIGHTS, read_config, read_origin
from oneiros.sampling import Sampling
from oneiros.train.log import Metrics
from oneiros.train.state import STATE, load_state, only_training, save_checkpoint
from oneiros.train.stop import StopRequest
from oneiros.world.built_in import STARTS
from oneiros.world.model import TOKENIZER, World

WORLD, FILMS = "world", "films"  # where a run folder holds them
_STANDARD = 4  # resets whose observations say what usual features are


@dataclass(frozen=True)
class AgentResult:
    """step: frames played in all, dreamed or real. reward: of a step, on average, at the end. seconds: of training.
    real_steps: of the game, recorded before and in rounds, or played."""

    step: int
    reward: float
    seconds: float
    real_steps: int

    def __str__(self) -> str:
        return (
            f"{self.step:,} frames, reward {self.reward:.4g} a step, {self.real_steps:,} real steps, "
            f"{self.seconds:,.0f} s"
        )


def run(settings: AgentSettings) -> AgentResult:
    """Train an agent in the dreams of `settings.world` into the run folder `settings.out`, or go on with the run there.

    Raises ValueError or OSError, in one line, for what is wrong with the world, the data, the environment or a folder;
    KeyboardInterrupt after Ctrl-C or SIGTERM, once saved.
    """
    settings = settings.checked()
    with only_training(settings.out):
        if not settings.resume and (settings.out / STATE).exists():
            raise ValueError(f"{settings.out} already holds a run; add --resume to go on with it, or choose another")
        state = load_state(settings.out) if settings.resume else None
        return _Run(settings, state).train()


class _Run:
    """A session of a run. `step` counts frames played, of all rounds."""

    def __init__(self, settings: AgentSettings, state: dict[str, Any] | None) -> None:
        self.settings, self.state = settings, state
        self.step, self.round = (int(state["step"]), int(state["config"]["round"])) if state else (0, 0)
        self.began = time.monotonic() - (float(state["seconds"]) if state else 0.0)
        origin = read_origin(settings.world, read_config(settings.world, World.kind))
        data = located(settings.data) if settings.data else Path(origin.path) if origin.path else None
        if data is None or not data.is_dir():
            lost = f" ({data} is no folder)" if data else ""
            raise ValueError(f"{settings.world} does not tell where its dataset lies{lost}; name it with --data")
        self.refinement = Rounds(settings, data)
        self.starts: CodeClip | None = None

    def train(self) -> AgentResult:
        settings = self.settings
        metrics: Metrics | None = None
        last = 0.0
        while True:
            world_run, data = self.refinement.world_of(self.round), self.refinement.data_of(self.round)
            world = World.load(world_run).prepare_for_inference()
            check_learns(world, world_run)
            starts = self.starts = recorded_starts(world, world_run, data, seed=settings.seed)
            with closing(self._env(world, starts)) as env:
                learner = self._learner(world, env)
                save = self._saver(learner, world_run, starts)
                if metrics is None:
                    settings.out.mkdir(parents=True, exist_ok=True)
                    metrics = Metrics(settings.out / "metrics.jsonl", last_step=self.step)
                last = self._learn(learner, env, metrics, save)
                agent = learner.agent
            if self.round == settings.rounds:
                break
            self.round += 1
            self.refinement.refine(self.round, agent, world)
        real = self.refinement.real_steps(self.round) if not settings.real else self.step
        self._show(agent, world, starts, real)
        return AgentResult(self.step, last, time.monotonic() - self.began, real)

    def _env(self, world: World, starts: CodeClip) -> WorldVector:
        settings = self.settings
        if settings.real:
            return self._games(world, settings.games)
        return DreamVector(
            world,
            starts,
            num_envs=settings.dreams,
            sampling=self._sampling,
            max_steps=settings.max_steps,
            seed=settings.seed,
        )

    def _games(self, world: World, count: int) -> RealVector:
        assert self.settings.env is not None
        return RealVector.of_game(self.settings.env, world, self.settings.world, num_envs=count)

    @property
    def _sampling(self) -> Sampling:
        return Sampling(temperature=self.settings.temperature, min_p=0.0)

    def _show(self, agent: Agent, world: World, starts: CodeClip, real_steps: int) -> None:
        """Films of the agent in a dream and in the real game, and the page with its curves."""
        settings, films = self.settings, {}
        places: dict[str, Callable[[], WorldVector]] = {
            "dream": lambda: DreamVector(world, starts, num_envs=1, sampling=self._sampling)
        }
        if settings.env:
            places["game"] = lambda: self._games(world, 1)
        for name, opened in places.items():
            with closing(opened()) as env:
                player = AgentPlayer(agent, seed=settings.seed)
                path = settings.out / FILMS / f"{name}.mp4"
                films[f"{FILMS}/{name}.mp4"] = save_film(player, env, path, seed=settings.seed)
        where = f"{settings.env} itself" if settings.real else f"dreams of {settings.world}"
        lead = f"{self.step:,} frames in {where}; {real_steps:,} steps of the real game in all."
        (settings.out / "report.html").write_text(
            training_page(settings.out, title=f"Training of {settings.out.name}", lead=lead, films=films),
            encoding="utf-8",
        )

    def _learner(self, world: World, env: WorldVector) -> Learner:
        """The agent and its optimiser as they were, or new ones that know what usual features are."""
        settings, spec = self.settings, world.config.action_spec
        assert spec is not None
        assert env.single_observation_space.shape is not None
        torch.manual_seed(settings.seed)
        agent = Agent(AgentConfig(spec, env.single_observation_space.shape[0], width=settings.width))
        if self.state is None:
            seen = [env.reset(seed=settings.seed + 1 + turn)[0] for turn in range(_STANDARD)]
            agent.standardise_by(torch.from_numpy(np.concatenate(seen)))
        learner = Learner(agent, env, settings.learning, seed=settings.seed + self.step)
        if self.state is not None:
            learner.load_state_dict(self.state)
        return learner

    def _saver(self, learner: Learner, world_run: Path, starts: CodeClip) -> Callable[[], None]:
        settings = self.settings

        def write(folder: Path) -> None:
            learner.agent.save(folder, recipe=settings.to_json(), data=replace(read_origin(world_run)))
            save_starts(starts, folder)
            copy_world(world_run, folder / WORLD)

        def save() -> None:
            self.state = {
                "step": self.step,
                "seconds": time.monotonic() - self.began,
                "config": {"round": self.round},
                "ema": {},
                "averages": {"sums": {}, "count": 0},
                **learner.state_dict(),
            }
            save_checkpoint(settings.out, self.state, write)

        return save

    def _learn(self, learner: Learner, env: WorldVector, metrics: Metrics, save: Callable[[], None]) -> float:
        """Until this round's frames are played. Returns the mean reward of a step at the end."""
        settings, until = self.settings, (self.round + 1) * self.settings.steps
        per_piece = settings.learning.horizon * env.num_envs
        pieces, reward = 0, 0.0
        save()
        name = "playing" if settings.real else "dreaming" if not settings.rounds else f"dreaming, round {self.round}"
        with bars() as track, StopRequest() as stop:
            bar = track(name, until, first=self.step, unit="frame")
            while self.step < until:
                began = time.monotonic()
                measured = learner.learn()
                self.step += per_piece
                pieces += 1
                reward = measured["reward"]
                speed = per_piece / (time.monotonic() - began)
                metrics.write({"step": self.step, "round": self.round, "frames_per_second": speed, **measured})
                shown = f"return {measured['return']:.4g}  " if "return" in measured else ""
                bar(min(per_piece, until + per_piece - self.step), f"{shown}reward {reward:.4g} a step  {speed:.0f}/s")
                if stop.requested or pieces % settings.save_every == 0 or self.step >= until:
                    save()
                if stop.requested and self.step < until:
                    say(f"saved at frame {self.step:,}; --resume goes on")
                    raise KeyboardInterrupt
        return reward


def copy_world(run: Path, to: Path) -> None:
    """What dreaming takes of a world's run folder."""
    for part in (Path(), Path(TOKENIZER)):
        (to / part).mkdir(parents=True, exist_ok=True)
        for name in (CONFIG, WEIGHTS, STARTS):
            if (run / part / name).is_file():
                shutil.copy(run / part / name, to / part / name)
