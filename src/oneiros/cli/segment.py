"""`oneiros segment`: classify the points of clouds with a trained segmenter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

_DESCRIPTION = """\
Classify clouds. The copies differ from their sources in the classification alone: order, coordinates and every other
attribute and record stay as they are. Clouds may be larger than memory.

  oneiros segment cloud.laz --model runs/segmenter --out labelled.laz
  oneiros segment tiles/*.laz --model runs/segmenter --out labelled/       a copy of each in a folder
  oneiros inspect labelled.laz                                             look at it
"""

_COPC = re.compile(r"\.copc\.laz$", re.IGNORECASE)


@dataclass(frozen=True)
class Segment:
    clouds: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CLOUD...")]
    """LAS, LAZ (COPC becomes plain LAZ), PLY or npy."""
    model: Path
    """The segmenter's run folder."""
    out: Path
    """The copy to write, in the format of its source; of several clouds, a folder for the copies."""
    probabilities: bool = False
    """Also write how likely each class is, as attributes probability_NAME."""
    device: str = "cpu"
    """Such as cuda."""


def main(arguments: list[str]) -> None:
    command = tyro.cli(
        Segment,
        prog="oneiros segment",
        args=arguments,
        description=_DESCRIPTION,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    segment(command)


def segment(command: Segment) -> None:
    """Raises ValueError where a cloud does not fit the model or the name of a copy its source."""
    targets = _targets(command)

    from oneiros.console import bars, printable
    from oneiros.points.labelling import label_files, load_segmenter

    model = load_segmenter(command.model, device=command.device)
    with bars() as track:
        for target, counts in label_files(model, targets, probabilities=command.probabilities, track=track):
            shares = ", ".join(f"{name} {count / sum(counts.values()):.1%}" for name, count in counts.items())
            print(printable(f"{target}: {sum(counts.values()):,} points, {shares}"))


def _targets(command: Segment) -> dict[Path, Path]:
    """The copy of each cloud."""
    if not command.clouds:
        raise ValueError("name at least one cloud to classify")
    if len(command.clouds) == 1 and not command.out.is_dir():
        targets = {command.clouds[0]: command.out}
    elif command.out.is_file():
        raise ValueError(f"--out {command.out} is a file; several clouds need a folder for their copies")
    else:
        targets = {source: command.out / _COPC.sub(".laz", source.name) for source in command.clouds}
    if len(set(targets.values())) < len(targets):
        raise ValueError("two of the clouds have the same name; give them folders of their own")
    return targets
