"""What an evaluation of policies found: a table for the terminal, and one page with everything in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneiros.data.episodes.clips import spread
from oneiros.envs.metaworld.tasks import GROUPS, group_of
from oneiros.policy.evaluation.film import Film
from oneiros.policy.evaluation.kinds import KINDS
from oneiros.report.page import card, figure, folded, frame_grid, head, page, picture, section, settings_table

if TYPE_CHECKING:
    from rich.table import Table

_MOST_TASKS = 8  # columns of the terminal's table; more stand in the page
_STRIP_FRAMES = 8
_SOURCE = (
    "Groups of tasks as in Seo et al., Masked World Models for Visual Control (arXiv 2206.14244): 28 easy, 11 medium, "
    "6 hard, 5 very hard."
)


def result_table(measured: Mapping[str, Any]) -> Table:
    """One row per contender, one column per task, then the mean and its interval."""
    from rich import box
    from rich.table import Table

    tasks = measured["tasks"] if len(measured["tasks"]) <= _MOST_TASKS else []
    title = f"{measured['env'].partition(':')[0]}: {_measure(measured)}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in (*tasks, *_groups(measured), "mean", "95 %"):
        words = name.rpartition("-v")[0].replace("-", "\n") or name  # a narrow column for drawer-open-v3
        table.add_column(words, justify="right", no_wrap=True)
    for each in measured["contenders"]:
        cells = [_short(each["tasks"][task]) for task in tasks]
        groups = [f"{each['groups'][group]:.2f}" for group in _groups(measured)]
        interval = f"{each['mean']['low']:.2f} to {each['mean']['high']:.2f}"
        table.add_row(_named(each).replace(" (", "\n("), *cells, *groups, _short(each["mean"]), interval)
    return table


def result_lines(measured: Mapping[str, Any]) -> list[str]:
    """The paired differences and the times of a decision, in a line each."""
    lines = [_paired_line(pair) for pair in measured["paired"]]
    for name, latency in measured["latency"].items():
        times = dict(latency["decision_ms"])
        total = times.pop("total")
        split = ", ".join(f"{part} {value['p50']:.0f}" for part, value in times.items())
        lines.append(
            f"{name}: a decision takes {total['p50']:.0f} ms (p50), {total['p95']:.0f} ms (p95), "
            f"{latency['threads']} threads{f'; of it {split} ms' if split else ''}"
        )
    return lines


def report_html(measured: Mapping[str, Any], films: Sequence[Film]) -> str:
    """One page that fetches nothing."""
    first = measured["contenders"][0]
    config = measured["config"]
    lead = (
        f"{config['episodes']} fixed starts of each of {len(measured['tasks'])} tasks in {measured['env']}, at most "
        f"{config['max_steps']} steps each, the same starts for all."
    )
    return page(
        title=f"{first['name']} in {measured['env'].partition(':')[0]}",
        lead=lead,
        cards=_cards(measured),
        sections=[
            section(_measure(measured).capitalize(), _explained(measured), figure(_table(measured))),
            section("By task", "Whiskers: 95 % intervals.", figure(_bars(measured))),
            section("Over the same starts", _PAIRED, _pairs(measured)) if measured["paired"] else "",
            section("How long a decision takes", _LATENCY, figure(_latency(measured))) if measured["latency"] else "",
            _films(films, measured["videos"]),
            section("Machine", "", folded("What this was measured on, and with what", _machine(measured))),
        ],
    )


_PAIRED = (
    "Both play from the same starts, so the difference is of pairs. Interval: Agresti and Min (2005); p: McNemar's "
    "exact test, two-sided."
)
_LATENCY = (
    "One environment, from its pictures to a chunk of actions, in milliseconds. imagine: the world encodes the frames "
    "and goes on; condition: the Video Former and the encoder; denoise: the diffusion of the actions."
)


def _measure(measured: Mapping[str, Any]) -> str:
    return "share of episodes that succeed" if measured["measure"] == "success" else "return of an episode"


def _explained(measured: Mapping[str, Any]) -> str:
    if measured["measure"] != "success":
        return "The environment does not tell of success. Brackets: normal 95 % intervals of the mean."
    text = "In any step, as the environment tells. Brackets: Wilson 95 % intervals."
    return f"{text} {_SOURCE}" if _groups(measured) else text


def _named(each: Mapping[str, Any]) -> str:
    label = KINDS[each["kind"]].label
    return label if each["name"] == each["kind"] else f"{each['name']} ({label})"


def _value(figures: Mapping[str, Any]) -> float:
    return figures["rate"] if "rate" in figures else figures["mean"]


def _short(figures: Mapping[str, Any]) -> str:
    return f"{_value(figures):.2f}"


def _with_interval(figures: Mapping[str, Any]) -> str:
    return f"{_value(figures):.2f} ({figures['low']:.2f} to {figures['high']:.2f})"


def _groups(measured: Mapping[str, Any]) -> list[str]:
    """Where the tasks are of several groups."""
    groups = measured["contenders"][0]["groups"]
    return [group for group in GROUPS if group in groups] if len(groups) > 1 else []


def _paired_line(pair: Mapping[str, Any]) -> str:
    text = (
        f"{pair['first']} - {pair['second']}: {pair['difference']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f}), "
        f"{pair['pairs']} pairs"
    )
    return text if "p" not in pair else f"{text}; won {pair['won']}, lost {pair['lost']}, p {pair['p']:.2g}"


def _cards(measured: Mapping[str, Any]) -> list[str]:
    first = measured["contenders"][0]
    unit = f"({first['mean']['low']:.2f} to {first['mean']['high']:.2f})"
    cards = [card(_short(first["mean"]), unit, f"{_measure(measured)}, {first['name']}")]
    for each in measured["contenders"][1:]:
        cards.append(card(_short(each["mean"]), "", _named(each)))
    for pair in measured["paired"]:
        text = f"over {pair['second']}, from the same starts"
        cards.append(card(f"{pair['difference']:+.2f}", f"({pair['low']:+.2f} to {pair['high']:+.2f})", text))
    if latency := measured["latency"].get(first["name"]):
        cards.append(card(f"{latency['decision_ms']['total']['p50']:.0f}", "ms", "a decision takes (p50)"))
    return cards


def _table(measured: Mapping[str, Any]) -> str:
    """A row for each task, a column for each contender."""
    contenders, groups = measured["contenders"], _groups(measured)
    heads = ["", *(_named(each) for each in contenders)]
    rows = []
    for task in measured["tasks"]:
        group = f" · {group_of(task)}" if groups and group_of(task) else ""
        rows.append([f"{task}{group}", *(_with_interval(each["tasks"][task]) for each in contenders)])
    rows += [[f"mean of {group}", *(f"{each['groups'][group]:.2f}" for each in contenders)] for group in groups]
    rows.append(["mean of all tasks", *(_with_interval(each["mean"]) for each in contenders)])
    rows.append(["steps of an episode", *(f"{each['mean']['steps']:.0f}" for each in contenders)])
    return _html_table(heads, rows)


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{first}</tr>{body}</table></div>'


def _bars(measured: Mapping[str, Any]) -> str:
    """A bar for each contender in each task, with a whisker."""
    contenders = measured["contenders"]
    values = [each["tasks"][task] for each in contenders for task in measured["tasks"]]
    low = min(0.0, *(figures["low"] for figures in values))
    high = max(1.0 if measured["measure"] == "success" else 1e-9, *(figures["high"] for figures in values))
    key = " &nbsp; ".join(
        f'<span class="key" style="background:var(--{KINDS[each["kind"]].colour})"></span> {escape(_named(each))}'
        for each in contenders
    )
    rows = []
    for task in [*measured["tasks"], "mean of all tasks"]:
        bars = []
        for each in contenders:
            figures = each["tasks"].get(task, each["mean"])
            bars.append(_bar(figures, low, high, KINDS[each["kind"]].colour))
        rows.append(f'<tr><td>{escape(task)}</td><td style="width:100%">{"".join(bars)}</td></tr>')
    return f'<p class="note">{key}</p><div class="scroll"><table style="width:100%">{"".join(rows)}</table></div>'


def _bar(figures: Mapping[str, Any], low: float, high: float, colour: str) -> str:
    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    zero, value = place(0.0), place(_value(figures))
    left, right = place(figures["low"]), place(figures["high"])
    bar = f"position:absolute;left:{min(zero, value):.2f}%;width:{abs(value - zero):.2f}%;height:100%"
    whisker = f"position:absolute;left:{left:.2f}%;width:{right - left:.2f}%;top:50%;height:1px;background:var(--ink)"
    return (
        '<div style="position:relative;height:.7em;margin:.2em 0;background:var(--grid);min-width:10rem">'
        f'<div style="{bar};background:var(--{colour})"></div><div style="{whisker}"></div></div>'
    )


def _pairs(measured: Mapping[str, Any]) -> str:
    return "".join(f"<p>{escape(_paired_line(pair))}</p>" for pair in measured["paired"])


def _latency(measured: Mapping[str, Any]) -> str:
    rows = [
        [f"{name}: {part}", f"{value['p50']:.1f}", f"{value['p95']:.1f}", f"{value['mean']:.1f}"]
        for name, latency in measured["latency"].items()
        for part, value in latency["decision_ms"].items()
    ]
    return _html_table(["", "p50", "p95", "mean"], rows)


def _films(films: Sequence[Film], videos: Sequence[str]) -> str:
    if not films:
        return ""
    text = (
        "Moments of an episode: what the policy saw when it decided, what it imagined to come, and what came. Imagined "
        "without knowing the actions it was about to choose."
    )
    parts = [_film(film, video) for film, video in zip(films, videos, strict=True)]
    return section("What it imagined", text, "".join(parts))


def _film(film: Film, video: str) -> str:
    ending = {True: "success", False: "no success", None: "the end"}[film.success]
    title = f"<h3>{escape(film.task)}, start {film.start}: {ending} after {len(film.frames) - 1} steps</h3>"
    link = f'<p class="note">As a video: <code>{escape(str(Path(video)))}</code></p>'
    if not film.imagined.shape[1]:
        rows = spread(_STRIP_FRAMES, len(film.frames))
        cells = [("step", [head(row) for row in rows]), ("seen", [picture(film.frames[row]) for row in rows])]
        return f"{title}{figure(frame_grid(cells, widest='7rem'))}{link}"
    grids = "".join(figure(_moment(film, decision)) for decision in spread(3, len(film.decisions)))
    return f"{title}{grids}{link}"


def _moment(film: Film, decision: int) -> str:
    """What was seen at a decision, above its two futures."""
    now, count = int(film.decisions[decision]), film.imagined.shape[1]
    heads = [head(f"step {now}"), *(head(f"+{(i + 1) * film.stride}", dreamed=True) for i in range(count))]
    blank = "<div></div>"
    came = [blank if frame is None else picture(frame) for frame in film.happened(decision)]
    seen = picture(film.frames[now])
    rows = [("", heads), ("imagined", [seen, *(picture(frame) for frame in film.imagined[decision])])]
    return frame_grid([*rows, ("what happened", [blank, *came])], widest="7rem")


def _machine(measured: Mapping[str, Any]) -> str:
    return settings_table({"run": measured["run"], "evaluation": measured["config"], "machine": measured["machine"]})
