"""Writing a cloud as a new LAS or LAZ file (1.4, point format 6, 7 with colours, 8 with near infrared too)."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import laspy
import numpy as np
from laspy.vlrs.known import WktCoordinateSystemVlr

from oneiros.data.clouds.classes import ASPRS
from oneiros.data.clouds.cloud import COLOURS, Cloud
from oneiros.data.clouds.las.reader import compressing
from oneiros.data.clouds.relabel import check_range, rewriting
from oneiros.data.clouds.table import XYZ, as_table

_SCALE = 0.001
_INT32 = np.iinfo(np.int32)


def write_las(path: Path, cloud: Cloud, *, compress: bool) -> None:
    """Coordinates to the millimetre; attributes that LAS does not know become extra dimensions.

    Colours of 8 bits are spread over the 16 that LAS has.
    ValueError for classes above 255, or values that their field cannot hold.
    """
    if cloud.classification is not None:
        check_range(cloud.classification, 255, "LAS holds classes")
    table = as_table(cloud)
    names = table.dtype.names or ()
    coloured = all(name in names for name in COLOURS)
    header = laspy.LasHeader(version="1.4", point_format=(8 if "nir" in names else 7) if coloured else 6)
    _set_crs(header, cloud.crs)
    _set_class_names(header, cloud.class_names)
    header.offsets, header.scales = _origin(path, cloud.xyz), np.full(3, _SCALE)
    attributes = [name for name in names if name not in XYZ]
    known = set(header.point_format.dimension_names)
    extra = [name for name in attributes if name not in known]
    header.add_extra_dims([laspy.ExtraBytesParams(name, _storable(table.dtype[name])) for name in extra])
    las = laspy.LasData(header, laspy.ScaleAwarePointRecord.zeros(len(cloud), header=header))
    las.x, las.y, las.z = cloud.xyz.T
    for name in attributes:
        wide = table.dtype[name] == np.uint8 and (name in COLOURS or name == "nir")
        _fill(path, las, name, table[name] * np.uint16(257) if wide else table[name])
    with rewriting(path) as file, compressing():
        las.write(file, do_compress=compress)


def _origin(path: Path, xyz: np.ndarray) -> np.ndarray:
    if not len(xyz):
        return np.zeros(3)
    low, high = np.floor(xyz.min(axis=0)), xyz.max(axis=0)
    if ((high - low) / _SCALE > _INT32.max).any():
        raise ValueError(
            f"{path}: the cloud is {(high - low).max():.6g} wide; LAS counts millimetres up to 2,147,483 m"
        )
    return low


def _storable(dtype: np.dtype) -> np.dtype:
    return np.dtype("u1") if dtype.kind == "b" else dtype.newbyteorder("=")


def _fill(path: Path, las: laspy.LasData, name: str, values: np.ndarray) -> None:
    """ValueError, rather than what laspy makes of it, for a value that would not come back."""
    try:
        las[name] = values
        stored = np.asarray(las[name])
    except OverflowError:
        stored = None
    if stored is None or not np.array_equal(stored, values, equal_nan=values.dtype.kind == "f"):
        raise ValueError(f"{path}: {name} runs from {values.min()} to {values.max()}, which its field cannot hold")


def _set_crs(header: laspy.LasHeader, crs: str | None) -> None:
    """WKT as it is; EPSG:n as GeoTIFF keys (GeoTIFF 1.0, section 6.3.2: codes from 4000 to 4999 are geographic)."""
    if crs is None:
        return
    epsg = re.fullmatch(r"EPSG:(\d+)", crs)
    if epsg is None:
        header.global_encoding.wkt = True
        header.vlrs.append(WktCoordinateSystemVlr(crs))
        return
    code = int(epsg[1])
    geographic = 4000 <= code < 5000
    keys = [(1, 1, 0, 2), (1024, 0, 1, 2 if geographic else 1), (2048 if geographic else 3072, 0, 1, code)]
    record = laspy.VLR("LASF_Projection", 34735, "GeoTIFF keys", struct.pack("<12H", *chain.from_iterable(keys)))
    header.vlrs.append(record)


def _set_class_names(header: laspy.LasHeader, names: Mapping[int, str]) -> None:
    """As the standard's own record, which has 15 bytes for a name (LAS 1.4, section 4.1.1)."""
    if not names or dict(names) == ASPRS:
        return
    entries = [struct.pack("<B15s", number, name.encode("ascii", "replace")) for number, name in names.items()]
    header.vlrs.append(laspy.VLR("LASF_Spec", 0, "Classification lookup", b"".join(entries)))
