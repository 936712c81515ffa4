"""`oneiros eval`: how well a world dreams, a segmenter labels what it never saw, or a policy acts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from oneiros.world.evaluation.config import EvalConfig

DESCRIPTION = """Measure a world on episodes, or a segmenter on clouds, that it never trained on; or let a policy act.

Clips of held-out episodes are dreamed on from a few real frames and set beside what happened: PSNR and SSIM by dreamed
frame, next to copying the last frame and to the tokenizer's own reconstruction; how much the player's actions matter;
what becomes of long dreams; how fast a step is. Writes metrics.json and report.html, one page with everything in it.
docs/metrics.md explains each figure.

Of a segmenter: IoU, F1, precision and recall of each class, the confusion matrix and pictures of the errors.

Of a policy: the share of episodes that succeed from fixed starts, beside other runs, the scripted expert and random
actions; the paired difference; the time of a decision; videos of what it imagined beside what came. The same command
again goes on after a kill: batches of episodes that are done are kept.

  oneiros eval runs/world data
  oneiros eval runs/world data --env doom:health_gathering   also: the same start, another action, against the env
  oneiros eval runs/segmenter                                the clouds that its training held out
  oneiros eval runs/segmenter tiles/*.laz                    these classified clouds
  oneiros eval runs/policy --env metaworld:drawer-open-v3,door-open-v3 --episodes 50 --beside runs/cloning
"""

CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


@dataclass(frozen=True)
class Eval:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder of a world, a segmenter, a policy or a cloning."""
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA...")] = ()
    """For a world, the dataset; of the one it was trained on, only episodes held out then are used. For a segmenter,
    classified clouds. Default: those its training held out. A policy takes --env instead. The options below are for
    worlds, but for --out, --device and what says so."""
    out: Path | None = None
    """Where metrics.json and report.html go. Default: eval/ in the run folder."""
    episodes: tuple[int, ...] = ()
    """Evaluate on these episodes instead of those held out. Of a policy: how many starts of each task (50)."""
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
    becomes under other actions. Of a policy: where it acts, such as metaworld:drawer-open-v3, tasks joined by commas,
    metaworld:MT10 or gym:ENV_ID."""
    beside: tuple[Path, ...] = ()
    """Of a policy: other runs, of policies or clonings, to play from the same starts."""
    max_steps: int = 200
    """Of a policy: the longest an episode lasts."""
    processes: int = 2
    """Of a policy: how many play episodes at once, with a thread each."""
    videos: int = 2
    """Of a policy: episodes to film, the first starts of all tasks in turns."""
    decisions: int = 25
    """Of a policy: how many decisions are timed; 0 leaves it out."""
    lpips: str | None = None
    """module:function that returns the LPIPS (M,) of two batches of frames (M, 3, H, W) in [-1, 1]; the weights are
    yours to bring."""
    fvd: str | None = None
    """module:function that returns features (M, D) of clips (M, T, 3, H, W) in [-1, 1]; likewise."""
    batch_size: int | None = None
    """Clips dreamed at once (32); of a policy, environments that act together (10)."""
    device: str = "cpu"
    """Such as cuda."""
    seed: int = 0
    """The same seed gives the same figures, speed apart."""


def main(arguments: list[str]) -> None:
    evaluate(tyro.cli(Eval, prog="oneiros eval", args=arguments, description=DESCRIPTION, config=CONFIG))


def evaluate(command: Eval) -> None:
    """Raises ValueError where run, data, env and options do not fit each other."""
    from oneiros.run_folder import read_config

    kind = read_config(command.run).kind
    if command.beside and kind not in ("policy", "cloning"):
        raise ValueError(f"--beside compares what acts; {command.run} holds a {kind}")
    if kind == "segmenter":
        _evaluate_segmenter(command)
    elif kind in ("policy", "cloning"):
        _evaluate_policy(command)
    else:
        _evaluate_world(command)


def _evaluate_policy(command: Eval) -> None:
    from rich.console import Console

    from oneiros.console import bars
    from oneiros.policy.evaluation.report import result_lines, result_table
    from oneiros.policy.evaluation.run import VIDEOS, PolicyEvalConfig, evaluate_policy
    from oneiros.report.files import METRICS, REPORT

    if command.env is None or command.data:
        given = f", not on {command.data[0]}" if command.data else ""
        raise ValueError(
            f"{command.run} acts: it is measured in an environment{given}; add --env, such as "
            "--env metaworld:drawer-open-v3"
        )
    if len(command.episodes) > 1:
        raise ValueError(f"--episodes of a policy is how many starts of each task; {len(command.episodes)} are given")
    config = PolicyEvalConfig(
        episodes=command.episodes[0] if command.episodes else 50,
        max_steps=command.max_steps,
        batch_size=10 if command.batch_size is None else command.batch_size,
        processes=command.processes,
        videos=command.videos,
        decisions=command.decisions,
        seed=command.seed,
    )
    out = command.out or command.run / "eval"
    with bars() as track:
        measured = evaluate_policy(
            command.run,
            command.env,
            out=out,
            beside=command.beside,
            config=config,
            device=command.device,
            track=track,
        )
    Console().print(result_table(measured))
    for line in result_lines(measured):
        print(line)
    print("\n" + "\n".join(str(out / name) for name in (METRICS, REPORT, *([VIDEOS] if measured["videos"] else []))))


def _evaluate_segmenter(command: Eval) -> None:
    from rich.console import Console

    from oneiros.console import bars
    from oneiros.points.evaluation.confusion import score_table
    from oneiros.points.evaluation.run import evaluate_segmenter
    from oneiros.report.files import METRICS, REPORT

    out = command.out or command.run / "eval"
    with bars() as track:
        scores = evaluate_segmenter(command.run, command.data, out=out, device=command.device, track=track)
    Console().print(score_table(scores))
    print(f"\n{out / METRICS}\n{out / REPORT}")


def _evaluate_world(command: Eval) -> None:
    from oneiros.console import bars
    from oneiros.report.files import METRICS, REPORT
    from oneiros.world.evaluation.networks import Networks, find_function
    from oneiros.world.evaluation.run import evaluate_run

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
    from oneiros.records import Sampling
    from oneiros.world.evaluation.config import DriftConfig, EvalConfig

    return EvalConfig(
        clips=command.clips,
        context=command.context,
        horizon=command.horizon,
        seed=command.seed,
        batch_size=32 if command.batch_size is None else command.batch_size,
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
