"""`oneiros inspect CLOUD`: what is in a file of points, what is wrong with it, and what it looks like."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from oneiros.data.checks import Check
    from oneiros.data.clouds.cloud import CloudFile
    from oneiros.data.clouds.summary import CloudSummary


def inspect_cloud(path: Path, *, columns: str = "", as_json: bool, out: Path | None, strict: bool) -> None:
    """Print tables (or JSON) and write a picture.

    columns: of a text, see `open_cloud`. out: where the picture goes; by default NAME-cloud.png in the current folder,
    and none with JSON.
    ValueError when something is wrong that would stop training, with `strict` when anything is; then without picture.
    """
    from oneiros.data.clouds.checks import run_checks
    from oneiros.data.clouds.formats import open_cloud
    from oneiros.data.clouds.summary import summarise

    file = open_cloud(path, columns)
    summary = summarise(file)
    checks = run_checks(file, summary)
    problems = [problem for check in checks for problem in check.problems]
    if as_json:
        texts = [problem.text for problem in problems]
        print(json.dumps(_as_json(file, summary, texts), indent=2, ensure_ascii=False))
    else:
        _print(file, summary, checks)
    grave = [problem.text for problem in problems if problem.fatal or strict]
    if grave:
        raise ValueError(f"{path}: {grave[0]}" + (f" (and {len(grave) - 1} more problems)" if len(grave) > 1 else ""))
    if out or not as_json:
        _write_picture(file, summary, out or Path(f"{path.stem}-cloud.png"))


def _as_json(file: CloudFile, summary: CloudSummary, problems: list[str]) -> dict[str, Any]:
    return {
        "points": file.num_points,
        "low": summary.low.tolist(),
        "high": summary.high.tolist(),
        "density": file.num_points / summary.covered,
        "crs": file.crs,
        "unit": file.unit,
        "attributes": {name: list(summary.ranges.get(name, ())) for name in file.attribute_names},
        "classes": summary.classes,
        "class_names": {number: file.class_names[number] for number in summary.classes if number in file.class_names},
        "returns": summary.returns,
        "problems": problems,
    }


def _print(file: CloudFile, summary: CloudSummary, checks: tuple[Check, ...]) -> None:
    from oneiros.cli.tables import findings
    from oneiros.console import show

    shown = [_overview(file, summary), _attributes(file, summary)]
    shown += [_counts("classes", summary.classes, file.class_names)] if summary.classes else []
    shown += [_counts("returns", summary.returns, {})] if summary.returns else []
    for one in (*shown, findings(checks)):
        show(one, "")


def _overview(file: CloudFile, summary: CloudSummary) -> Table:
    from oneiros.cli.tables import table

    shown = table(str(file.path))
    shown.add_row("format", file.format)
    shown.add_row("points", f"{file.num_points:,}")
    for axis, low, high in zip("xyz", summary.low, summary.high, strict=True):
        shown.add_row(axis, f"{low:,.2f} to {high:,.2f}  ({high - low:,.2f})")
    density = f"{file.num_points / summary.covered:,.1f} points a square {file.unit or 'unit'}"
    shown.add_row("density", f"{density}, where there are any (squares of {summary.cell:g})")
    shown.add_row("reference system", f"{_name(file.crs)}, in {file.unit or 'unknown'} units")
    return shown


def _name(crs: str | None) -> str:
    """What WKT calls itself; EPSG:n as it is."""
    quoted = re.search(r'"([^"]*)"', crs or "")
    return quoted[1] if quoted else crs or "none"


def _attributes(file: CloudFile, summary: CloudSummary) -> Table:
    from oneiros.cli.tables import table

    shown = table("attributes", "name", "lowest", "highest")
    for name in file.attribute_names:
        values = [f"{value:,.6g}" for value in summary.ranges.get(name, ())] or ["", ""]
        shown.add_row(name, *values)
    return shown


def _counts(title: str, counts: Mapping[int, int], names: Mapping[int, str]) -> Table:
    """How many points have each number, the share as a bar."""
    from oneiros.cli.tables import bar, table

    total = sum(counts.values())
    shown = table(title, "", "", "points", "share", "")
    for number, count in counts.items():
        shown.add_row(str(number), names.get(number, ""), f"{count:,}", f"{count / total:.1%}", bar(count / total))
    return shown


def _write_picture(file: CloudFile, summary: CloudSummary, path: Path) -> None:
    from oneiros.data.clouds.picture import cloud_picture
    from oneiros.disk import replacing

    extent = " x ".join(f"{size:,.1f}" for size in summary.high - summary.low)
    subtitle = f"{file.num_points:,} points, {extent} {file.unit or 'units'}"
    picture = cloud_picture(summary.sample, title=file.path.name, subtitle=subtitle, classes=summary.classes)
    with replacing(path) as temporary:
        picture.save(temporary)
    print(f"picture: {path}", file=sys.stderr)
