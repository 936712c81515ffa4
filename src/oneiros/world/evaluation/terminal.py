"""What an evaluation of a world found, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

_HORIZONS = (1, 2, 4, 8, 16, 32, 64)
_BESIDE = {
    "sampled": "dream as played",
    "model": "dream, expected codes",
    "copy_last_frame": "copy last frame",
    "reconstruction": "tokenizer",
    "real": "real frames (ceiling)",
}


def result_table(measured: Mapping[str, Any]) -> Table:
    """The figures by dreamed frame, for the terminal."""
    from rich.table import Table

    horizons = [h for h in _HORIZONS if h <= measured["horizon"]]
    table = Table("dreamed frame", *(str(h) for h in horizons), title=f"{measured['clips']} held-out clips")
    for name, values, digits in _rows(measured):
        if values:
            table.add_row(name, *(_number(values[h - 1], digits) for h in horizons))
    return table


def _rows(measured: Mapping[str, Any]) -> list[tuple[str, Any, int]]:
    """Name, value by horizon (or None), digits after the point."""
    psnr, ssim, sharpness, moving = (measured[name] for name in ("psnr", "ssim", "sharpness", "moving"))
    f1 = (measured["things"] or {}).get("f1", {})
    return [
        ("PSNR dream as played", psnr["sampled"], 2),
        ("PSNR dream, expected codes", psnr["model"], 2),
        ("PSNR dream, likeliest codes", psnr["likeliest"], 2),
        ("PSNR copy last frame", psnr["copy_last_frame"], 2),
        ("PSNR tokenizer (ceiling)", psnr["reconstruction"], 2),
        ("PSNR gain, expected codes", measured["psnr_gain"], 2),
        ("delta-PSNR, expected codes", measured["delta_psnr"], 2),
        ("moving: gain as played", moving["psnr_gain"]["sampled"], 2),
        ("moving: gain, expected codes", moving["psnr_gain"]["model"], 2),
        ("moving: delta-PSNR, expected codes", moving["delta_psnr"], 2),
        ("SSIM dream as played", ssim["sampled"], 3),
        ("SSIM dream, expected codes", ssim["model"], 3),
        ("SSIM copy last frame", ssim["copy_last_frame"], 3),
        ("sharpness dream as played", sharpness["sampled"], 2),
        ("sharpness dream, expected codes", sharpness["model"], 2),
        ("sharpness tokenizer", sharpness["reconstruction"], 2),
        *((f"Frechet {_BESIDE[variant]}", values, 1) for variant, values in measured["frechet"]["by_frame"].items()),
        *((f"things F1 {name}", f1.get(variant), 2) for variant, name in _BESIDE.items()),
    ]


def _number(value: float | None, digits: int) -> str:
    """A dash for what could not be measured."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def result_lines(measured: Mapping[str, Any]) -> list[str]:
    """The other figures, in a line each."""
    lines = []
    if why := (measured["things"] or {}).get("left_out"):
        lines.append(f"things           left out: {why}")
    lines += _outcomes(measured.get("outcomes") or {})
    if recovery := measured["action_recovery"]:
        name, real = next(iter(recovery["real"].items()))
        dreamed = (recovery["dreamed"] or {}).get(name)
        last = f", {dreamed[-1]:.2f} after {len(dreamed)} dreamed frames" if dreamed else ""
        lines.append(f"action recovery  {name} {real:.2f} on real frames{last}")
    if outcomes := measured.get("counterfactual"):
        accuracy = " ".join("-" if value is None else f"{value:.2f}" for value in outcomes["accuracy"])
        lines.append(f"counterfactual   accuracy by frame {accuracy} (chance {outcomes['chance']:.2f})")
    if drift := measured["drift"]:
        real = max(drift["real"]["sharpness"], 1e-9)
        shares = ", ".join(
            f"{sharpness / real:.0%} after {age:,}"
            for age, sharpness in zip(drift["frames"], drift["sharpness"], strict=True)
        )
        lines.append(f"drift            share of real sharpness: {shares} frames")
    if speed := measured["speed"]:
        step, bf16 = speed["step_ms"], "with" if speed["bf16"] else "without"
        lines.append(
            f"speed            {speed['frames_per_second']:.1f} frames/s; a step takes "
            f"{step['p50']:.1f} ms (p50), {step['p95']:.1f} (p95), {step['p99']:.1f} (p99), {bf16} bf16"
        )
    return lines


def _outcomes(measured: Mapping[str, Any]) -> list[str]:
    if why := measured.get("left_out"):
        return [f"rewards and ends are left out: {why}"]
    lines = []
    if reward := measured.get("reward"):
        watched = reward["watched"]
        by_step = " ".join(_number(value, 2) for value in reward["correlation"])
        lines.append(
            f"reward           correlation {_number(watched['correlation'], 2)} on real frames, in dreams by step "
            f"{by_step}; mean error {_number(watched['error'], 3)}, always the median's "
            f"{_number(reward['constant'], 3)}; shifted, it peaks at {_peak(reward)}"
        )
    if end := measured.get("end"):
        scores = (f"{name} {_number(end['watched'][name], 2)}" for name in ("precision", "recall", "f1"))
        lines.append(
            f"end              {', '.join(scores)} on real frames ({end['watched']['ends']} ends, said from "
            f"{end['watched']['threshold']:.2f} on), f1 {_number(end['dreamed']['f1'], 2)} in dreams; expected in "
            f"{_number(end['expected'], 4)} of the steps, came in {_number(end['rate'], 4)}; shifted, it peaks at "
            f"{_peak(end)}"
        )
    return lines


def _peak(measured: Mapping[str, Any]) -> str:
    peak = measured["time_shift"]["peak"]
    return "none" if peak is None else f"{peak:+d}" if peak else "0"
