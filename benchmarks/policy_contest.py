"""Where prediction pays: one policy for many tasks, from a few demonstrations of each and films without actions.

    python benchmarks/policy_contest.py runs/contest
    python benchmarks/policy_contest.py runs/mt10 --tasks MT10 --demonstrations 25 --films 0

Records the scripted experts (demonstrations, and films without actions), trains a tokenizer on the films, for each
number of demonstrations a world on both, and on these the contenders: the policy that imagines, the same on features of
the observed frames alone, the same by diffusion from pixels without a world, and cloning from pixels. All act from the
same starts, in the scene that they learned from and in three that look otherwise (`--look` of `oneiros eval`). Nothing
is chosen by these starts. Prints the table, and writes it with all figures to OUT/contest.json and OUT/contest.md.

Everything that is done is kept: the same command goes on where it stopped, and with more tasks, films or starts it is
another contest (another OUT). Trainings of contenders run as so many processes (--workers), or on a Dask cluster.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneiros import machine
from oneiros.cli.record import RecordSettings, record
from oneiros.cluster import work_through
from oneiros.console import bars
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.metadata import INFO
from oneiros.envs.metaworld.tasks import task_names
from oneiros.policy.evaluation.config import PolicyEvalConfig
from oneiros.policy.evaluation.run import evaluate_policy
from oneiros.policy.evaluation.scores import paired_difference, rate
from oneiros.policy.settings import CloningSettings, PolicySettings
from oneiros.policy.training import cloning, policy
from oneiros.train.state import STATE
from oneiros.world.settings import TokenizerSettings, WorldSettings
from oneiros.world.training import tokenizer, world

# The tasks of AVDC (arXiv 2310.08576).
TASKS = [
    *("door-open", "door-close", "basketball", "shelf-place", "button-press", "button-press-topdown"),
    *("faucet-close", "faucet-open", "handle-press", "hammer", "assembly"),
]
LOOKS = {
    "as learned": (),
    "blue table": ("table=0.25,0.4,0.65",),
    "dim light from the side": ("brightness=0.6", "light=1,-1,0.5"),
    "camera moved by 5 cm": ("shift=0.04,0.03,0",),
}
CONTENDERS = {
    "policy": "policy that imagines",
    "observed": "the same, observed frames alone",
    "diffusion": "the same, from pixels, no world",
    "cloning": "cloning from pixels",
}


@dataclass(frozen=True)
class Training:
    """One contender, to be trained from so many demonstrations a task. Paths and numbers alone: it travels."""

    contender: str
    demonstrations: int
    out: Path
    preset: str
    steps: int | None
    batch_size: int | None
    stride: int
    seed: int

    @property
    def run(self) -> Path:
        return self.out / str(self.demonstrations) / self.contender


def train(job: Training) -> float:
    """Minutes of training; of a run that is there, those that it took."""
    data = job.out / f"demos-{job.demonstrations}"
    shared: dict[str, Any] = {
        "data": data,
        "out": job.run,
        "preset": job.preset,
        "steps": job.steps,
        "batch_size": job.batch_size,
        "seed": job.seed,
        "resume": (job.run / STATE).exists(),
    }
    if job.contender in ("policy", "observed"):
        frames: dict[str, Any] = {"imagined_frames": 0} if job.contender == "observed" else {}
        settings = PolicySettings(world=job.out / str(job.demonstrations) / "world", **shared, **frames)
        return policy.run(settings).seconds / 60
    pixels: dict[str, Any] = {
        "frame_stride": job.stride,
        "every": PolicySettings.every,
        "diffusion": job.contender == "diffusion",
    }
    return cloning.run(CloningSettings(**shared, **pixels)).seconds / 60


def record_into(folder: Path, tasks: str, episodes: int, options: argparse.Namespace, *, films: bool) -> None:
    """As many episodes as are missing."""
    there = len(Dataset.open(folder).episodes) if (folder / INFO).exists() else 0
    if there < episodes:
        record(
            RecordSettings(
                env=tasks,
                out=folder,
                episodes=episodes - there,
                policy="expert",
                height=96,
                width=96,
                camera="ray",
                lossless=True,
                without_actions=films,
                seed=options.seed + films,
                workers=options.workers,
            )
        )


def train_worlds(options: argparse.Namespace, numbers: list[int]) -> dict[str, float]:
    """The tokenizer, and a world for each number of demonstrations. Minutes, by name."""
    out, films, run = options.out, options.out / "films", options.out / "tokenizer"
    seen = films if options.films else out / f"demos-{max(numbers)}"
    settings = TokenizerSettings(
        data=seen,
        out=run,
        preset=options.preset,
        steps=options.tokenizer_steps,
        sharpen_steps=0,  # nobody looks at what is drawn
        seed=options.seed,
        resume=(run / STATE).exists(),
    )
    minutes = {"tokenizer": tokenizer.run(settings).seconds / 60}
    for number in numbers:
        place = out / str(number) / "world"
        learned = WorldSettings(
            data=out / f"demos-{number}",
            further=(films,) if options.films else (),
            tokenizer=run,
            out=place,
            preset=options.preset,
            steps=options.world_steps,
            frame_stride=options.frame_stride,
            seed=options.seed,
            resume=(place / STATE).exists(),
        )
        minutes[f"world, {number}"] = world.run(learned).seconds / 60
    return minutes


def evaluate(options: argparse.Namespace, tasks: str, number: int, look: tuple[str, ...], name: str) -> dict[str, Any]:
    """All contenders of so many demonstrations, from the same starts, in one look."""
    runs = [options.out / str(number) / each for each in options.contenders]
    config = PolicyEvalConfig(
        episodes=options.starts,
        max_steps=options.max_steps,
        workers=options.workers,
        cluster=options.cluster,
        videos=0,
        decisions=options.decisions if not look else 0,
        look=look,
        seed=options.seed,
    )
    out = options.out / str(number) / f"eval {name}".replace(" ", "-")
    with bars() as track:
        return evaluate_policy(runs[0], tasks, out=out, beside=runs[1:], config=config, track=track)


def under_change(cells: dict[str, dict[str, Any]], out: Path) -> dict[str, Any]:
    """Success of each contender over all looks that training never saw, and the first's paired differences."""
    won: dict[str, list[bool]] = {}
    for name in [look for look, words in LOOKS.items() if words and look in cells]:
        rows = [json.loads(line) for line in (out / f"eval {name}".replace(" ", "-") / "episodes.jsonl").open()]
        latest = {(row["contender"], row["task"], row["start"]): bool(row["success"]) for row in rows}
        for (contender, _, _), success in sorted(latest.items()):
            won.setdefault(contender, []).append(success)
    if not won:
        return {}
    first, *others = (name for name in CONTENDERS if name in won)
    paired = {name: paired_difference(won[first], won[name]) for name in others}
    return {"rates": {name: rate(won[name]) for name in (first, *others)}, "paired": paired}


