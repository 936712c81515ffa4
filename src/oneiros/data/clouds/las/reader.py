"""Reading LAS and LAZ (1.2 to 1.4, any point format, extra dimensions, COPC)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import laspy
import numpy as np
from laspy.vlrs.known import ClassificationLookupVlr, ExtraBytesVlr

from oneiros.data.clouds.classes import ASPRS
from oneiros.data.clouds.cloud import Cloud, CloudFile
from oneiros.data.clouds.las.crs import read_crs
from oneiros.data.clouds.las.head import check_head
from oneiros.data.clouds.las.laz import check_laz

lazrs: Any = import_module("lazrs")  # compiled, without types

_POINT_SIZES = re.compile(r"point size, header says (\d+) \w+ created says (\d+)")  # as laspy complains


class LasFile(CloudFile):
    """A LAS or LAZ file; ValueError when it is none, or ends before its points do."""

    def __init__(self, path: Path) -> None:
        with opened(path) as reader:
            header = reader.header
            self.path, self.num_points = path, header.point_count
            self._bounds = np.array(header.mins, np.float64), np.array(header.maxs, np.float64)
            names = header.point_format.dimension_names
            self.attribute_names = tuple(name for name in names if name not in ("X", "Y", "Z"))
            packed = "LAZ" if header.are_points_compressed else "LAS"
            self.format = f"{packed} {header.version}, point format {header.point_format.id}"
            self.crs, self.unit, self.vertical_unit = read_crs([*header.vlrs, *(reader.evlrs or ())])
            self._legacy = header.point_format.id <= 5  # whose classes have five bits
            self.class_names = _class_names(header)

    @property
    def highest_class(self) -> int:
        return 31 if self._legacy else 255

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return self._bounds

    def _stream(self, sizes: Iterable[int], names: Collection[str]) -> Iterator[Cloud]:
        with opened(self.path) as reader:
            for size in sizes:
                points = read_points(reader, size, self.path)
                xyz = np.stack([np.asarray(points[name], np.float64) for name in ("x", "y", "z")], axis=1)
                yield Cloud(
                    xyz, {name: np.array(points[name]) for name in names}, self.crs, self.path, self.class_names
                )


def _class_names(header: laspy.LasHeader) -> Mapping[int, str]:
    """The file's own names, else those of the standard."""
    own = next((record.lookups for record in header.vlrs if isinstance(record, ClassificationLookupVlr)), {})
    return {number: name.strip() for number, name in own.items() if name.strip()} or ASPRS


def _name_all_extra_bytes(header: laspy.LasHeader) -> None:
    """Of several records that describe extra bytes laspy reads the first; the others go on where it ends."""
    records = [record for record in header.vlrs if isinstance(record, ExtraBytesVlr)]
    if len(records) < 2:
        return
    whole = laspy.PointFormat(header.point_format.id)
    for record in records:
        for parameters in record.type_of_extra_dims():
            whole.add_extra_dimension(parameters)
    if whole.size == header.point_format.size:
        header.point_format = whole


@contextmanager
def opened(path: Path) -> Iterator[laspy.LasReader]:
    """laspy's reader. ValueError when the file is no LAS or LAZ, or ends before its points do."""
    check_head(path)
    with understanding(path):
        reader = laspy.open(path)
        _name_all_extra_bytes(reader.header)
    with reader:
        header, size = reader.header, path.stat().st_size
        needed = header.offset_to_point_data + header.point_count * header.point_format.size
        if not header.are_points_compressed and size < needed:
            raise ValueError(
                f"{path}: is cut off: {header.point_count:,} points need {needed:,} bytes, the file has {size:,}"
            )
        if header.are_points_compressed:
            check_laz(path, header)
        yield reader


def read_points(reader: laspy.LasReader, size: int, path: Path) -> laspy.ScaleAwarePointRecord:
    """The next `size` points. ValueError when the file ends before."""
    with understanding(path):
        points = reader.read_points(size)
    if len(points) != size:
        raise ValueError(
            f"{path}: is cut off: {reader.header.point_count:,} points are promised, not so many are there"
        )
    return points


@contextmanager
def understanding(path: Path) -> Iterator[None]:
    """Turn whatever laspy and lazrs stumble over in a damaged file into one line that names it."""
    try:
        yield
    except OSError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of Rust, which lazrs is in
            raise
        why = f"damaged or cut off ({error})"
        if sizes := _POINT_SIZES.search(str(error)):
            why = f"its points have {sizes[1]} bytes, its point format and records of extra bytes describe {sizes[2]}"
        raise ValueError(f"{path}: cannot be read as LAS or LAZ: {why}") from error


@contextmanager
def compressing() -> Iterator[None]:
    """Turn what lazrs says of a file that cannot be written, such as on a full disk, into an OSError."""
    try:
        yield
    except lazrs.LazrsError as error:
        raise OSError(str(error)) from error
