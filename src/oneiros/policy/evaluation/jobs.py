"""Episodes of an evaluation as jobs, and what a process keeps from one to the next: its models and environments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneiros.policy.evaluation.film import Film, film
from oneiros.policy.evaluation.kinds import LEARNED
from oneiros.policy.evaluation.observing import ObservationSpec, open_env
from oneiros.policy.evaluation.rollouts import Actor, ExpertActor, LearnedActor, Outcome, RandomActor, play


@dataclass(frozen=True)
class Contender:
    """Who plays. kind: a key of `KINDS`. run: the folder of a model, None for expert and random. key: changes when its
    episodes would."""

    name: str
    kind: str
    run: Path | None
    observation_spec: ObservationSpec
    key: str


@dataclass(frozen=True)
class Plan:
    """What all jobs share. env: as in `make_env`; with a task, only that one of the family is opened."""

    env: str
    contenders: tuple[Contender, ...]
    max_steps: int
    seed: int
    device: str


@dataclass(frozen=True)
class Job:
    """Episodes of one contender in one task, side by side. filmed: one episode, with all its frames and what
    was imagined."""

    plan: Plan
    contender: int
    task: str | None
    starts: tuple[int, ...]
    filmed: bool = False


_players: list[_Player] = []  # of this process, one at most: building models and simulations takes a while


def play_job(job: Job) -> list[Outcome] | Film:
    """What came of a job's episodes."""
    if not _players or _players[0].plan != job.plan:
        put_away()
        _players.append(_Player(job.plan))
    return _players[0].play(job)


def put_away() -> None:
    """Close what jobs that were done in this process left open."""
    while _players:
        _players.pop().close()


class _Player:
    """What a process has built so far: the models it was asked for, and environments of the task it is at."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self._actors = plan, {}
        self._task: str | None = None
        self._envs: dict[Any, list[Any]] = {}

    def play(self, job: Job) -> list[Outcome] | Film:
        contender = self.plan.contenders[job.contender]
        actor, envs = self._actor(job.contender), self._stand(contender.observation_spec, job.task, len(job.starts))
        options = {"task": job.task, "max_steps": self.plan.max_steps, "seed": self.plan.seed}
        if job.filmed:
            assert isinstance(actor, LearnedActor)
            return film(actor, envs[0], start=job.starts[0], **options)
        return play(actor, envs, starts=job.starts, **options)

    def close(self) -> None:
        for env in (env for envs in self._envs.values() for env in envs):
            env.close()
        self._envs = {}

    def _actor(self, number: int) -> Actor:
        if number not in self._actors:
            self._actors[number] = make_actor(self.plan.contenders[number], self.plan.device)
        return self._actors[number]

    def _stand(self, spec: ObservationSpec, task: str | None, count: int) -> list[Any]:
        if task != self._task:
            self.close()
            self._task = task
        envs = self._envs.setdefault((spec.rendered, spec.depth, spec.fps), [])
        name = one_task(self.plan.env, task)
        envs += [open_env(name, spec) for _ in range(count - len(envs))]
        return envs[:count]


def make_actor(contender: Contender, device: str) -> Actor:
    if contender.run is None:
        return ExpertActor() if contender.kind == "expert" else RandomActor()
    model = LEARNED[contender.kind].load(contender.run, device=device)
    return LearnedActor(model.prepare_for_inference(), contender.observation_spec, device=device)


def one_task(env: str, task: str | None) -> str:
    """The name of an environment with this task alone: of `metaworld:MT10` and door-open-v3, metaworld:door-open-v3."""
    return env if task is None else f"{env.partition(':')[0]}:{task}"