def markdown(results: dict[str, Any], minutes: dict[str, float]) -> str:
    """One table: a row for each contender and number of demonstrations."""
    looks = [name for name in LOOKS if any(name in cells for cells in results.values())]
    changed = ["mean under change"] if len(looks) > 1 else []
    heads = ["demonstrations", "contender", *looks, *changed, "policy over it (95 %)", "decision, p50", "training"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for number, cells in results.items():
        by_look = {look: {each["name"]: each for each in cell["contenders"]} for look, cell in cells.items()}
        pairs = {pair["second"]: pair for pair in cells[looks[0]]["paired"]}
        change = under_change(cells, Path(cells[looks[0]]["run"]).parent) if changed else {}
        for name in (*CONTENDERS, "expert", "random"):
            if name not in by_look[looks[0]]:
                continue
            shown = [by_look[look][name]["mean"] if look in by_look else None for look in looks]
            row = [number, CONTENDERS.get(name, name), *(_rate(each) for each in shown)]
            row += [_rate(change.get("rates", {}).get(name))] if changed else []
            row.append("; ".join(filter(None, [_difference(pairs.get(name)), _changed(change, name)])))
            latency = cells[looks[0]]["latency"].get(name)
            row.append(f"{latency['decision_ms']['total']['p50']:.0f} ms" if latency else "")
            row.append(f"{minutes[f'{name}, {number}']:.0f} min" if f"{name}, {number}" in minutes else "")
            lines.append(f"| {' | '.join(row)} |")
    rest = ", ".join(f"{name} {value:.0f} min" for name, value in minutes.items() if name.startswith(("tok", "world")))
    return "\n".join(lines) + f"\n\nTraining beside these: {rest}.\n"


def _rate(found: dict[str, Any] | None) -> str:
    return f"{found['rate']:.2f} ({found['low']:.2f} to {found['high']:.2f})" if found else ""


def _difference(pair: dict[str, Any] | None) -> str:
    return f"{pair['difference']:+.2f} ({pair['low']:+.2f} to {pair['high']:+.2f})" if pair else ""


def _changed(change: dict[str, Any], name: str) -> str:
    found = _difference(change.get("paired", {}).get(name))
    return f"under change {found}" if found else ""


def contest(options: argparse.Namespace) -> str:
    """Do what is not done yet. Returns the table."""
    named = options.tasks
    tasks = f"metaworld:{named[0]}" if named[0].startswith("MT") else f"metaworld:{','.join(f'{t}-v3' for t in named)}"
    count, numbers = len(task_names(tasks.partition(":")[2])), sorted(set(options.demonstrations))
    for number in numbers:
        record_into(options.out / f"demos-{number}", tasks, number * count, options, films=False)
    if options.films:
        record_into(options.out / "films", tasks, options.films * count, options, films=True)
    minutes = train_worlds(options, numbers)
    sizes = {"preset": options.preset, "steps": options.steps, "batch_size": options.batch_size}
    place = {"out": options.out, "stride": options.frame_stride, "seed": options.seed}
    jobs = [Training(name, number, **sizes, **place) for number in numbers for name in options.contenders]
    for job, took in work_through(train, jobs, workers=options.workers, cluster=options.cluster):
        minutes[f"{job.contender}, {job.demonstrations}"] = took
    results: dict[str, dict[str, Any]] = {}
    path = options.out / "contest.json"
    for number in numbers:
        for name in options.looks:
            found = evaluate(options, tasks, number, LOOKS[name], name)
            results.setdefault(str(number), {})[name] = found
            path.write_text(json.dumps({"minutes": minutes, "results": results}, indent=1), encoding="utf-8")
    text = markdown(results, minutes)
    (options.out / "contest.md").write_text(text, encoding="utf-8")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of everything: recordings, runs, figures")
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="names without -v3, or MT10 or MT50")
    parser.add_argument("--demonstrations", nargs="+", type=int, default=[5, 10, 25], help="of each task")
    parser.add_argument("--films", type=int, default=100, help="further episodes of each task, without actions")
    parser.add_argument("--starts", type=int, default=25, help="of each task and look")
    parser.add_argument("--looks", nargs="+", choices=list(LOOKS), default=list(LOOKS))
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="small")
    parser.add_argument("--tokenizer-steps", type=int, help="default: the preset's, as of the next two")
    parser.add_argument("--world-steps", type=int)
    parser.add_argument("--steps", type=int, help="of each contender")
    parser.add_argument("--batch-size", type=int, help="of each contender")
    parser.add_argument("--frame-stride", type=int, default=4, help="rows between two frames")
    parser.add_argument("--max-steps", type=int, default=200, help="of an episode")
    parser.add_argument("--decisions", type=int, default=25, help="to time of each contender")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--cluster", help="address of a Dask scheduler instead, such as tcp://10.0.0.1:8786")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if min(*options.demonstrations, options.starts) < 1 or options.films < 0:
        parser.error("a contest needs a demonstration and a start of each task at least, and no fewer films than none")
    options.contenders = [name for name in CONTENDERS if name in options.contenders]
    options.looks = [name for name in LOOKS if name in options.looks]
    machine.prepare()
    try:
        print(contest(options))
    except (ValueError, OSError) as error:
        print(f"policy_contest: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
