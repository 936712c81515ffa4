"""`oneiros export`: a world for programs and pages that carry no torch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from rich.table import Table

    from oneiros.export.parity import Parity
    from oneiros.records import Clip
    from oneiros.world.model import World

DESCRIPTION = """Take a world anywhere: as ONNX files with programs that dream with them.

  oneiros export runs/world --onnx dreamer         ONNX files, and a program each in Python and JavaScript
  oneiros export --onnx dreamer                    the world that ships with Oneiros
  oneiros export runs/world --onnx small --quantize int8

A table says how large each part is, and whether the exported world dreams what the world itself does. The README in
the folder says how to use it.
"""

CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


@dataclass(frozen=True)
class Export:
    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """A world's run folder, or the name of one that is built in. Default: the first of those."""
    onnx: Path | None = None
    """A new folder for ONNX files and programs."""
    quantize: Literal["float32", "float16", "int8"] | None = None
    """How weights are kept; whatever it is, the world computes in float32. Default: float32."""
    codec: str | None = None
    """The codec of the world's tokenizer, where it was made with one of your own: module:factory."""
    data: Path | None = None
    """Starts from held-out episodes of this dataset. Default: the starts that training left in the run folder."""


def main(arguments: list[str]) -> None:
    export(tyro.cli(Export, prog="oneiros export", args=arguments, description=DESCRIPTION, config=CONFIG))


def export(command: Export) -> None:
    """Raises ValueError for a run that is no world or cannot be exported, and for a folder that is not new."""
    if command.onnx is None:
        raise ValueError("nothing to write; name a folder with --onnx")
    folder = command.onnx
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists; name a new folder")
    import onnxruntime  # noqa: F401 (what is missing is told before there is any work)
    import onnxscript  # noqa: F401

    from oneiros.console import bars, show
    from oneiros.disk import replacing
    from oneiros.export.parity import FRAMES
    from oneiros.export.world_folder import check_exportable, write_world
    from oneiros.run_folder import read_config, read_origin
    from oneiros.world.built_in import bundled_world, bundled_worlds
    from oneiros.world.model import World
    from oneiros.world.nn.own_codec import make_codec
    from oneiros.world.starts import find_starts

    run = command.run
    if run is None or (not run.exists() and str(run) in bundled_worlds()):
        run = bundled_world(run and str(run))
    config = read_config(run, World.kind)
    origin = read_origin(run, config)
    world = World.load(run, codec=make_codec(command.codec), config=config)
    check_exportable(world)
    starts = find_starts(world, run, data=command.data)
    with bars(transient=True) as track, replacing(folder) as temporary:
        sizes = write_world(
            world,
            starts,
            temporary,
            title="/".join(command.run.parts[-2:]) if command.run else origin.environment or "the built-in world",
            depth_camera=origin.depth_camera,
            precision=command.quantize or "float32",
            advance=track("writing graphs", 2 + len(world.dynamics.levels)),
        )
        parities = _compare(world, temporary, starts, track("comparing dreams", 2 * FRAMES))
        compressed = {path.name: len(zlib.compress(path.read_bytes())) for path in temporary.glob("*.onnx")}
    show(_parts(folder, sizes, compressed), _dreams(parities))


def _compare(world: World, folder: Path, starts: list[Clip], advance: object) -> list[Parity]:
    from oneiros.export.parity import compare
    from oneiros.export.programs.dream import OnnxDream

    dream = OnnxDream(folder, threads=1)
    return [compare(world, dream, starts, temperature=heat, advance=advance) for heat in (0.0, 0.9)]  # type: ignore[arg-type]


def _parts(folder: Path, sizes: dict[str, int], compressed: dict[str, int]) -> Table:
    from oneiros.cli.tables import table

    drawn = table(str(folder), "part", "MB", "MB gzipped")
    for name, size in sizes.items():
        drawn.add_row(f"{name}.onnx", f"{size / 1e6:.2f}", f"{compressed[f'{name}.onnx'] / 1e6:.2f}")
    return drawn


def _dreams(parities: list[Parity]) -> Table:
    from oneiros.cli.tables import table

    drawn = table("beside torch, from the same start and seed, with the same actions", "temperature", "", "ms a frame")
    for parity in parities:
        drawn.add_row(f"{parity.temperature:g}", str(parity), f"{parity.milliseconds:.0f}")
    return drawn
