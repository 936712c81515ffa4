"""Cameras whose pictures stand in the rows of the data files, as PNG or JPEG, instead of in films."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from oneiros.data.episodes.columns import row_places
from oneiros.data.episodes.metadata import EpisodeFiles
from oneiros.data.episodes.parquet import read_rows
from oneiros.data.video import MOST_PIXELS, DamagedVideoError

_PICTURES = ("PNG", "JPEG", "WEBP")


def decode_stills(
    files: EpisodeFiles, name: str, start: int, stop: int, *, size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Rows start to stop of an episode, one at a time: uint8 (H, W, 3).

    size: (height, width) that they must have. ValueError, naming file, episode and row, for another size;
    DamagedVideoError where a picture cannot be read.
    """
    pictures = _pictures(files.data, files.index, name, files.data.stat().st_mtime_ns)
    if len(pictures) != files.length + files.without_frame:
        raise ValueError(
            f"{files.data}: episode {files.index} has {len(pictures)} rows; the metadata says {files.length}"
        )
    for row in range(start, stop):
        where = f"{files.data}: episode {files.index}, row {row}: {name}"
        content = pictures[row]
        if content is None:
            raise DamagedVideoError(f"{where} has no bytes of a picture")
        frame = _decode(content, where)
        if frame.shape[:2] != size:
            raise ValueError(
                f"{where} is {frame.shape[0]} x {frame.shape[1]}; meta/info.json says {size[0]} x {size[1]} "
                "(height x width)"
            )
        yield frame


def _decode(content: bytes, where: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content), formats=_PICTURES) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DamagedVideoError(f"{where} claims {image.height} x {image.width} pixels; too many to be read")
            return np.array(image.convert("RGB"))
    except DamagedVideoError:
        raise
    except Exception as error:  # whatever damage makes a decoder of pictures stumble over
        raise DamagedVideoError(f"{where} cannot be decoded ({error})") from error


@lru_cache(maxsize=2)
def _pictures(path: Path, episode: int, name: str, changed: int) -> list[bytes | None]:
    """The files of an episode's pictures, in the order of its rows."""
    table = read_rows(path, lambda each: each in ("episode_index", "frame_index", name), "episode_index", episode)
    if name not in table.column_names or not (
        pa.types.is_struct(table[name].type) and table[name].type.get_field_index("bytes") >= 0
    ):
        raise ValueError(f"{path}: column {name} holds no pictures (a struct with their bytes)")
    ordered = table[name].take(pa.array(row_places(table)[:, 1]))
    return [None if each is None else each["bytes"] for each in ordered.to_pylist()]
