"""What training and evaluation of agents leave behind: films, curves, tables, one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneiros.agents.evaluation import Choosing, film
from oneiros.agents.vector import WorldVector
from oneiros.data.pictures import enlarge, save_frames
from oneiros.report.charts import Line, line_chart
from oneiros.report.page import card, figure, page, section, side_by_side
from oneiros.train.log import read_metrics

if TYPE_CHECKING:
    from rich.table import Table

_MOST_POINTS = 200
_CURVES = (
    ("return", "return of a dream that is over", "model"),
    ("reward", "reward of a step", "sampled"),
    ("length", "steps of a dream that is over", "ceiling"),
    ("ends", "share of steps that end a dream", "likeliest"),
    ("entropy", "entropy of the actions, nats", "shuffled"),
    ("explained", "share of the returns that the critic foresaw", "copy"),
)


def save_film(player: Choosing, env: WorldVector, path: Path, *, seed: int) -> float:
    """Write one episode as a film. Returns what it earned."""
    frames, earned = film(player, env, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_frames(enlarge(frames), path, fps=env.world.config.fps)
    return earned


def training_page(run: Path, *, title: str, lead: str, films: Mapping[str, float]) -> str:
    """Curves of a run's metrics.jsonl, and its films, by path, with what each earned."""
    rows = read_metrics(run / "metrics.jsonl")
    every = max(1, len(rows) // _MOST_POINTS)
    pieces = [rows[first : first + every] for first in range(0, len(rows), every)]
    charts = [_curve(pieces, *each) for each in _CURVES] if rows else []
    return page(
        title=title,
        lead=lead,
        cards=[],
        sections=[
            section("What it learned", "Means over pieces; x: frames played.", side_by_side(charts)),
            film_section(films),
        ],
    )


def _curve(pieces: Sequence[Sequence[Mapping[str, float]]], name: str, label: str, colour: str) -> str:
    x = [piece[-1]["step"] for piece in pieces]
    known = [[row[name] for row in piece if name in row] for piece in pieces]
    means = [sum(values) / len(values) if values else None for values in known]
    return figure(line_chart(x, [Line(name, means, colour)], x_label="frames", y_label=label))


def film_section(films: Mapping[str, float]) -> str:
    """Films by their path beside the page, with what each earned."""
    shown = [
        figure(
            f'<video src="{escape(path)}" controls loop muted style="width: 100%"></video>',
            f"{escape(path)}: {earned:.4g}",
        )
        for path, earned in films.items()
    ]
    return section("Films", "One episode each, and what it earned.", side_by_side(shown)) if shown else ""


def result_table(measured: Mapping[str, Any]) -> Table:
    """One row for each who played, where."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in ("episodes", "return", "sd", "95 %", "steps", "ended"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in measured["players"]:
        table.add_row(f"{each['name']}, {each['where']}", *_cells(each))
    return table


def _cells(each: Mapping[str, Any]) -> tuple[str, ...]:
    earned, length = each["return"], each["length"]
    interval = f"{_short(earned['low'])} to {_short(earned['high'])}"
    ended = f"{each['ended'] / each['episodes']:.0%}"
    return str(each["episodes"]), _short(earned["mean"]), _short(earned["sd"]), interval, _short(length["mean"]), ended


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def evaluation_page(measured: Mapping[str, Any], films: Mapping[str, float]) -> str:
    """One page that fetches nothing but the films beside it."""
    rows = "".join(
        f"<tr><td>{escape(each['name'])}, {escape(each['where'])}</td>"
        + "".join(f"<td>{cell}</td>" for cell in _cells(each))
        + "</tr>"
        for each in measured["players"]
    )
    heads = "".join(f"<th>{name}</th>" for name in ("episodes", "return", "sd", "95 %", "steps", "ended"))
    table = f'<div class="scroll"><table><tr><th></th>{heads}</tr>{rows}</table></div>'
    first = measured["players"][0]
    text = (
        "Return: the sum of an episode's rewards. 95 %: of its mean. Steps: of the world, each "
        f"{measured['frame_stride']} of the game. Ended: the others were cut off. Where the dream promises what the "
        "game does not pay, the agent has learned what only the dream allows."
    )
    return page(
        title=f"{first['name']} in {measured['env'] or 'its dreams'}",
        lead="Fresh seeds, none of which training saw; the same for all who play in the same place.",
        cards=[card(f"{first['return']['mean']:.4g}", "", f"return, {first['where']}")],
        sections=[section("What was earned", text, figure(table)), film_section(films)],
    )
