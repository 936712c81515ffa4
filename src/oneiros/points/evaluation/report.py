"""One self-contained page about a segmentation, beside its metrics.json: figures, confusions, pictures of errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from oneiros.data.pictures import data_uri, png
from oneiros.machine import describe
from oneiros.points.evaluation.confusion import Confusion, three_digits
from oneiros.points.evaluation.pictures import (
    WRONG,
    Section,
    class_colours,
    from_above,
    mark,
    upright,
    views,
    worst_section,
)
from oneiros.report.files import write
from oneiros.report.page import card, figure, page, section, settings_table, side_by_side

_MOST_SHOWN = 6  # clouds with pictures; the others are in the table

LabelledCloud = tuple[str, Any, Any, Any]


@dataclass(frozen=True)
class _Seen:
    """What the page says of one cloud. pictures: HTML."""

    name: str
    scores: Mapping[str, Any]
    num_points: int
    pictures: str


def write_report(
    folder: Path,
    *,
    title: str,
    names: Sequence[str],
    confusion: Confusion,
    clouds: Iterable[LabelledCloud],
    config: Mapping[str, Any],
) -> None:
    """Write `folder`/metrics.json and report.html.

    names: of the classes. confusion: what the figures are read off. clouds: (name, xyz (N, 3) in metres, truth (N,),
    predicted (N,)) to show, arrays or CPU tensors, one held at a time if they come from a generator; the six with the
    lowest accuracy are drawn. config: what to say about the run, may be nested.
    """
    scores, colours = confusion.scores(names), class_colours(names)
    seen = [_look(cloud, names, colours) for cloud in clouds]
    seen.sort(key=lambda cloud: _or(cloud.scores["accuracy"], 2.0))
    about = describe()
    report = page(
        title=title,
        lead=_lead(confusion, seen),
        cards=_cards(scores),
        sections=[
            section("Classes", _CLASSES, figure(_class_table(scores, colours))),
            section("What was called what", _MATRIX, figure(_matrix(names, confusion))),
            _pictures(seen[:_MOST_SHOWN], len(seen), names, colours),
            section("Clouds", "The worst first.", figure(_cloud_table(seen, names))) if len(seen) > 1 else "",
            section("Configuration", "", settings_table(config)) if config else "",
            section("Machine", "", settings_table(about)),
        ],
    )
    each = [{"name": cloud.name, "points": cloud.num_points, **_short(cloud.scores)} for cloud in seen]
    write(folder, {"title": title, **scores, "clouds": each, "config": dict(config), "machine": about}, report)


_CLASSES = (
    "IoU: of the points that are of a class or were called so, how many are both. Precision: of those called so, how "
    "many are. Recall: of those that are, how many were called so. F1 lies between the two. A dash: nothing to measure."
)
_MATRIX = (
    "Rows: what points are; columns: what they were called. Shares are of the row, so the diagonal holds each class's "
    "recall."
)


def _lead(confusion: Confusion, seen: Sequence[_Seen]) -> str:
    clouds = "1 cloud" if len(seen) == 1 else f"{len(seen)} clouds"
    return f"{confusion.num_points:,} points whose class is known, of {clouds}, against the class they were given."


def _cards(scores: Mapping[str, Any]) -> list[str]:
    cards = [
        card(three_digits(scores["miou"]), "", "mIoU, the mean of the classes' IoU"),
        card(three_digits(scores["accuracy"]), "", "of points called the right class"),
    ]
    known = {name: values["iou"] for name, values in scores["classes"].items() if values["iou"] is not None}
    if known:
        worst = min(known, key=lambda name: known[name])
        cards.append(card(three_digits(known[worst]), "IoU", f"of {worst}, the hardest class"))
    return cards


def _class_table(scores: Mapping[str, Any], colours: np.ndarray) -> str:
    heads = ("class", "", "IoU", "F1", "precision", "recall", "points")
    rows = []
    for (name, values), colour in zip(scores["classes"].items(), colours, strict=True):
        cells = [three_digits(values[measure]) for measure in ("iou", "f1", "precision", "recall")]
        rows.append([_swatch(name, colour), _bar(values["iou"], colour), *cells, f"{values['points']:,}"])
    return _table(heads, rows)


def _swatch(name: str, colour: Sequence[int] | np.ndarray) -> str:
    return f'<span class="key" style="background:{_css(colour)}"></span> {escape(name)}'


def _bar(share: float | None, colour: np.ndarray) -> str:
    size = f"width:{_or(share, 0) * 8:.2f}rem;height:.7em"
    return f'<div style="width:8rem"><div style="{size};background:{_css(colour)}"></div></div>'


def _css(colour: Sequence[int] | np.ndarray) -> str:
    return "rgb({}, {}, {})".format(*colour)


def _matrix(names: Sequence[str], confusion: Confusion) -> str:
    counts = confusion.matrix.tolist()
    rows = []
    for k, name in enumerate(names):
        cells = [_share(count, sum(counts[k]), right=k == j) for j, count in enumerate(counts[k])]
        rows.append([escape(name), *cells])
    return _table(["", *(f"called {escape(name)}" for name in names)], rows)


def _share(count: int, total: int, *, right: bool) -> str:
    """A cell as strongly coloured as its share of the row, green where right and orange where wrong."""
    share = count / total if total else 0.0
    tint = f"color-mix(in srgb, var(--{'ceiling' if right else 'model'}) {min(share, 1) * 75:.0f}%, transparent)"
    text = f"{share:.1%}" if total else "–"
    return f'<div style="background:{tint};padding:.6rem .8rem;border-radius:.3rem"><b>{text}</b><br>{count:,}</div>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """heads, rows: HTML."""
    first = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{first}</tr>{body}</table></div>'


def _cloud_table(seen: Sequence[_Seen], names: Sequence[str]) -> str:
    rows = []
    for cloud in seen:
        classes = [three_digits(cloud.scores["classes"][name]["iou"]) for name in names]
        overall = [three_digits(cloud.scores[measure]) for measure in ("miou", "accuracy")]
        rows.append([escape(cloud.name), *classes, *overall, f"{cloud.num_points:,}"])
    return _table(["cloud", *(f"IoU {escape(name)}" for name in names), "mIoU", "accuracy", "points"], rows)


def _pictures(shown: Sequence[_Seen], count: int, names: Sequence[str], colours: np.ndarray) -> str:
    if not shown:
        return ""
    which = f"The {len(shown)} clouds of {count} with the lowest accuracy. " if count > len(shown) else ""
    key = " &nbsp; ".join(_swatch(name, colour) for name, colour in zip(names, colours, strict=True))
    text = (
        f"{which}{key} &nbsp; {_swatch('called the wrong class', WRONG)}. Points of unknown class are grey in the "
        "truth and never count as errors. North is up; slopes to the north-west are lighter. The blue outline is where "
        "the cloud is cut upright, at the place where most points went wrong."
    )
    return section("Look", text, "".join(f"<h3>{escape(cloud.name)}</h3>{cloud.pictures}" for cloud in shown))


def _look(cloud: LabelledCloud, names: Sequence[str], colours: np.ndarray) -> _Seen:
    name, *arrays = cloud
    xyz, truth, predicted = (np.asarray(array) for array in arrays)
    confusion = Confusion(len(names))
    confusion.add(truth, predicted)
    pictures = _draw(xyz, truth, predicted, colours) if len(xyz) else "<p>This cloud has no points.</p>"
    return _Seen(name, confusion.scores(names), len(xyz), pictures)


def _draw(xyz: np.ndarray, truth: np.ndarray, predicted: np.ndarray, colours: np.ndarray) -> str:
    cut, seen = worst_section(xyz, truth, predicted), views(truth, predicted, colours)
    above = []
    for view in seen:
        picture, pixel = from_above(xyz, view)
        if cut is not None and view.name == "errors":
            picture = mark(picture, pixel, xyz, cut)
        above.append(_picture(picture, f"{view.name}, from above; a pixel is {pixel:.2g} m"))
    if cut is None:
        return side_by_side(above, 3)
    sections = [_picture(upright(xyz, view, cut), view.name) for view in seen]
    return f'{side_by_side(above, 3)}<p class="note">{_said_of(cut)}</p>{side_by_side(sections, 3)}'


def _said_of(cut: Section) -> str:
    """Where the cut is, in the cloud's own coordinates."""
    length, depth = cut.high[cut.axis] - cut.low[cut.axis], cut.high[1 - cut.axis] - cut.low[1 - cut.axis]
    towards = "east" if cut.axis == 0 else "north"
    return (
        f"Cut upright from ({cut.low[0]:.1f}, {cut.low[1]:.1f}) m, {length:.0f} m to the {towards}, {depth:g} m deep: "
        f"{cut.wrong:,} points called the wrong class."
    )


def _picture(picture: np.ndarray, caption: str) -> str:
    return figure(f'<img src="{data_uri(png(Image.fromarray(picture)), "image/png")}" alt="{caption}">', caption)


def _short(scores: Mapping[str, Any]) -> dict[str, Any]:
    iou = {name: values["iou"] for name, values in scores["classes"].items()}
    return {"miou": scores["miou"], "accuracy": scores["accuracy"], "iou": iou}


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
