"""Frames of a dataset become codes, by as many processes and machines as there are.

A dataset is cut into shards of whole episodes, each a job that writes one file beside the folder of codes; a shard that
is there already, as a killed command leaves it, is not encoded again. At the end the shards are put together in the
order of their episodes. Jobs run on one thread each, so the bytes
are the same however the work was split.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from oneiros.cluster import work_through
from oneiros.console import bars, say
from oneiros.data.episodes.arrays import frames_in_pieces
from oneiros.data.episodes.clips import frames_of
from oneiros.data.episodes.dataset import Dataset, Episode
from oneiros.data.episodes.source import FrameSource
from oneiros.data.video import DamagedVideoError
from oneiros.disk import alone, check_room, replacing
from oneiros.machine import best_device
from oneiros.world.codes import TOKENIZER, code_type, fingerprint_of, join_shards, shard_rows, write_shard
from oneiros.world.nn.own_codec import make_codec
from oneiros.world.tokenizer import Tokenizer

_ROWS = 2**12  # of a shard, or one episode where that is longer
_FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class EncodeJob:
    """Episodes of a dataset to be encoded into the file `out`. Paths and numbers alone: it travels.

    fingerprint: of the dataset, which must be the same wherever the job is done. cache: see `FrameSource`. tokenizer:
    its run folder. codec: see `make_codec`.
    """

    data: Path
    fingerprint: str
    size: tuple[int, int]
    depth: bool
    camera: str | None
    cache: Path
    tokenizer: Path
    codec: str | None
    episodes: tuple[int, ...]
    out: Path


def write_codes(
    folder: Path,
    source: FrameSource,
    tokenizer: Tokenizer,
    *,
    codec: str | None = None,
    workers: int = 1,
    cluster: str | None = None,
) -> None:
    """Encode all frames of `source` into `folder`, which appears whole, or not at all, and is left as it is if it is
    there. Other processes that want the same folder wait.

    codec: by whose name a tokenizer with a codec of one's own is made. workers, cluster: see `work_through`.
    Raises ValueError where too few episodes can be decoded, OSError where the disk has no room.
    """
    with alone(folder):
        if folder.is_dir():
            return
        parts = folder.with_name(f"{folder.name}-parts")
        here = parts / f"{fingerprint_of(tokenizer)}-{source.key}"
        if not (here / TOKENIZER).is_dir():
            with replacing(here / TOKENIZER) as temporary:
                tokenizer.save(temporary)
        rows = sum(episode.length for episode in source.dataset.episodes)
        size = rows * tokenizer.num_codes * np.dtype(code_type(tokenizer)).itemsize
        say(check_room(parts, 2 * size, f"codes of {rows:,} frames take, while they are put together,", there=True))
        jobs = plan(source, here, codec)
        with bars(transient=True) as track:
            advance = track("encoding frames", rows)
            for _, frames in work_through(encode_shard, jobs, workers=workers, cluster=cluster):
                advance(frames)
        join_shards(folder, [job.out for job in jobs], source, tokenizer)
        shutil.rmtree(parts, ignore_errors=True)


def plan(source: FrameSource, folder: Path, codec: str | None = None) -> list[EncodeJob]:
    """Jobs for all episodes of a dataset, each of about 4,096 frames, which write shards into `folder`.

    folder: holds the tokenizer's run folder. The same in every process that plans it.
    """
    common = {
        "data": source.dataset.path.absolute(),
        "fingerprint": source.dataset.fingerprint(),
        "size": source.size,
        "depth": source.depth,
        "camera": source.camera,
        "cache": source.cache.absolute(),
        "tokenizer": (folder / TOKENIZER).absolute(),
        "codec": codec,
    }
    return [
        EncodeJob(**common, episodes=tuple(episodes), out=folder.absolute() / f"{number:06d}.npz")
        for number, episodes in enumerate(_shards(source.dataset.episodes))
    ]


def encode_shard(job: EncodeJob) -> int:
    """Do a job, unless it is done. Returns how many rows the shard has."""
    with suppress(ValueError, OSError, EOFError, BadZipFile):  # there is none, or not a whole one
        return shard_rows(job.out)
    dataset, tokenizer = _dataset(job.data, job.fingerprint), _tokenizer(job.tokenizer, job.codec)
    codes, damaged, wanted = {}, [], {*job.episodes}
    for episode in (each for each in dataset.episodes if each.index in wanted):
        try:
            codes[episode.index] = np.concatenate(list(_codes(job, dataset, episode, tokenizer)))
        except DamagedVideoError as error:
            damaged.append(f"episode {episode.index} ({error})")
    write_shard(job.out, dataset, codes, damaged)
    return sum(map(len, codes.values()))


def _shards(episodes: Sequence[Episode]) -> Iterator[list[int]]:
    shard, rows = [], 0
    for episode in episodes:
        if shard and rows + episode.length > _ROWS:
            yield shard
            shard, rows = [], 0
        shard.append(episode.index)
        rows += episode.length
    yield shard


@lru_cache(maxsize=1)
def _dataset(path: Path, fingerprint: str) -> Dataset:
    with warnings.catch_warnings():  # said by whoever planned the jobs
        warnings.simplefilter("ignore")
        dataset = Dataset.open(path)
    if dataset.fingerprint() != fingerprint:
        raise ValueError(f"{path}: has other files than where this work was begun; every machine must see the same")
    return dataset


@lru_cache(maxsize=1)
def _tokenizer(folder: Path, codec: str | None) -> Tokenizer:
    return Tokenizer.load(folder, codec=make_codec(codec)).to(best_device())


def _codes(job: EncodeJob, dataset: Dataset, episode: Episode, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    pieces = frames_in_pieces(
        dataset,
        episode,
        size=job.size,
        camera=job.camera,
        depth=job.depth,
        cache=job.cache / "frames",
        rows=_FRAMES_AT_ONCE,
    )
    for frames in pieces:
        codes = tokenizer.encode(frames_of(frames[:, None]).to(tokenizer.codebook.device))[:, 0]
        yield codes.cpu().numpy().astype(code_type(tokenizer))
