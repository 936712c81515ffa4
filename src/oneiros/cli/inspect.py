"""`oneiros inspect`: what is in a dataset or a cloud, and what is wrong with it."""

from __future__ import annotations

import itertools
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from oneiros.cli.tables import bar, findings, table
from oneiros.json_file import read_json

if TYPE_CHECKING:
    from rich.table import Table

    from oneiros.data.checks import Check, Problem
    from oneiros.data.episodes.dataset import Dataset
    from oneiros.data.episodes.inspection.look import Look
    from oneiros.data.episodes.inspection.offset import Offset

_CLOUDS = (".las", ".laz", ".ply", ".npy", ".npz", ".pcd", ".e57", ".xyz", ".txt", ".csv")
_FILMS = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_DESCRIPTION = """\
Summary, checks and picture of a dataset or a cloud of points; the configuration of a run.

  oneiros inspect data                      summary, checks, and the picture data-sheet.png
  oneiros inspect lerobot/pusht             the same of a dataset by name, which is downloaded first
  oneiros inspect data --fast               without decoding films: no search for frozen ones, or for shifted actions
  oneiros inspect data --json               the same for programs, without the picture
  oneiros inspect tile.laz                  the same for a cloud (LAS, LAZ, PLY, ...), with the picture tile-cloud.png
  oneiros inspect runs/world                what was trained, and on what

Exit code 2 when something is wrong that would stop training (with --strict: when anything is wrong).
"""


@dataclass(frozen=True)
class Inspect:
    path: Annotated[Path, tyro.conf.Positional]
    """A LeRobot dataset (v2.x or v3.0), also by its name on the Hugging Face hub (OWNER/NAME, OWNER/NAME@REVISION), a
    cloud (LAS, LAZ, PLY, PCD, E57, npy, npz, text), a film or a run folder."""
    json: bool = False
    """Print {"episodes", "frames", "fps", "cameras", "camera" (that training takes), "action", "known" (shares of
    actions), "offset", "endings" (how each episode ended, and what it paid in all), "ignored" (columns that are not
    read), "problems"} instead of tables; for a cloud {"points", "low", "high", "density", "crs", "unit", "attributes",
    "classes", "class_names", "returns", "problems"}."""
    fast: bool = False
    """Leave out whatever takes decoding films."""
    columns: str = ""
    """What the columns of a cloud in a text are, such as x,y,z,intensity,class. Default: what its first line says."""
    out: Path | None = None
    """Where the picture goes; by default NAME-sheet.png (a cloud: NAME-cloud.png) in the current folder, or
    NAME-sheet-2.png, ... where that is there already."""
    strict: bool = False
    """Let every problem count, a missing episode included."""


def main(arguments: list[str]) -> None:
    command = tyro.cli(Inspect, prog="oneiros inspect", args=arguments, description=_DESCRIPTION)
    if command.path.suffix.lower() in _FILMS and command.path.is_file():
        _print_film(command.path, as_json=command.json)
    elif (command.path / "config.json").is_file():
        _print_run(command.path, as_json=command.json)
    elif command.path.is_file() or command.path.suffix.lower() in _CLOUDS:
        from oneiros.cli.points.inspect_cloud import inspect_cloud

        shown = {"as_json": command.json, "out": command.out, "strict": command.strict}
        inspect_cloud(command.path, columns=command.columns, **shown)
    else:
        _inspect_dataset(command)


def _print_film(path: Path, *, as_json: bool) -> None:
    from oneiros.console import show
    from oneiros.data.video import frame_times, probe

    info, frames = probe(path), len(frame_times(path))
    told = {"frames": frames, "fps": info.fps, "width": info.width, "height": info.height, "codec": info.codec}
    if as_json:
        print(json.dumps(told, indent=2))
        return
    shown = table(str(path))
    for name, value in told.items():
        shown.add_row(name, f"{value:g}" if isinstance(value, float) else str(value))
    show(shown, "")
    print(f"A folder of films, with actions beside them or without, becomes a dataset: oneiros import {path.parent}")


def _inspect_dataset(command: Inspect) -> None:
    from oneiros.data.episodes.dataset import Dataset
    from oneiros.data.episodes.inspection.checks import run_checks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the warning says is among the problems
        dataset = Dataset.open(command.path)
    checks, offset = run_checks(dataset), None
    if not command.fast:
        found = _look(dataset)
        checks, offset = (*checks, *found.checks), found.offset
    problems = [problem for check in checks for problem in check.problems]
    if command.json:
        print(json.dumps(_as_json(dataset, offset, problems), indent=2, ensure_ascii=False))
    else:
        _print_dataset(dataset, offset, checks)
    grave = [problem.text for problem in problems if problem.fatal or command.strict]
    if grave:
        raise ValueError(grave[0] if len(grave) == 1 else f"{grave[0]} (and {len(grave) - 1} more problems)")
    if dataset.cameras and (command.out or not command.json):
        _write_sheet(dataset, command.out or _free(f"{command.path.resolve().name}-sheet"))


