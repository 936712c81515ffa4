"""`oneiros doctor`: what is installed, what each verb still needs, cores and GPU."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oneiros import __version__
from oneiros.cli import VERBS

DESCRIPTION = """What is installed, what each verb still needs, cores and GPU.

  oneiros doctor
"""

_BY_NAME = {"hub": "for datasets by name"}
# What a verb needs beyond the plain installation: extras of pyproject.toml, and what for.
NEEDS = {
    "record": {"doom": "for doom:SCENARIO", "robot": "for metaworld:TASK", "cluster": "for --cluster"},
    "import": {
        "hdf5": "for HDF5 of robomimic, ALOHA and Minari",
        "zarr": "for zarr of diffusion policy",
        **_BY_NAME,
    },
    "inspect": {"points": "for clouds of points", "e57": "for E57", **_BY_NAME},
    "clouds": {"points": ""},
    "train": {
        "train": "",
        "points": "for a segmenter",
        "agents": "for others' algorithms in dreams",
        **_BY_NAME,
    },
    "encode": {"cluster": "for --cluster"},
    "segment": {"points": "", "cluster": "for --cluster"},
    "eval": {"train": "", "points": "for a segmenter", "cluster": "for --cluster", **_BY_NAME},
    "export": {"onnx": ""},
    "demo": {"doom": "", "train": ""},
}


@dataclass(frozen=True)
class Doctor:
    pass


def main(arguments: list[str]) -> None:
    tyro.cli(Doctor, prog="oneiros doctor", args=arguments, description=DESCRIPTION)
    console = Console()
    console.print(_table(("", "this machine"), machine()))
    console.print(_table(("verb", "state"), [(verb, state(verb)) for verb in VERBS]))


def machine() -> list[tuple[str, str]]:
    """What training and playing will run on, as (name, value)."""
    import torch

    from oneiros.machine import best_device, bf16_is_faster, cores, gpus

    faster = bf16_is_faster(best_device().type)
    return [
        ("oneiros", __version__),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("torch", torch.__version__),
        ("cores", f"{cores()}, torch uses {torch.get_num_threads()} threads"),
        ("GPU", ", ".join(gpus()) or "none that torch sees; everything runs on the CPU"),
        ("training in", "bfloat16 (faster here)" if faster else "float32 (bfloat16 would be no faster here)"),
        ("Meta-World", _robot_camera()),
    ]


def _robot_camera() -> str:
    """What draws Meta-World here when `--camera auto` decides."""
    if missing("robot"):
        return "not installed"
    from oneiros.envs.metaworld.renderer_camera import REMEDY, is_wanted, opengl_works

    if not is_wanted():
        return f"drawn by rays; for MuJoCo's renderer {REMEDY}"
    chosen = f"MUJOCO_GL={os.environ['MUJOCO_GL']}"
    return f"drawn by MuJoCo's renderer, {chosen}" if opengl_works() else f"drawn by rays: {chosen} fails; {REMEDY}"


def state(verb: str) -> str:
    """`ready`, or what to install."""
    lacks = {extra: missing(extra) for extra in NEEDS.get(verb, {})}
    remedies = [
        " ".join(["needs", ", ".join(names), NEEDS[verb][extra]]).rstrip()
        + f": pip install -e '.[{extra}]' in the repository"
        for extra, names in lacks.items()
        if names
    ]
    return "; ".join(remedies) or "ready"


def missing(extra: str) -> list[str]:
    """The packages of an extra that are not installed."""
    lines = [line for line in _requirements() if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    names = [re.split(r"[^\w.-]", line)[0] for line in lines]
    return [name for name in names if not _is_installed(name)]


def _requirements() -> Sequence[str]:
    return metadata.requires("oneiros") or ()


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _table(columns: Sequence[str], rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(Text, row))  # plain text: rich would read [doom] as markup
    return table
