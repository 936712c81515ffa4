"""Processes that play episodes for an evaluation: each with one torch thread, its own models and environments.

A process stays with a task as long as there is work in it, because building a simulation takes a while.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
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

    contender: int
    task: str | None
    starts: tuple[int, ...]
    filmed: bool = False


Result = list[Outcome] | Film


def run_jobs(
    plan: Plan,
    jobs: Sequence[Job],
    *,
    processes: int,
    ended: Callable[[int], None],
    finished: Callable[[Job, Any], None],
) -> None:
    """Do all jobs; `finished` is called with each and its result, in the order they are done.

    ended: called with numbers of episodes as they come to their end. An error in a process is raised here, the others
    stop. Processes die with this one.
    """
    context, left = get_context("spawn"), list(jobs)
    workers: dict[Connection, Any] = {}
    working: dict[Connection, Job] = {}
    try:
        for _ in range(min(processes, len(jobs))):
            here, there = context.Pipe()
            worker = context.Process(target=_work, args=(there, plan, os.getpid()), daemon=True)
            worker.start()
            there.close()
            workers[here] = worker
            working[here] = _hand_out(here, left, working, None)
        while working:
            for connection in wait(list(working)):
                assert isinstance(connection, Connection)
                job = working[connection]
                try:
                    word, content = connection.recv()
                except (EOFError, ConnectionResetError):
                    code = workers[connection].exitcode
                    raise OSError(
                        f"a process that played episodes died (exit code {code}): memory? Try --processes 1, or run "
                        "the same command again, it goes on from the last whole batch"
                    ) from None
                if word == "ended":
                    ended(content)
                elif word == "failed":
                    raise content
                else:
                    del working[connection]
                    finished(job, content)
                    if left:
                        working[connection] = _hand_out(connection, left, working, job.task)
    finally:
        for connection, worker in workers.items():
            connection.close()
            worker.terminate()
        for worker in workers.values():
            worker.join()


def _hand_out(connection: Connection, left: list[Job], working: dict[Connection, Job], task: str | None) -> Job:
    """The next job for a process: of its own task, else of one nobody is at, else any."""
    taken = {job.task for job in working.values()}
    mine = next((job for job in left if task is not None and job.task == task), None)
    free = next((job for job in left if job.task not in taken), None)
    job = mine or free or left[0]
    left.remove(job)
    connection.send(job)
    return job


def _work(connection: Connection, plan: Plan, parent: int) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started this process
    torch.set_num_threads(1)
    player = _Player(plan)

    def ended(count: int) -> None:
        if os.getppid() != parent:  # killed: nobody waits for the rest
            os._exit(1)
        if count:
            connection.send(("ended", count))

    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("done", player.play(job, ended)))
        except Exception as error:
            error.add_note(traceback.format_exc())
            connection.send(("failed", _portable(error)))


def _portable(error: Exception) -> Exception:
    """An error that another process can read: environments raise some that cannot be rebuilt there."""
    if isinstance(error, ModuleNotFoundError):
        return ModuleNotFoundError(str(error), name=error.name)
    if type(error) in (ValueError, OSError):
        return error
    return RuntimeError("".join(traceback.format_exception(error)))


class _Player:
    """What a process has built so far: the models it was asked for, and environments of the task it is at."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._actors = plan, {}
        self._task: str | None = None
        self._envs: dict[Any, list[Any]] = {}

    def play(self, job: Job, ended: Callable[[int], None]) -> Result:
        contender = self._plan.contenders[job.contender]
        actor, envs = self._actor(job.contender), self._stand(contender.observation_spec, job.task, len(job.starts))
        options = {"task": job.task, "max_steps": self._plan.max_steps, "seed": self._plan.seed, "ended": ended}
        if job.filmed:
            assert isinstance(actor, LearnedActor)
            return film(actor, envs[0], start=job.starts[0], **options)
        return play(actor, envs, starts=job.starts, **options)

    def _actor(self, number: int) -> Actor:
        if number not in self._actors:
            self._actors[number] = make_actor(self._plan.contenders[number], self._plan.device)
        return self._actors[number]

    def _stand(self, spec: ObservationSpec, task: str | None, count: int) -> list[Any]:
        if task != self._task:
            for env in (env for envs in self._envs.values() for env in envs):
                env.close()
            self._envs, self._task = {}, task
        envs = self._envs.setdefault((spec.rendered, spec.depth, spec.fps), [])
        name = one_task(self._plan.env, task)
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
