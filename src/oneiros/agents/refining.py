"""The circle: an agent plays the real game, the world learns from what it met there, and the agent from that."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import torch

from oneiros.agents.model import Agent
from oneiros.agents.real_vector import Playing
from oneiros.agents.settings import AgentSettings
from oneiros.console import bars, say
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.disk import replacing
from oneiros.envs.make import make_env
from oneiros.envs.pixel_env import PixelEnv
from oneiros.envs.record import record_episode
from oneiros.run_folder import read_config, read_origin
from oneiros.train.state import STATE
from oneiros.world.model import World
from oneiros.world.settings import WorldSettings

_LONGEST = 2000  # steps of a recorded episode


class Rounds:
    """The datasets and worlds of a run's rounds. Round 0 has those that it began with; the others lie in its folder:
    data/, to which every round appends, and round-1/, round-2/, ... with their worlds."""

    def __init__(self, settings: AgentSettings, data: Path) -> None:
        self._settings, self._data = settings, data
        self._recorded = settings.out / "data"

    def world_of(self, number: int) -> Path:
        return self._settings.out / f"round-{number}" if number else self._settings.world

    def data_of(self, number: int) -> Path:
        return self._recorded if number else self._data

    def real_steps(self, number: int) -> int:
        """Steps of the real game that world and agent have learned from, recorded before the first round or since."""
        dataset = Dataset.open(self.data_of(number))
        outcomes = [dataset.outcomes(episode.index) for episode in dataset.episodes]
        return sum(
            episode.length - 1 if known is None else int(known.valid.sum())
            for episode, known in zip(dataset.episodes, outcomes, strict=True)
        )

    def refine(self, number: int, agent: Agent, world: World) -> None:
        """Record this round's episodes, and train the world on with them; what was done before a kill stays done."""
        settings = self._settings
        if not self._recorded.is_dir():
            with replacing(self._recorded) as temporary:
                shutil.copytree(self._data, temporary)
        before = len(Dataset.open(self._data).episodes)
        missing = before + number * settings.episodes - len(Dataset.open(self._recorded).episodes)
        if missing > 0:
            self._record(missing, agent, world)
        say(f"round {number}: {self.real_steps(number):,} real steps so far")
        self._train_world(number)

    def _record(self, count: int, agent: Agent, world: World) -> None:
        assert self._settings.env is not None
        name, dataset = self._settings.env, Dataset.open(self._recorded)
        game, task = _as_recorded(name, dataset), next((each.task for each in dataset.episodes), None)
        depth = read_origin(self._settings.world).depth_camera
        try:
            writing = DatasetWriter.of(game, self._recorded, outcomes=True, robot_type=name)
            with writing as writer, bars() as track:
                advance = track("recording the agent", count)
                for _ in range(count):
                    make = partial(Playing, world, _acting(agent), game, depth)
                    options = {"seed": self._settings.seed, "max_steps": _LONGEST, "task": task}
                    record_episode(game, writer, make, **options)
                    advance(1)
        finally:
            game.close()

    def _train_world(self, number: int) -> None:
        from oneiros.world.training.world import run as train_world

        settings, out = self._settings, self.world_of(number)
        begun = (out / STATE).is_file()
        preset = read_config(self._settings.world).recipe.get("preset", "small")
        train_world(
            WorldSettings(
                data=self._recorded,
                out=out,
                preset=preset,
                warm_start=self.world_of(number - 1),
                cache=settings.out / "cache",
                steps=settings.world_steps,
                recent=settings.recent,
                recent_from=len(Dataset.open(self._data).episodes),
                resume=begun,
            )
        )


def _as_recorded(name: str, dataset: Dataset) -> PixelEnv:
    """The environment with the cameras and speed of a dataset."""
    kinds = {camera.kind for camera in dataset.cameras}
    size, depth, labels = dataset.camera(None), "depth" in kinds, "labels" in kinds
    return make_env(name, height=size.height, width=size.width, depth=depth, labels=labels, fps=dataset.fps)


def _acting(agent: Agent):
    def act(features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return agent.act(features, generator=torch.Generator().manual_seed(int(rng.integers(2**62))))

    return act
