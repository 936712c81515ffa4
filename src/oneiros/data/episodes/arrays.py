"""Episodes decoded once into arrays of the size a model wants, kept on disk for the next run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from oneiros.console import bars
from oneiros.data.episodes.dataset import Dataset, Episode
from oneiros.data.frames import resize, resize_nearest
from oneiros.data.video import DamagedVideoError
from oneiros.disk import read_array, replacing
from oneiros.records import Camera, Outcomes


@dataclass(frozen=True)
class EpisodeArrays:
    """One episode, a row per time step.

    content: uint8 frames (T, H, W, 3), the same with depth (T, H, W, 5: red, green, blue, then low and high byte
        of the 12-bit depth code), or whole-number codes (T, N).
    actions, outcomes: as `Dataset` gives them, or None.
    known: bool (T,), which of the actions are known; None = all.
    """

    content: np.ndarray
    actions: np.ndarray | None
    task: str
    index: int
    outcomes: Outcomes | None = None
    known: np.ndarray | None = None

    @property
    def all_known(self) -> bool:
        """Whether every action is known that leads to a frame."""
        return self.actions is not None and (self.known is None or bool(self.known[:-1].all()))


def load_frames(
    dataset: Dataset,
    episodes: Sequence[int],
    *,
    height: int,
    width: int,
    camera: str | None = None,
    depth: bool = False,
    cache: Path | None = None,
) -> list[EpisodeArrays]:
    """Decode episodes (by the dataset's numbers) with actions and outcomes, resized and cropped to height x width.

    cache: a folder where decoded episodes are kept and found again, one file each; what comes back is then mapped from
        disk, not held in memory. It may be shared by datasets, sizes and processes.
    Episodes whose video cannot be decoded are left out, with one warning that lists them; ValueError when none is left.
    Wrong actions or outcomes, and videos that disagree with the metadata, are a ValueError naming file and episode.
    """
    cameras = [dataset.camera(camera), *([dataset.camera(None, "depth")] if depth else [])]
    folder = None if cache is None else cache / _key(dataset, cameras, height, width)
    by_index = {episode.index: episode for episode in dataset.episodes}
    chosen = [by_index[index] for index in episodes]
    actions = {episode.index: dataset.actions(episode.index) for episode in chosen}
    outcomes = {episode.index: dataset.outcomes(episode.index) for episode in chosen}
    sure = {episode.index: dataset.confidence(episode.index) for episode in chosen}
    contents: dict[int, np.ndarray] = {}
    damaged: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, bars(transient=True) as track:
        futures = [
            (episode, pool.submit(_cached, dataset, episode, cameras, height, width, folder)) for episode in chosen
        ]
        advance = track("decoding episodes", len(futures))
        try:
            for episode, future in futures:
                try:
                    contents[episode.index] = future.result()
                except DamagedVideoError as error:
                    damaged.append(f"episode {episode.index} ({error})")
                advance(1)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    if damaged:
        message = f"{dataset.path}: {len(damaged)} of {len(chosen)} episodes cannot be decoded: {', '.join(damaged)}"
        if not contents:
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)
    return [
        EpisodeArrays(
            contents[episode.index],
            actions[episode.index],
            episode.task,
            episode.index,
            outcomes[episode.index],
            None if (confidence := sure[episode.index]) is None else confidence > 0,
        )
        for episode in chosen
        if episode.index in contents
    ]


def _key(dataset: Dataset, cameras: Sequence[Camera], height: int, width: int) -> str:
    return "-".join([dataset.fingerprint(), f"{height}x{width}", *(camera.name for camera in cameras)])


def _cached(
    dataset: Dataset, episode: Episode, cameras: Sequence[Camera], height: int, width: int, folder: Path | None
) -> np.ndarray:
    if folder is None:
        return _decode(dataset, episode, cameras, height, width)
    path, shape = _place(folder, episode, cameras, height, width)
    with suppress(ValueError):  # not there yet, or damaged
        return read_array(path, np.uint8, shape)
    content = _decode(dataset, episode, cameras, height, width)
    with replacing(path, "decoded frames") as temporary:  # two processes may be decoding the same episode
        np.save(temporary, content)
    return read_array(path, np.uint8, shape)


def frames_in_pieces(
    dataset: Dataset,
    episode: Episode,
    *,
    size: tuple[int, int],
    camera: str | None,
    depth: bool,
    cache: Path,
    rows: int,
) -> Iterator[np.ndarray]:
    """An episode's frames as `load_frames` gives them, at most so many at a time, so that no episode is held whole.

    Those that lie in `cache` are not decoded again; others are not kept there. Errors are those of `Dataset.stream`.
    """
    cameras = [dataset.camera(camera), *([dataset.camera(None, "depth")] if depth else [])]
    path, shape = _place(cache / _key(dataset, cameras, *size), episode, cameras, *size)
    try:
        kept = read_array(path, np.uint8, shape)
    except ValueError:
        decoded = _rows(dataset, episode, cameras, *size)
        while piece := list(islice(decoded, rows)):
            yield np.stack(piece)
    else:
        yield from (np.array(kept[first : first + rows]) for first in range(0, len(kept), rows))


def _place(
    folder: Path, episode: Episode, cameras: Sequence[Camera], height: int, width: int
) -> tuple[Path, tuple[int, ...]]:
    """The file of a decoded episode in its folder, and the shape of what it holds."""
    shape = (episode.length, height, width, 3 if len(cameras) == 1 else 5)
    return folder / f"episode_{episode.index:06d}.npy", shape


def _decode(dataset: Dataset, episode: Episode, cameras: Sequence[Camera], height: int, width: int) -> np.ndarray:
    """uint8 (T, height, width, 3), or 5 with a depth camera as the second."""
    rows = _rows(dataset, episode, cameras, height, width)
    content = np.empty((episode.length, height, width, 3 if len(cameras) == 1 else 5), np.uint8)
    for row, frame in enumerate(rows):
        content[row] = frame
    return content


def _rows(
    dataset: Dataset, episode: Episode, cameras: Sequence[Camera], height: int, width: int
) -> Iterator[np.ndarray]:
    """uint8 (height, width, 3), or 5 with a depth camera as the second. A film that is wrong shows at once."""
    streams = [dataset.stream(episode.index, camera) for camera in cameras]

    def row(colour: np.ndarray, *depth: np.ndarray) -> np.ndarray:
        seen = [pack_codes(resize_nearest(codes[None], height, width)[0]) for codes in depth]
        return np.concatenate([resize(colour[None], height, width)[0], *seen], axis=-1)

    return (row(*frames) for frames in zip(*streams, strict=True))


def pack_codes(codes: np.ndarray) -> np.ndarray:
    """uint16 (...) -> uint8 (..., 2): the low byte, then the high one."""
    return np.stack([codes & 0xFF, codes >> 8], axis=-1).astype(np.uint8)


def unpack_codes(packed: np.ndarray) -> np.ndarray:
    """uint8 (..., 2) -> uint16 (...)."""
    return packed[..., 0] | (packed[..., 1].astype(np.uint16) << 8)
