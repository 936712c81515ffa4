"""How many codes to draw together: speed of play against quality, after equal training time.

    python benchmarks/tokens_per_step.py demo/data demo/tokenizer --minutes 4

Trains one small world for each value, all for the same wall-clock time on the same codes, then measures PSNR over
copying the last frame on held-out episodes and the time of a step. The table stands in docs/tokens-per-step.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from oneiros import machine
from oneiros.world.evaluation.config import DriftConfig, EvalConfig
from oneiros.world.evaluation.run import evaluate_world
from oneiros.world.settings import WorldSettings
from oneiros.world.training import world

CALIBRATION_STEPS = 40
HORIZON = 4


def train(settings: WorldSettings) -> None:
    shutil.rmtree(settings.out, ignore_errors=True)
    world.run(settings)


def seconds_per_step(out: Path) -> float:
    """Of the later half of a run, without its start."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    first, last = rows[len(rows) // 2 - 1], rows[-1]
    return (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])


def row(data: Path, tokenizer: Path, out: Path, tokens_per_step: int, minutes: float) -> dict[str, float]:
    trial = WorldSettings(
        data=data, tokenizer=tokenizer, out=out / "trial", tokens_per_step=tokens_per_step, steps=CALIBRATION_STEPS
    )
    train(trial)
    steps = max(int(minutes * 60 / seconds_per_step(trial.out)), 1)
    run = out / f"tokens_{tokens_per_step}"
    train(WorldSettings(data=data, tokenizer=tokenizer, out=run, tokens_per_step=tokens_per_step, steps=steps))
    config = EvalConfig(clips=128, horizon=HORIZON, drift=DriftConfig(frames=0), speed_steps=100)
    measured = evaluate_world(run, data, out=run / "eval", config=config)
    gain = measured["psnr"]["model"][-1] - measured["psnr"]["copy_last_frame"][-1]
    return {
        "tokens_per_step": tokens_per_step,
        "steps": steps,
        "psnr": measured["psnr"]["model"][-1],
        "gain": gain,
        "delta": measured["delta_psnr"][-1],
        "p50": measured["speed"]["step_ms"]["p50"],
        "fps": measured["speed"]["frames_per_second"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, for each value")
    parser.add_argument("--values", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--out", type=Path, default=Path("runs/tokens_per_step"))
    options = parser.parse_args()
    machine.prepare()
    print("| tokens_per_step | training steps | PSNR at 4 | over copy-last-frame | delta-PSNR | step p50 | frames/s |")
    print("|---|---|---|---|---|---|---|")
    for value in options.values:
        values = row(options.data, options.tokenizer, options.out, value, options.minutes)
        print(
            "| {tokens_per_step} | {steps} | {psnr:.2f} dB | {gain:+.2f} dB | {delta:.2f} dB | {p50:.1f} ms "
            "| {fps:.0f} |".format(**values),
            flush=True,
        )


if __name__ == "__main__":
    main()
