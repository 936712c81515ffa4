"""What every evaluation leaves behind: metrics.json and report.html."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oneiros.disk import replacing

METRICS, REPORT = "metrics.json", "report.html"


def write(folder: Path, measured: Mapping[str, Any], report: str) -> None:
    """Write metrics.json and report.html, each whole or not at all; NaN and infinity, which JSON lacks, become null."""
    numbers = json.dumps(_plain(dict(measured)), indent=2, allow_nan=False) + "\n"
    for name, text in ((METRICS, numbers), (REPORT, report)):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    """The same with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
