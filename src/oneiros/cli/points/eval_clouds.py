"""`oneiros eval A.laz B.laz`: how much two classifications of the same points agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class CloudsEval:
    """Compare two classified clouds of the same points, or two folders of them: the second is measured on the first.

    Such as before and after a clean-up by hand, or two models. IoU, F1, precision and recall of each class, the
    confusion matrix, and pictures of where they differ.
    """

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TRUTH")]
    """A classified cloud, or a folder of such; what counts as true."""
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CLOUD")]
    """The same points otherwise classified, in any order, or a folder with the same names."""
    classes: str = ""
    """Codes to compare as classes, such as 2,3-5,6. Default: each code that occurs is a class."""
    second_classes: str = ""
    """The same classes by the codes of the second, where it has others, such as 1,2,3."""
    names: tuple[str, ...] = ()
    """What to call the classes."""
    columns: str = ""
    """What the columns of texts are, such as x,y,z,intensity,class. Default: what their first line says."""
    out: Path = Path("comparison")
    """Where metrics.json and report.html go."""


def are_clouds(path: Path) -> bool:
    """Whether this is a cloud or a folder of clouds, by its name and theirs, and no run folder."""
    from oneiros.data.clouds.formats import ENDINGS

    if path.is_dir():
        inside = [each.suffix.lower() for each in path.iterdir()]
        return not (path / "config.json").is_file() and any(ending in ENDINGS for ending in inside)
    return path.suffix.lower() in ENDINGS


def main(arguments: list[str]) -> None:
    """Raises ValueError where the clouds are not of the same points."""
    command = tyro.cli(
        CloudsEval, prog="oneiros eval", args=arguments, config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
    )
    from oneiros.console import bars, show
    from oneiros.points.evaluation.clouds import compare_clouds
    from oneiros.points.evaluation.confusion import score_table
    from oneiros.report.files import METRICS, REPORT

    with bars() as track:
        scores = compare_clouds(
            command.first,
            command.second,
            out=command.out,
            classes=command.classes,
            second_classes=command.second_classes,
            columns=command.columns,
            names=command.names,
            track=track,
        )
    show(score_table(scores))
    if scores["unmatched"]:
        print(f"{scores['unmatched']:,} points are of no class in the second and left out")
    print(*(f"\n{command.out / name}" for name in (METRICS, REPORT)), sep="")
