"""`oneiros eval`: how well a world dreams held-out episodes and obeys, or a segmenter labels held-out clouds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from oneiros.eval.world import EvalConfig

DESCRIPTION = """Measure a world on episodes, or a segmenter on clouds, that it never trained on.

Clips of held-out episodes are dreamed on from a few real frames and set beside what happened: PSNR and SSIM by dreamed
frame, next to copying the last frame and to the tokenizer's own reconstruction; how much the player's actions matter;
what becomes of long dreams; how fast a step is. Writes metrics.json and report.html, one page with everything in it.
docs/metrics.md explains each figure.

Of a segmenter: IoU, F1, precision and recall of each class, the confusion matrix and pictures of the errors.

  oneiros eval runs/world data
  oneiros eval runs/world data --env doom:health_gathering   also: the same start, another action, against the env
  oneiros eval runs/segmenter                                the clouds that its training held out
  oneiros eval runs/segmenter tiles/*.laz                    these classified clouds
"""

CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


@dataclass(frozen=True)
class Eval:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder of a world or a segmenter."""
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA...")] = ()
    """For a world, the dataset; of the one it was trained on, only episodes held out then are used. For a segmenter,
    classified clouds. Default: those its training held out. The options below are for worlds, but for --out and
    --device."""
    out: Path | None = None
    """Where metrics.json and report.html go. Default: eval/ in the run folder."""
    episodes: tuple[int, ...] = ()
    """Evaluate on these episodes instead of those held out."""
    clips: int = 256
    """How many clips, drawn without repetition."""
    context: int = 8
    """Real frames that each dream is given."""
    horizon: int = 16
    """Frames that each dream goes on."""
    temperature: float = 0.9
    """Of the sampled variant, the long dreams and the timing; the other figures draw nothing at random."""
    drift: int = 1000
    """Length of the long dreams in frames; 0 leaves them out."""
    drift_dreams: int = 4
    """How many long dreams, side by side."""
    speed_steps: int = 300
    """How many steps of a single dream are timed; 0 leaves it out."""
    env: str | None = None
    """The environment of the recording, such as doom:health_gathering: asks it and the dream what the same start
    becomes under other actions."""
    lpips: str | None = None
    """module:function that returns the LPIPS (M,) of two batches of frames (M, 3, H, W) in [-1, 1]; the weights are
    yours to bring."""
    fvd: str | None = None
    """module:function that returns features (M, D) of clips (M, T, 3, H, W) in [-1, 1]; likewise."""
    batch_size: int = 32
    """Clips dreamed at once."""
    device: str = "cpu"
    """Such as cuda."""
    seed: int = 0
    """The same seed gives the same figures, speed apart."""


def main(arguments: list[str]) -> None:
    evaluate(tyro.cli(Eval, prog="oneiros eval", args=arguments, description=DESCRIPTION, config=CONFIG))


def evaluate(command: Eval) -> None:
    """Raises ValueError where run, data, env and options do not fit each other."""
    from oneiros.models.checkpoint import read_config

    if read_config(command.run).get("kind") == "segmenter":
        _evaluate_segmenter(command)
    else:
        _evaluate_world(command)


def _evaluate_segmenter(command: Eval) -> None:
    from rich.console import Console

    from oneiros.eval.files import METRICS, REPORT
    from oneiros.eval.progress import bars
    from oneiros.eval.segmentation import score_table
    from oneiros.recipes.segmentation import evaluate_segmenter

    out = command.out or command.run / "eval"
    with bars() as track:
        scores = evaluate_segmenter(command.run, command.data, out=out, device=command.device, track=track)
    Console().print(score_table(scores))
    print(f"\n{out / METRICS}\n{out / REPORT}")


def _evaluate_world(command: Eval) -> None:
    from oneiros.eval.files import METRICS, REPORT
    from oneiros.eval.networks import Networks, find_function
    from oneiros.eval.progress import bars
    from oneiros.eval.run import evaluate_run

    if len(command.data) != 1:
        raise ValueError(f"a world is measured on one dataset; {len(command.data)} are named")
    networks = Networks(*(find_function(name) if name else None for name in (command.lpips, command.fvd)))
    out = command.out or command.run / "eval"
    with bars() as track:
        measured = evaluate_run(
            command.run,
            command.data[0],
            out=out,
            config=_config(command),
            device=command.device,
            env=command.env,
            episodes=command.episodes,
            networks=networks,
            track=track,
        )
    _print(measured)
    print(f"\n{out / METRICS}\n{out / REPORT}")


def _config(command: Eval) -> EvalConfig:
    from oneiros.eval.drift import DriftConfig
    from oneiros.eval.world import EvalConfig
    from oneiros.records import Sampling

    return EvalConfig(
        clips=command.clips,
        context=command.context,
        horizon=command.horizon,
        seed=command.seed,
        batch_size=command.batch_size,
        sampling=Sampling(temperature=command.temperature),
        drift=DriftConfig(frames=command.drift, dreams=command.drift_dreams),
        speed_steps=command.speed_steps,
    )


def _print(measured: dict[str, Any]) -> None:
    """The figures by dreamed frame as a table, the rest in a line each."""
    from rich.console import Console
    from rich.table import Table

    horizons = [h for h in (1, 2, 4, 8, 16, 32, 64) if h <= measured["horizon"]]
    table = Table("dreamed frame", *(str(h) for h in horizons), title=f"{measured['clips']} held-out clips")
    psnr, ssim = measured["psnr"], measured["ssim"]
    rows = {
        "PSNR dream": psnr["model"],
        "PSNR dream, sampled": psnr["sampled"],
        "PSNR dream, likeliest": psnr["likeliest"],
        "PSNR copy last frame": psnr["copy_last_frame"],
        "PSNR tokenizer (ceiling)": psnr["reconstruction"],
        "PSNR gain over copying": measured["psnr_gain"],
        "delta-PSNR": measured["delta_psnr"],
        "SSIM dream": ssim["model"],
        "SSIM copy last frame": ssim["copy_last_frame"],
    }
    for name, values in rows.items():
        if values:
            digits = 3 if "SSIM" in name else 2
            table.add_row(name, *(f"{values[h - 1]:.{digits}f}" for h in horizons))
    Console().print(table)
    if recovery := measured["action_recovery"]:
        name, real = next(iter(recovery["real"].items()))
        dreamed = (recovery["dreamed"] or {}).get(name)
        last = f", {dreamed[-1]:.2f} after {len(dreamed)} dreamed frames" if dreamed else ""
        print(f"action recovery  {name} {real:.2f} on real frames{last}")
    if told := measured.get("counterfactual"):
        accuracy = " ".join("-" if value is None else f"{value:.2f}" for value in told["accuracy"])
        print(f"counterfactual   accuracy by frame {accuracy} (chance {told['chance']:.2f})")
    if drift := measured["drift"]:
        share = drift["sharpness"][-1] / max(drift["real"]["sharpness"], 1e-9)
        print(f"drift            {share:.0%} of real sharpness after {drift['frames'][-1]} frames")
    if speed := measured["speed"]:
        step = speed["step_ms"]
        print(
            f"speed            {speed['frames_per_second']:.1f} frames/s; a step takes "
            f"{step['p50']:.1f} ms (p50), {step['p95']:.1f} (p95), {step['p99']:.1f} (p99)"
        )
