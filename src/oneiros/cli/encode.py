"""`oneiros encode`: the frames of a dataset become codes, by as many processes and machines as there are."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from oneiros.data.episodes.source import FrameSource
    from oneiros.world.tokenizer import Tokenizer

_DESCRIPTION = """Turn the frames of a dataset into codes, by many processes or machines.

A world learns from codes. `oneiros train world DATA` makes them itself, one process at a time; where that would take
long, encode first. Whole episodes are encoded into shards of some 4,000 frames; what is finished stays finished, and
the same command goes on after a kill. Films are decoded on the way, and frames kept nowhere. The codes are the same
bytes for any number of workers.

  oneiros encode data --tokenizer runs/tokenizer --out codes --workers 8
  oneiros encode data --tokenizer runs/tokenizer --out codes --cluster tcp://10.0.0.1:8786   all machines of a cluster
  oneiros train world --codes codes --out runs/world
"""


@dataclass(frozen=True)
class Encode:
    data: Annotated[Path, tyro.conf.Positional]
    """The dataset."""
    tokenizer: Path
    """The run folder of a tokenizer, or of a world, whose tokenizer is taken."""
    out: Path
    """The folder of codes. It appears when all is done."""
    camera: str | None = None
    """Which camera is learned from. Default: the one that the tokenizer was trained on."""
    codec: str | None = None
    """The codec of the tokenizer, where it was made with one of your own: module:factory."""
    workers: int = 1
    """Processes of one thread each that share the work."""
    cluster: str | None = None
    """Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers do the work. They need this package and
    the same files under the same paths; extra: cluster."""


def main(arguments: list[str]) -> None:
    encode(tyro.cli(Encode, prog="oneiros encode", args=arguments, description=_DESCRIPTION))


def encode(command: Encode) -> None:
    """Encode a dataset. Raises ValueError for bad input, OSError for a full disk; finished shards stay."""
    from oneiros.data.episodes.dataset import Dataset
    from oneiros.data.episodes.source import FrameSource
    from oneiros.disk import contained
    from oneiros.machine import best_device
    from oneiros.run_folder import read_origin
    from oneiros.world.encoding import write_codes
    from oneiros.world.model import TOKENIZER
    from oneiros.world.nn.own_codec import make_codec
    from oneiros.world.tokenizer import Tokenizer

    inner = command.tokenizer / TOKENIZER
    run = inner if inner.is_dir() else command.tokenizer
    tokenizer = Tokenizer.load(run, codec=make_codec(command.codec)).to(best_device())
    if tokenizer.lookback > 0:
        raise ValueError(f"{run}: has temporal convolutions: its codes depend on where a clip begins, and are not kept")
    camera = command.camera or read_origin(run).camera_name
    dataset, config = Dataset.open(command.data), tokenizer.config
    source = FrameSource(dataset, config.size, config.depth, camera, contained(command.tokenizer, "cache"))
    if command.out.exists():
        _check_same(command.out, source, tokenizer)
    began = time.perf_counter()
    write_codes(command.out, source, tokenizer, codec=command.codec, workers=command.workers, cluster=command.cluster)
    _tell(command.out, tokenizer, time.perf_counter() - began)


def _check_same(out: Path, source: FrameSource, tokenizer: Tokenizer) -> None:
    from oneiros.world.codes import read_codes

    held = read_codes(out, tokenizer).origin
    if held.fingerprint != source.dataset.fingerprint() or held.camera != source.dataset.camera(source.camera):
        raise ValueError(f"{out}: holds codes of another dataset or camera ({held.path}); name another --out")


def _tell(out: Path, tokenizer: Tokenizer, seconds: float) -> None:
    from oneiros.world.codes import read_codes

    episodes = read_codes(out, tokenizer)
    every = [*episodes.train, *episodes.held_out]
    frames, size = sum(len(each.content) for each in every), sum(each.content.nbytes for each in every)
    print(
        f"{out}: {frames:,} frames of {len(every):,} episodes, {tokenizer.num_codes} codes each, {size / 1e6:,.1f} MB, "
        f"in {seconds:,.0f} s"
    )
    print(f"Next: oneiros train world --codes {out} --out WORLD")
