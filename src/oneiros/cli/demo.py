"""`oneiros demo`: record, train, evaluate, report, in one go."""

from __future__ import annotations

from typing import Any

import tyro

from oneiros.recipes.settings import DemoSettings

DESCRIPTION = """From nothing to a world you can play: record ViZDoom, train a tokenizer and a world on it, measure both
on episodes they never saw, and write a report with pictures. Interrupted, it goes on where it was.

  oneiros demo
  oneiros demo --env doom:my_way_home --out maze
"""


def main(arguments: list[str]) -> None:
    settings = tyro.cli(DemoSettings, prog="oneiros demo", args=arguments, description=DESCRIPTION)
    from oneiros import machine
    from oneiros.recipes.demo import run

    machine.prepare()
    print(_summary(settings, run(settings)))


def _summary(settings: DemoSettings, measured: dict[str, Any]) -> str:
    horizon = 4
    model, copied = (measured["psnr"][name][horizon - 1] for name in ("model", "copy_last_frame"))
    world = settings.out / "world"
    return (
        f"{horizon} frames ahead, the dream is {model - copied:+.1f} dB from copying the last frame "
        f"({model:.1f} against {copied:.1f} dB PSNR)\n"
        f"and the right actions are worth {measured['delta_psnr'][horizon - 1]:.1f} dB. It dreams "
        f"{measured['speed']['frames_per_second']:.0f} frames a second.\n\n"
        f"Look:  {world / 'eval' / 'report.html'}\n"
        f"Play:  oneiros play {world} --terminal\n"
        f"Film:  oneiros dream {world} {settings.out / 'data'} --out dream.mp4"
    )
