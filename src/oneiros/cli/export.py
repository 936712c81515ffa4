"""`oneiros export`: a world for programs and pages that carry no torch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from rich.table import Table

    from oneiros.console import Bars
    from oneiros.export.parity import Parity
    from oneiros.records import Camera, Clip
    from oneiros.world.model import World

DESCRIPTION = """Take a world anywhere: as a page that plays without a server, or as ONNX files.

  oneiros export runs/world --web site               a folder for any static host: the player, and the dream in it
  oneiros export runs/world --onnx dreamer           ONNX files, and a program each in Python and JavaScript
  oneiros export my_way_home --web site              a world that ships with Oneiros
  oneiros export runs/world --onnx small --quantize int8

A page takes ONNX Runtime for the web along, from npm: run `npm install onnxruntime-web` where you call this, or name
a folder that holds it (--runtime). A table says how large each part is, and whether the exported world dreams what the
world itself does. The README in the folder says how to use it.
"""

CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


@dataclass(frozen=True)
class Export:
    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """A world's run folder, or the name of one that is built in. Default: the first of those."""
    web: Path | None = None
    """A new folder for a page."""
    onnx: Path | None = None
    """A new folder for ONNX files and programs."""
    quantize: Literal["float32", "float16", "int8"] | None = None
    """How weights are kept; the world computes in float32, whatever it is. Default: float16 in a page, else float32."""
    runtime: Path | None = None
    """The npm package onnxruntime-web, or a folder with its files. Default: node_modules here or above."""
    webgpu: bool = False
    """A page that also tries the GPU, where a browser has WebGPU, and uses it where that is measured a quarter faster
    than the processor. The runtime for it is another 27 MB (7 on the wire), which other browsers do not fetch."""
    codec: str | None = None
    """The codec of the world's tokenizer, where it was made with one of your own: module:factory."""
    data: Path | None = None
    """Starts from held-out episodes of this dataset. Default: the starts that training left in the run folder."""


@dataclass(frozen=True)
class _Exported:
    """A world to be exported, as it was trained, with its starts."""

    world: World
    starts: list[Clip]
    title: str
    depth_camera: Camera | None


def main(arguments: list[str]) -> None:
    export(tyro.cli(Export, prog="oneiros export", args=arguments, description=DESCRIPTION, config=CONFIG))


def export(command: Export) -> None:
    """Raises ValueError for a run that is no world or cannot be exported, for a folder that is not new, and where a
    page's runtime is not at hand."""
    folders = [folder for folder in (command.web, command.onnx) if folder is not None]
    if not folders:
        raise ValueError("nothing to write; name a folder with --web or --onnx")
    for folder in folders:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} exists; name a new folder")
    import onnxruntime  # noqa: F401 (what is missing is told before there is any work)
    import onnxscript  # noqa: F401

    from oneiros.console import bars, show
    from oneiros.export.site_folder import find_runtime

    runtime = find_runtime(command.runtime, webgpu=command.webgpu) if command.web else None
    exported = _open(command)
    tables = []
    with bars(transient=True) as track:
        if command.web is not None and runtime is not None:
            tables += _write(
                exported, command.web, command.quantize or "float16", track, runtime=runtime, webgpu=command.webgpu
            )
        if command.onnx is not None:
            tables += _write(exported, command.onnx, command.quantize or "float32", track)
    show(*tables)


def _open(command: Export) -> _Exported:
    from oneiros.export.world_folder import check_exportable
    from oneiros.run_folder import read_config, read_origin
    from oneiros.world.built_in import run_named
    from oneiros.world.model import World
    from oneiros.world.nn.own_codec import make_codec
    from oneiros.world.starts import find_starts

    run = run_named(command.run)
    config = read_config(run, World.kind)
    world = World.load(run, codec=make_codec(command.codec), config=config)
    check_exportable(world)
    title = "/".join(command.run.parts[-2:]) if command.run else run.name
    starts = find_starts(world, run, data=command.data)
    return _Exported(world, starts, title, read_origin(run, config).depth_camera)


def _write(
    exported: _Exported,
    folder: Path,
    precision: Literal["float32", "float16", "int8"],
    track: Bars,
    *,
    runtime: Path | None = None,
    webgpu: bool = False,
) -> list[Table]:
    """Write the folder, a page where there is a runtime, and return what is to be told of it."""
    from oneiros.disk import replacing
    from oneiros.export.parity import FRAMES, compare
    from oneiros.export.programs.dream import OnnxDream
    from oneiros.export.site_folder import WORLD, write_site
    from oneiros.export.world_folder import write_world

    world, starts = exported.world, exported.starts
    with replacing(folder) as temporary:
        inner = temporary / WORLD if runtime else temporary
        write_world(
            world,
            starts,
            inner,
            title=exported.title,
            depth_camera=exported.depth_camera,
            precision=precision,
            to_encode=runtime is None,
            track=partial(track, "writing graphs"),
        )
        dream, advance = OnnxDream(inner, threads=1), track("comparing dreams", 2 * FRAMES)
        parities = [compare(world, dream, starts, temperature=heat, advance=advance) for heat in (0.0, 0.9)]
        if runtime is not None:
            write_site(temporary, starts, runtime, title=exported.title, webgpu=webgpu)
        parts = _parts(folder, temporary)
    return [parts, _dreams(parities)]


def _parts(folder: Path, written: Path) -> Table:
    """Sizes of the larger files, and of all of them."""
    from oneiros.cli.tables import table

    drawn = table(str(folder), "part", "MB", "MB gzipped")
    rest, totals = [0, 0], [0, 0]
    for path in sorted(path for path in written.rglob("*") if path.is_file()):
        content = path.read_bytes()
        sizes = [len(content), len(zlib.compress(content))]
        totals = [total + size for total, size in zip(totals, sizes, strict=True)]
        if sizes[0] < 200_000:
            rest = [total + size for total, size in zip(rest, sizes, strict=True)]
        else:
            drawn.add_row(path.relative_to(written).as_posix(), *(f"{size / 1e6:.2f}" for size in sizes))
    drawn.add_row("the rest", *(f"{size / 1e6:.2f}" for size in rest))
    drawn.add_row("all", *(f"{size / 1e6:.2f}" for size in totals))
    return drawn


def _dreams(parities: list[Parity]) -> Table:
    from oneiros.cli.tables import table

    drawn = table("beside torch, from the same start and seed, with the same actions", "temperature", "", "ms a frame")
    for parity in parities:
        drawn.add_row(f"{parity.temperature:g}", str(parity), f"{parity.milliseconds:.0f}")
    return drawn