def _look(dataset: Dataset) -> Look:
    from oneiros.console import bars
    from oneiros.data.episodes.inspection.look import MOST_EPISODES, look

    with bars(transient=True) as track:
        return look(dataset, track("looking at episodes", min(MOST_EPISODES, len(dataset.episodes))))


def _free(name: str) -> Path:
    """NAME.png, or the first of NAME-2.png, NAME-3.png, ... that is not there."""
    paths = (Path(f"{name}.png" if number == 1 else f"{name}-{number}.png") for number in itertools.count(1))
    return next(path for path in paths if not path.exists())


def _as_json(dataset: Dataset, offset: Offset | None, problems: list[Problem]) -> dict[str, Any]:
    from oneiros.data.episodes.features import unused_features
    from oneiros.data.episodes.inspection.endings import find_endings

    taken = next((camera.name for camera in dataset.cameras if camera.kind == "rgb"), None)
    endings = [] if any(problem.fatal for problem in problems) else find_endings(dataset)
    return {
        "episodes": len(dataset.episodes),
        "frames": sum(episode.length for episode in dataset.episodes),
        "fps": dataset.fps,
        "cameras": {
            camera.name: {"kind": camera.kind, "height": camera.height, "width": camera.width}
            for camera in dataset.cameras
        },
        "camera": taken,
        "action": None if dataset.action_spec is None else dataset.action_spec.to_json(),
        "known": _known(dataset),
        "offset": offset
        and {
            "shift": offset.shift,
            "sure": offset.sure,
            "odd": offset.odd,
            "delay": offset.delay,
        },
        "endings": [{"episode": each.episode, "end": each.kind, "return": each.total} for each in endings],
        "ignored": unused_features(dataset.info["features"]),
        "problems": [problem.text for problem in problems],
    }


def _print_dataset(dataset: Dataset, offset: Offset | None, checks: tuple[Check, ...]) -> None:
    from oneiros.console import show

    broken = any(problem.fatal for check in checks for problem in check.problems)
    tables = [_summary(dataset, offset), _actions(dataset, broken), _lengths(dataset)]
    for shown in (*tables, *([] if broken else _endings(dataset)), findings(checks)):
        if shown is not None:
            show(shown, "")


def _summary(dataset: Dataset, offset: Offset | None) -> Table:
    from oneiros.data.episodes.features import unused_features
    from oneiros.data.episodes.remote.hub import revision_of

    shown = table(str(dataset.path))
    frames = sum(episode.length for episode in dataset.episodes)
    minutes, seconds = divmod(round(frames / dataset.fps), 60)
    shown.add_row(
        "format", f"LeRobot {dataset.info['codebase_version']}, {dataset.info.get('robot_type') or 'no robot'}"
    )
    if (revision := revision_of(dataset.path)) is not None:
        shown.add_row("revision", revision)
    shown.add_row("episodes", f"{len(dataset.episodes):,}")
    if (known := _known(dataset)) is not None:
        shown.add_row(
            "actions", f"{known['recorded']:.1%} recorded, {known['inferred']:.1%} inferred, the rest unknown"
        )
    shown.add_row("frames", f"{frames:,} at {dataset.fps} fps ({minutes} min {seconds} s)")
    for camera in dataset.cameras:
        taken = camera == next((each for each in dataset.cameras if each.kind == "rgb"), None)
        beside = f"{_details(camera)}{', which training takes' if taken and len(dataset.cameras) > 1 else ''}"
        shown.add_row("camera", f"{camera.name}  {camera.kind} {camera.width} x {camera.height}{beside}")
    if dataset.state_names:
        shown.add_row("state", f"{len(dataset.state_names)} numbers: {', '.join(dataset.state_names)}")
    for task in dict.fromkeys(episode.task for episode in dataset.episodes):
        shown.add_row("task", task or "(none)")
    if offset is not None:
        shown.add_row("offset", _offset(offset))
    if ignored := unused_features(dataset.info["features"]):
        shown.add_row("not read", ", ".join(ignored))
    return shown


def _known(dataset: Dataset) -> dict[str, float] | None:
    """The shares of rows whose actions were recorded, and inferred; None where all were recorded."""
    import numpy as np

    each = [dataset.confidence(episode.index) for episode in dataset.episodes]
    sure = np.concatenate([np.zeros(0, np.float32), *(part for part in each if part is not None)])
    if not len(sure):
        return None
    return {"recorded": float((sure == 1).mean()), "inferred": float(((sure > 0) & (sure < 1)).mean())}


