"""Tables that `oneiros inspect` prints, of datasets and clouds alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from oneiros.data.checks import Check


def table(title: str, *columns: str) -> Table:
    """An empty table; without columns, one of names and what they are, without a head."""
    from rich import box
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_header=bool(columns))
    for column in columns or ("", ""):
        drawn.add_column(column)
    return drawn


def bar(share: float, width: int = 40) -> str:
    """A horizontal bar drawn in eighths of a character."""
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


def findings(checks: tuple[Check, ...]) -> Table:
    """What was checked, and every problem below its check, in red where training would stop; notes have no tick."""
    from rich.text import Text

    drawn = table("checks")
    for check in checks:
        mark = Text("✗", "red") if check.problems else Text("?", "yellow") if check.note else Text("✓", "green")
        drawn.add_row(mark, check.name)
        if check.note:
            drawn.add_row("", Text(check.note, "yellow"))
        for problem in check.problems:
            drawn.add_row("", Text(problem.text, "red" if problem.fatal else "yellow"))
    return drawn
