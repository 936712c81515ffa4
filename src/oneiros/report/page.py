"""Pieces of a page that fetches nothing: sections, figures, grids of frames, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from oneiros.data.pictures import data_uri, png

_SIDE = 192  # pixels at least that an enlarged frame is wide


def page(*, title: str, lead: str, cards: Sequence[str], sections: Sequence[str]) -> str:
    """A page of HTML. title, lead: text. cards, sections: HTML."""
    template = Template(files("oneiros.report").joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title), lead=escape(lead), cards="".join(cards), sections="\n".join(filter(None, sections))
    )


def card(value: str, unit: str, text: str) -> str:
    """One figure in large print, with what it means below."""
    return f'<div class="card"><b>{value} <small>{unit}</small></b><span>{escape(text)}</span></div>'


def section(title: str, text: str, content: str) -> str:
    """A section under a title. All three are HTML; an empty text leaves no paragraph."""
    paragraph = f"<p>{text}</p>" if text else ""
    return f"<section><h2>{title}</h2>{paragraph}{content}</section>"


def figure(content: str, caption: str = "") -> str:
    """A figure, with a caption where there is one."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{content}{below}</figure>"


def side_by_side(figures: Sequence[str], columns: int = 2) -> str:
    """Figures in so many columns, fewer on a narrow screen."""
    return f'<div class="grid{columns}">{"".join(figures)}</div>'


def frame_grid(rows: Sequence[tuple[str, Sequence[str]]], *, widest: str = "1fr") -> str:
    """Rows of a label and equally many cells. widest: of a cell, in CSS."""
    cells = [cell for label, row in rows for cell in (f'<div class="row">{escape(label)}</div>', *row)]
    layout = f"grid-template-columns: 7rem repeat({len(rows[0][1])}, minmax(2.75rem, {widest}))"
    return f'<div class="strip" style="{layout}">{"".join(cells)}</div>'


def head(text: object, *, dreamed: bool = False) -> str:
    """The cell above a column of frames."""
    style = "head dream" if dreamed else "head"
    return f'<div class="{style}">{text}</div>'


def small(lines: Sequence[str]) -> str:
    """A cell of small text."""
    return f'<div class="act">{"<br>".join(map(escape, lines))}</div>'


def picture(frame: np.ndarray) -> str:
    """uint8 (H, W, 3) as a cell."""
    return f'<img src="{data_uri(png(Image.fromarray(frame)), "image/png")}" alt="">'


def enlarged(frame: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> (n * h, n * w, 3), every pixel a square, at least 192 wide: what is blurred must show."""
    times = max(1, _SIDE // frame.shape[1])
    return np.kron(frame, np.ones((times, times, 1), np.uint8))


def number_table(title: str, heads: Sequence[object], rows: Sequence[tuple[str, Sequence[float], int]]) -> str:
    """A table of numbers. rows: name, values, digits after the point."""
    first = "".join(f"<th>{text}</th>" for text in heads)
    body = ""
    for name, values, digits in rows:
        cells = "".join(f"<td>{value:.{digits}f}</td>" for value in values)
        body += f"<tr><td>{escape(name)}</td>{cells}</tr>"
    return f'<div class="scroll"><table><tr><th>{title}</th>{first}</tr>{body}</table></div>'


def settings_table(values: Mapping[str, Any]) -> str:
    """Nested settings, a row for each: `model.dim`, 256."""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in _flat(values))
    return f'<div class="scroll"><table class="plain">{rows}</table></div>'


def folded(summary: str, content: str) -> str:
    """Content that is shown on a click. Both are HTML."""
    return f"<details><summary>{summary}</summary>{content}</details>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return rows
