"""What every evaluation leaves behind: metrics.json and report.html, with the machine they were measured on."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import oneiros
from oneiros.disk import replacing

METRICS, REPORT = "metrics.json", "report.html"


def write(folder: Path, measured: Mapping[str, Any], report: str) -> None:
    """Each file whole or not at all; numbers that JSON cannot say become null."""
    numbers = json.dumps(_plain(dict(measured)), indent=2, allow_nan=False) + "\n"
    for name, text in ((METRICS, numbers), (REPORT, report)):
        with replacing(folder / name) as aside:
            aside.write_text(text, encoding="utf-8")


def machine() -> dict[str, Any]:
    """What figures are measured on."""
    return {
        "oneiros": oneiros.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """The processor's own name; Python only knows its architecture on Linux."""
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _plain(value: Any) -> Any:
    """The same with None in place of numbers that JSON cannot say."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
