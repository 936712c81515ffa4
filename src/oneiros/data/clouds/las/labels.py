"""Writing labels into a copy of a LAS or LAZ file: header, records and points go through as bytes.

In an uncompressed file only the bytes of the classes change. A LAZ file is compressed anew, which moves what follows
its points. COPC becomes plain LAZ: its index speaks of compressed chunks that are no longer there.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import laspy
import numpy as np

from oneiros.data.clouds.las.head import COPC, LASZIP, Head
from oneiros.data.clouds.las.reader import compressing, opened, read_points, understanding
from oneiros.data.clouds.relabel import LabelPart, check_range, rewriting

lazrs: Any = import_module("lazrs")  # compiled, without types

_CLASS_MASK = 0b11111  # in point formats 0 to 5; the other three bits of the byte are flags


def write_las_labels(source: Path, out: Path, parts: Iterable[LabelPart], names: Sequence[str]) -> None:
    """Copy `source` to `out` with other classes, and with an extra dimension (float32) for each of `names`.

    Dimensions of these names that the file has already are written over.
    ValueError for classes that the point format cannot hold (above 31 in formats 0 to 5, above 255 in the others).
    """
    with opened(source) as reader, rewriting(out) as file:
        with understanding(source):
            head = Head.read(source)
        points = reader.header.point_format
        is_copc = head.find(COPC) is not None
        places = _add_floats(head, points, names)
        if is_copc:
            head.drop(COPC)
        if not reader.header.are_points_compressed:
            tail = reader.header.offset_to_point_data + reader.header.point_count * points.size
            file.write(head.to_bytes())
            for records in _labelled(reader, source, parts, head.record_length, places):
                file.write(records.data)
        else:
            tail = head.tail_start
            laszip = _fit_laszip(head, points, source)
            file.write(head.to_bytes())
            with compressing():
                compressor = lazrs.LasZipCompressor(file, laszip)
                for records in _labelled(reader, source, parts, head.record_length, places):
                    compressor.compress_many(records)
                compressor.done()
        _copy_tail(source, head, file, tail, is_copc=is_copc)
        file.seek(0)
        file.write(head.header)
    if is_copc:
        warnings.warn(f"{out}: is plain LAZ: {source.name} is COPC, whose index cannot be written", stacklevel=4)


def _add_floats(head: Head, points: laspy.PointFormat, names: Sequence[str]) -> dict[str, int]:
    """Where in a point's bytes the float of each name stands; new ones come last."""
    fields: Any = points.dtype().fields or {}
    existing = {name: fields[name][1] for name in names if name in fields and fields[name][0] == np.dtype("<f4")}
    new = [name for name in names if name not in existing]
    places = existing | {name: points.size + 4 * index for index, name in enumerate(new)}
    head.append_floats(new, num_extra_bytes=points.num_extra_bytes)
    return {name: places[name] for name in names}


def _fit_laszip(head: Head, points: laspy.PointFormat, source: Path) -> Any:
    """The compressor's own record: the file's where it fits the points still, else a new one."""
    record = head.find(LASZIP)
    if record is None:  # laspy reads such a file where it has no points
        raise ValueError(f"{source}: is compressed, but lacks the compressor's record; no copy can be written")
    laszip = lazrs.LazVlr(record.data)
    if laszip.item_size() != head.record_length or laszip.uses_variable_size_chunks():
        num_extra = points.num_extra_bytes + head.record_length - points.size
        laszip = lazrs.LazVlr.new_for_compression(points.id, num_extra)
        record.data = bytes(laszip.record_data())
    return laszip


def _labelled(
    reader: laspy.LasReader, source: Path, parts: Iterable[LabelPart], length: int, places: Mapping[str, int]
) -> Iterator[np.ndarray]:
    """The points as bytes, uint8 (n * length,), with their new classes and the floats at `places`."""
    legacy, old_length = reader.header.point_format.id <= 5, reader.header.point_format.size
    for labels, probabilities in parts:
        check_range(labels, _CLASS_MASK if legacy else 255, f"{source.name} holds classes")
        old = read_points(reader, len(labels), source).array
        points = np.zeros((len(labels), length), np.uint8)
        points[:, :old_length] = old.view(np.uint8).reshape(-1, old_length)
        if legacy:
            points[:, 15] = points[:, 15] & ~np.uint8(_CLASS_MASK) | labels.astype(np.uint8)
        else:
            points[:, 16] = labels
        for place, column in zip(places.values(), probabilities.T, strict=True):
            points[:, place : place + 4] = np.ascontiguousarray(column, "<f4").view(np.uint8).reshape(-1, 4)
        yield points.reshape(-1)


def _copy_tail(source: Path, head: Head, out: BinaryIO, start: int | None, *, is_copc: bool) -> None:
    """Copy what follows the points, from `start` on in the source, and let the header know where it lies now."""
    with source.open("rb") as file:
        if is_copc:
            head.copy_extended(file, out, keep=lambda identity: identity[0] != "copc")
        elif start is not None:
            head.shift_tail(out.tell() - start)
            file.seek(start)
            shutil.copyfileobj(file, out)