def _offset(offset: Offset) -> str:
    if offset.shift is None:
        return "not clear: actions tell too little of what moves, or each of several frames a little"
    own = "its own row's" if offset.shift == 0 else f"that of row t {offset.shift:+d}"
    return f"{offset.shift}: frame t + 1 shows what {own} action did ({offset.sure:.0%} sure)"


def _details(camera: Any) -> str:
    depth = f", {camera.depth_min:g} to {camera.depth_max:g} m" if camera.kind == "depth" else ""
    return depth + (f", focal length {camera.fx:g} x {camera.fy:g} px" if camera.fx else "")


def _actions(dataset: Dataset, broken: bool) -> Table | None:
    """Each action by name, with how often (choices, keys) or in what range (numbers) it was used."""
    import numpy as np

    spec = dataset.action_spec
    if spec is None:
        return None
    if broken:  # actions may not be readable; the names are
        shown = table(f"actions ({spec.kind})", "name")
        for name in spec.names:
            shown.add_row(name)
        return shown
    each = [(np.asarray(dataset.actions(one.index)), dataset.confidence(one.index)) for one in dataset.episodes]
    actions = np.concatenate([values if sure is None else values[sure > 0] for values, sure in each])
    if not len(actions):
        return None
    if spec.kind == "continuous":
        shown = table("actions (continuous)", "name", "lowest", "mean", "highest", "std")
        for name, column in zip(spec.names, actions.T, strict=True):
            shown.add_row(
                name, *(f"{value:.3f}" for value in (column.min(), column.mean(), column.max(), column.std()))
            )
        return shown
    held = actions if spec.kind == "keys" else actions[:, None] == np.arange(spec.size)
    shown = table(f"actions ({spec.kind})", "name", "share of rows", "")
    for name, share in zip(spec.names, held.mean(axis=0), strict=True):
        shown.add_row(name, f"{share:.1%}", bar(share))
    return shown


def _lengths(dataset: Dataset) -> Table:
    shown = table("episode lengths", "frames", "episodes", "")
    for low, high, count, share in _histogram([episode.length for episode in dataset.episodes]):
        shown.add_row(f"{low:.0f} to {high:.0f}" if high - low > 1 else f"{low:.0f}", str(count), bar(share))
    return shown


def _endings(dataset: Dataset) -> list[Table]:
    """How episodes end, with what they paid in all; and their returns. Nothing where the data says neither."""
    import numpy as np

    from oneiros.data.episodes.inspection.endings import KINDS, find_endings

    endings = find_endings(dataset)
    if not endings:
        return []
    means = {"ended": "by the environment", "truncated": "cut off", "open": "the data does not say"}
    returns = ("lowest return", "mean", "highest", "std") if dataset.pays else ()
    shown = table("how episodes end", "", "episodes", *returns)
    for kind in KINDS:
        totals = np.array([each.total or 0.0 for each in endings if each.kind == kind])
        if len(totals):
            figures = (totals.min(), totals.mean(), totals.max(), totals.std()) if returns else ()
            shown.add_row(f"{kind}: {means[kind]}", str(len(totals)), *(f"{value:.2f}" for value in figures))
    if not returns:
        return [shown]
    by_return = table("returns", "sum of rewards", "episodes", "")
    for low, high, count, share in _histogram([each.total or 0.0 for each in endings]):
        by_return.add_row(f"{low:.4g} to {high:.4g}" if high > low else f"{low:.4g}", str(count), bar(share))
    return [shown, by_return]


def _histogram(values: Sequence[float]) -> list[tuple[float, float, int, float]]:
    """Ten intervals or fewer: lower and upper end, how many lie in it, and that over the most of any."""
    import numpy as np

    distinct = sorted(set(values))
    if len(distinct) == 1:
        return [(distinct[0], distinct[0], len(values), 1.0)]
    counts, edges = np.histogram(values, bins=min(10, len(distinct)))
    return [
        (float(low), float(high), int(count), count / counts.max())
        for count, low, high in zip(counts, edges, edges[1:], strict=False)
    ]


def _write_sheet(dataset: Dataset, path: Path) -> None:
    from oneiros.data.episodes.inspection.contact_sheet import contact_sheet
    from oneiros.disk import replacing

    with replacing(path) as temporary:
        contact_sheet(dataset).save(temporary)
    print(f"contact sheet: {path}", file=sys.stderr)


def _print_run(path: Path, *, as_json: bool) -> None:
    from oneiros.console import show

    config = read_json(path / "config.json")
    if not isinstance(config, dict):
        raise ValueError(f"{path / 'config.json'}: holds a {type(config).__name__}, not an object")
    if as_json:
        print(json.dumps(config, indent=2, ensure_ascii=False))
        return
    shown = table(f"{path}: {config.get('kind', 'unknown')}")
    for section, values in config.items():
        if isinstance(values, dict):
            for key, value in values.items():
                shown.add_row(f"{section}.{key}", json.dumps(value, ensure_ascii=False))
    show(shown)
