"""`oneiros segment`: classify the points of clouds with a trained segmenter."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from oneiros.points.labelling import Labelling

_DESCRIPTION = """\
Classify clouds: ground, vegetation, building with the model that comes along, or what a run of your own has learned.
The copies differ from their sources in the classification alone: order, coordinates and every other attribute and
record stay as they are. Clouds may be larger than memory. First a table tells how far the clouds lie from those that
the model was trained on.

  oneiros segment cloud.laz                                                writes cloud-labelled.laz
  oneiros segment cloud.laz --model runs/segmenter --out labelled.laz
  oneiros segment tiles/*.laz --out labelled/                              a copy of each in a folder
  oneiros segment tiles/ --out labelled/ --workers 8                       a survey; again: goes on where it was
  oneiros segment tiles/ --out labelled/ --cluster tcp://10.0.0.1:8786     by all machines of a Dask cluster
  oneiros segment cloud.laz --keep 7,9,17,18 --unsure 0.5                  leaves water and bridges as they are
  oneiros inspect labelled.laz                                             look at it
"""

_AS_LAZ = re.compile(r"(\.copc\.laz|\.e57)$", re.IGNORECASE)


@dataclass(frozen=True)
class Segment:
    clouds: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CLOUD...")]
    """LAS, LAZ, PLY, PCD, npy, npz, text; COPC and E57 become plain LAZ. A folder is a survey: all clouds in it, the
    edges of neighbours in sight, by any number of processes that share the list. What is done stays done."""
    model: Path | None = None
    """The segmenter's run folder. Default: the one that comes along, for airborne lidar (docs/lidar-model.md)."""
    out: Path | None = None
    """The copy to write, in the format of its source; of several clouds, a folder for the copies. Default:
    NAME-labelled beside each cloud."""
    probabilities: bool = False
    """Also write how likely each class is, as attributes probability_NAME, with their entropy (in bits) and margin (of
    the likeliest over the next)."""
    columns: str = ""
    """What the columns of texts are, such as x,y,z,intensity,class; - is a column to pass over. Default: what their
    first line says."""
    keep: str = "7,18"
    """Classification codes whose points stay as they are; by default noise, which is no context for others either."""
    unsure: float = 0.0
    """Points whose likeliest class is less likely than this are written as 1, unclassified."""
    strict: bool = False
    """Refuse clouds that lie far from those of the training."""
    workers: int = 1
    """Processes that work on a survey, each on one thread. The same command elsewhere shares the work, too."""
    cluster: str | None = None
    """Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers do a survey. They need this package and
    the same files under the same paths; extra: cluster."""
    device: str = "cpu"
    """Such as cuda."""


def main(arguments: list[str]) -> None:
    command = tyro.cli(
        Segment,
        prog="oneiros segment",
        args=arguments,
        description=_DESCRIPTION,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
    )
    segment(command)


def segment(command: Segment) -> None:
    """Raises ValueError where a cloud does not fit the model or the name of a copy its source; of several clouds, once
    all others are labelled."""
    survey = any(path.is_dir() for path in command.clouds)
    command = replace(command, clouds=_unfolded(command.clouds))
    targets = _targets(command, survey=survey)

    from oneiros.console import bars, printable, say
    from oneiros.data.clouds.classes import parse_codes
    from oneiros.data.clouds.relabel import check_paths
    from oneiros.points.built_in import bundled_segmenter
    from oneiros.points.distance import compare
    from oneiros.points.labelling import Labelling, label_file, load_segmenter
    from oneiros.run_folder import read_cloud_origin

    run = command.model or bundled_segmenter()
    how = Labelling(command.probabilities, parse_codes(command.keep, "--keep"), command.unsure)
    if survey:
        _segment_survey(command, run, targets, how)
        return
    if command.workers != 1 or command.cluster:
        raise ValueError("--workers and --cluster are for a survey: name a folder of clouds")
    model = load_segmenter(run, device=command.device)
    for source, target in targets.items():
        check_paths(source, target)
    failed, empty = [], []
    with bars() as track:
        origin = read_cloud_origin(run)
        profiles = compare(model, origin, tuple(targets), strict=command.strict, columns=command.columns, track=track)
        for source, target in targets.items():
            try:
                counts = label_file(
                    model, source, target, how=how, profile=profiles.get(source), columns=command.columns, track=track
                )
            except (ValueError, OSError) as error:
                if len(targets) == 1:
                    raise
                failed.append(source)
                say(printable(str(error)))
                continue
            empty += [] if counts else [source]
            print(printable(f"{target}: {_said(counts)}"))
    if empty and len(targets) > 1:
        print(printable(f"without points, copied as they are: {', '.join(map(str, empty))}"))
    if failed:
        raise ValueError(f"{len(failed)} of {len(targets)} clouds are not labelled: {', '.join(map(str, failed))}")


def _segment_survey(command: Segment, run: Path, targets: dict[Path, Path], how: Labelling) -> None:
    from oneiros.cli.points.segment_survey import segment_survey

    if command.out is None:
        raise ValueError("a folder of clouds needs another for their copies: --out labelled/")
    if any(source.resolve().parent == command.out.resolve() for source in command.clouds):
        raise ValueError(f"--out {command.out} is the clouds' own folder; their copies need another")
    shared = {"strict": command.strict, "workers": command.workers, "cluster": command.cluster}
    segment_survey(run, targets, command.out, how, columns=command.columns, device=command.device, **shared)


def _unfolded(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Folders as the clouds in them, by name."""
    from oneiros.data.clouds.formats import ENDINGS

    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(each for each in path.iterdir() if each.suffix.lower() in ENDINGS and each.is_file())
        if not inside:
            raise ValueError(f"{path}: holds no clouds ({', '.join(ENDINGS)})")
        found += inside
    return tuple(found)


def _said(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    shares = ", ".join(f"{name} {count / total:.1%}" for name, count in counts.items())
    return f"{total:,} points, {shares}" if total else "no points, copied as it is"


def _targets(command: Segment, *, survey: bool) -> dict[Path, Path]:
    """The copy of each cloud."""
    if not command.clouds:
        raise ValueError("name at least one cloud to classify")
    plain = {source: _AS_LAZ.sub(".laz", source.name) for source in command.clouds}
    if command.out is None:
        targets = {
            source: source.with_name(f"{Path(name).stem}-labelled{Path(name).suffix}") for source, name in plain.items()
        }
    elif len(command.clouds) == 1 and not survey and not command.out.is_dir():
        targets = {command.clouds[0]: command.out}
    elif command.out.is_file():
        raise ValueError(f"--out {command.out} is a file; several clouds need a folder for their copies")
    else:
        targets = {source: command.out / name for source, name in plain.items()}
    if len(set(targets.values())) < len(targets):
        raise ValueError("two of the clouds have the same name; give them folders of their own")
    return targets
