"""What each part of the policy is worth: the same data, world, steps and starts, with one part more or less.

    python benchmarks/policy_ablation.py DATA WORLD --env metaworld:drawer-open-v3,door-open-v3,window-open-v3

Trains a policy for each variant (no Video Former, 2D, 3D, 3D with geometry tokens, 3D aligned with geometry), lets all
act from the same starts, prints the table and writes it as markdown. DATA needs depth for geometry tokens, and labels
too for alignment. The same command again goes on where it stopped: variants that are trained are kept, and so are
batches of episodes. The table stands in docs/policy.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneiros import machine
from oneiros.console import bars
from oneiros.policy.evaluation.config import PolicyEvalConfig
from oneiros.policy.evaluation.report import result_lines
from oneiros.policy.evaluation.run import evaluate_policy
from oneiros.policy.model import Policy
from oneiros.policy.settings import PolicySettings
from oneiros.policy.training import policy
from oneiros.train.state import STATE

GEOMETRY_TOKENS = 16


@dataclass(frozen=True)
class Variant:
    """options: of `PolicySettings`."""

    name: str
    title: str
    options: dict[str, Any]


VARIANTS = (
    Variant("3d", "3D Video Former", {"former": "3d"}),
    Variant("none", "no Video Former", {"former": "none"}),
    Variant("2d", "2D Video Former", {"former": "2d"}),
    Variant("tokens", "3D + geometry tokens", {"former": "3d", "geometry_tokens": GEOMETRY_TOKENS}),
    Variant("alignment", "3D + alignment", {"former": "geometry", "alignment": True}),
)


def train(variant: Variant, options: argparse.Namespace) -> float:
    """Minutes of training; of a run that is there, those that it took."""
    out = options.out / variant.name
    settings = PolicySettings(
        data=options.data,
        world=options.world,
        out=out,
        preset=options.preset,
        steps=options.steps,
        seed=options.seed,
        resume=(out / STATE).exists(),
        **variant.options,
    )
    return policy.run(settings).seconds / 60


def parameters(run: Path) -> float:
    """Millions that were trained: all but the world's."""
    model = Policy.load(run)
    return sum(value.numel() for name, value in model.named_parameters() if not name.startswith("world.")) / 1e6


def markdown(measured: dict[str, Any], minutes: dict[str, float], out: Path) -> str:
    tasks = measured["tasks"]
    heads = ["policy", *tasks, "mean (95 %)", "over 3D (95 %)", "parameters", "a decision, p50", "training"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    by_name = {each["name"]: each for each in measured["contenders"]}
    pairs = {pair["second"]: pair for pair in measured["paired"]}
    for variant in (*VARIANTS, Variant("expert", "scripted expert", {}), Variant("random", "random actions", {})):
        if variant.name not in by_name:
            continue
        each = by_name[variant.name]
        cells = [variant.title, *(f"{each['tasks'][task]['rate']:.2f}" for task in tasks)]
        cells.append(f"{each['mean']['rate']:.3f} ({each['mean']['low']:.2f} to {each['mean']['high']:.2f})")
        cells.append(_over(pairs.get(variant.name)))
        if variant.name in minutes:
            latency = measured["latency"].get(variant.name)
            cells.append(f"{parameters(out / variant.name):.1f} M")
            cells.append(f"{latency['decision_ms']['total']['p50']:.0f} ms" if latency else "")
            cells.append(f"{minutes[variant.name]:.0f} min")
        else:
            cells += ["", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _over(pair: dict[str, Any] | None) -> str:
    """What a variant has over the first, from the same starts; pairs are told the other way round."""
    return "" if pair is None else f"{-pair['difference']:+.2f} ({-pair['high']:+.2f} to {-pair['low']:+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("world", type=Path)
    parser.add_argument("--env", required=True, help="such as metaworld:drawer-open-v3,door-open-v3,window-open-v3")
    parser.add_argument("--episodes", type=int, default=20, help="starts of each task")
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="small")
    parser.add_argument("--steps", type=int, help="of each training; default: the preset's")
    parser.add_argument("--variants", nargs="+", choices=[variant.name for variant in VARIANTS])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--decisions", type=int, default=25, help="to time of each variant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/policy_ablation"))
    options = parser.parse_args()
    machine.prepare()
    chosen = [variant for variant in VARIANTS if options.variants is None or variant.name in options.variants]
    minutes = {variant.name: train(variant, options) for variant in chosen}
    config = PolicyEvalConfig(
        episodes=options.episodes,
        max_steps=options.max_steps,
        workers=options.workers,
        videos=0,
        decisions=options.decisions,
        seed=options.seed,
    )
    first, *others = (options.out / variant.name for variant in chosen)
    with bars() as track:
        measured = evaluate_policy(
            first, options.env, out=options.out / "eval", beside=others, config=config, track=track
        )
    text = markdown(measured, minutes, options.out)
    path = options.out / "ablation.md"
    path.write_text(text, encoding="utf-8")
    print(text, *result_lines(measured), f"\n{path}", sep="\n")


if __name__ == "__main__":
    main()
