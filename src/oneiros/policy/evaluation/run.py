"""How often a policy succeeds in its environment, beside other runs, the expert and chance.

Each batch that is done is added to `out`/episodes.jsonl; a batch that is there already, of the same weights,
environment and settings, is not played again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from oneiros.cluster import work_through
from oneiros.console import Track, silent
from oneiros.disk import alone
from oneiros.envs.look import read_look
from oneiros.json_file import parse_json
from oneiros.machine import describe
from oneiros.policy.evaluation.config import PolicyEvalConfig
from oneiros.policy.evaluation.contenders import find_contenders
from oneiros.policy.evaluation.film import Film, save_film
from oneiros.policy.evaluation.jobs import Contender, Job, Plan, make_actor, one_task, play_job, put_away
from oneiros.policy.evaluation.latency import measure_latency
from oneiros.policy.evaluation.observing import open_env
from oneiros.policy.evaluation.report import report_html
from oneiros.policy.evaluation.rollouts import LearnedActor, Outcome
from oneiros.policy.evaluation.scores import Row, scores
from oneiros.report.files import write
from oneiros.run_folder import from_json

EPISODES, VIDEOS = "episodes.jsonl", "videos"


def evaluate_policy(
    run: Path,
    env: str,
    *,
    out: Path,
    beside: Sequence[Path] = (),
    config: PolicyEvalConfig | None = None,
    device: str = "cpu",
    track: Track = silent,
) -> dict[str, Any]:
    """Play every contender from the same starts; write `out`/metrics.json, report.html and videos/.

    Returns what metrics.json holds. Raises ValueError for runs and environments that do not fit each other.
    """
    config = config or PolicyEvalConfig()
    settings = {"max_steps": config.max_steps, "seed": config.seed, "look": read_look(config.look)}
    contenders, tasks = find_contenders(run, beside, env=env, **settings)
    plan = Plan(env, contenders, config.max_steps, config.seed, device)
    with alone(out / EPISODES):
        rows, films = _play(plan, tasks, out, config, track)
    latency = _latencies(plan, tasks[0], config, track)
    measured = {
        "run": str(run),
        "env": env,
        **scores([(each.name, each.kind) for each in contenders], rows),
        "latency": latency,
        "videos": [str(Path(VIDEOS) / save_film(film, out / VIDEOS).name) for film in films],
        "config": asdict(config),
        "machine": describe(),
    }
    write(out, measured, report_html(measured, films))
    return measured


def _play(
    plan: Plan, tasks: Sequence[str | None], out: Path, config: PolicyEvalConfig, track: Track
) -> tuple[list[Row], list[Film]]:
    keys = {each.key: each.name for each in plan.contenders}
    rows = [row for row in _read(out / EPISODES) if row["key"] in keys]
    done = {(row["key"], row["task"], row["start"]) for row in rows}
    jobs, every = [], _jobs(plan, tasks, config)
    for job in every:
        key = plan.contenders[job.contender].key
        if not all((key, job.task, start) in done for start in job.starts):
            jobs.append(job)
    films: dict[Job, Film] = {}
    filming = _filming(plan, tasks, config)
    advance = track("playing episodes", sum(len(job.starts) for job in (*every, *filming)))
    advance(sum(len(job.starts) for job in every) - sum(len(job.starts) for job in jobs))
    try:
        for job, result in work_through(play_job, [*jobs, *filming], workers=config.workers, cluster=config.cluster):
            if isinstance(result, Film):
                films[job] = result
            else:
                _append(out / EPISODES, plan.contenders[job.contender], job.task, result)
            advance(len(job.starts))
    finally:
        put_away()
    played = [(plan.contenders[job.contender].key, job.task, start) for job in every for start in job.starts]
    latest = {(row["key"], row["task"], row["start"]): row for row in _read(out / EPISODES)}
    return [_row(latest[each], keys) for each in played], [films[job] for job in filming]


def _jobs(plan: Plan, tasks: Sequence[str | None], config: PolicyEvalConfig) -> list[Job]:
    """Batches of starts, task by task: learned contenders first, they take longest."""
    numbers = sorted(range(len(plan.contenders)), key=lambda number: plan.contenders[number].run is None)
    return [
        Job(plan, number, task, tuple(range(first, min(first + config.batch_size, config.episodes))))
        for task in tasks
        for number in numbers
        for first in range(0, config.episodes, config.batch_size)
    ]


def _filming(plan: Plan, tasks: Sequence[str | None], config: PolicyEvalConfig) -> list[Job]:
    """The first starts of every task in turns."""
    count = min(config.videos, len(tasks) * config.episodes)
    return [Job(plan, 0, tasks[i % len(tasks)], (i // len(tasks),), filmed=True) for i in range(count)]


def _read(path: Path) -> list[dict[str, Any]]:
    """Those that are rows alone: a killed run may have left half a one at the end."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):
            row = parse_json(line, str(path))
            values = row if isinstance(row, dict) else {}
            from_json(Row, {each.name: values[each.name] for each in fields(Row) if each.name in values}, "a row")
            if isinstance(values.get("key"), str):
                rows.append(values)
    return rows


def _append(path: Path, contender: Contender, task: str | None, outcomes: Iterable[Outcome]) -> None:
    """A batch in one piece, on disk when this returns."""
    head = {"key": contender.key, "contender": contender.name, "task": task}
    text = "".join(json.dumps({**head, **asdict(outcome)}) + "\n" for outcome in outcomes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell() and not _ends_a_line(file):
            text = "\n" + text
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _row(row: dict[str, Any], names: dict[str, str]) -> Row:
    return Row(
        contender=names[row["key"]],
        task=row["task"],
        start=row["start"],
        success=row["success"],
        steps=row["steps"],
        total=row["total"],
    )


def _latencies(plan: Plan, task: str | None, config: PolicyEvalConfig, track: Track) -> dict[str, Any]:
    """Of every run, by its name, one environment at a time, with all threads that torch takes."""
    runs = [each for each in plan.contenders if each.run is not None]
    if config.decisions == 0:
        return {}
    advance, found = track("timing single decisions", len(runs) * config.decisions), {}
    for contender in runs:
        actor, env = make_actor(contender, plan.device), open_env(one_task(plan.env, task), contender.observation_spec)
        assert isinstance(actor, LearnedActor)
        try:
            found[contender.name] = measure_latency(
                actor, env, task=task, decisions=config.decisions, max_steps=config.max_steps, advance=advance
            )
        finally:
            env.close()
    return found
