"""E57, ASTM E2807: the scans of terrestrial scanners, all of a file as one cloud, read by pye57 (extra `e57`).

E57 has no field for classes, and so nothing is written as E57: labels go into a LAZ file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from oneiros.data.clouds.cloud import COLOURS
from oneiros.data.clouds.las.wkt import units

_CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
_SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
_INVALID = ("cartesianInvalidState", "sphericalInvalidState")
_COLOURS = dict(zip(("colorRed", "colorGreen", "colorBlue"), COLOURS, strict=True))
_WHOLE = {**_COLOURS, "returnIndex": "return_number", "returnCount": "number_of_returns", "label": "classification"}
_WHOLE |= {"classification": "classification", "class": "classification"}
_MOST = 65535  # of intensities in LAS


class Scans(NamedTuple):
    """table: a row for each valid point of every scan, posed: x, y, z in the file's system, and what all scans have.
    crs: WKT, where the file has it. unit: of the coordinates."""

    table: np.ndarray
    crs: str | None
    unit: str | None


def read_e57(path: Path) -> Scans:
    """ValueError for a file that is damaged, or where pye57 is not installed."""
    try:
        import pye57  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"{path}: E57 is read by pye57, which is not installed: pip install pye57") from None
    try:
        with pye57.E57(str(path)) as file:
            parts = [_scan(path, file, number) for number in range(file.scan_count)]
            crs = file.root["coordinateMetadata"].value() if file.root.isDefined("coordinateMetadata") else ""
    except (RuntimeError, pye57.libe57.E57Exception) as error:
        said = str(error).strip().splitlines()
        raise ValueError(f"{path}: cannot be read as E57 ({said[0] if said else 'damaged'})") from error
    shared = [name for name in parts[0] if all(name in part for part in parts)] if parts else ["x", "y", "z"]
    columns = {name: np.concatenate([part[name] for part in parts] or [np.empty(0)]) for name in shared}
    if "intensity" in columns:
        columns["intensity"] = _of_16_bits(columns["intensity"])
    table = np.empty(len(columns["x"]), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    unit, _ = units(crs)
    return Scans(table, crs if unit else None, unit or "metre")


def _scan(path: Path, file: Any, number: int) -> dict[str, np.ndarray]:
    """Columns of the valid points of a scan, in the file's coordinates."""
    from pye57 import libe57  # pyright: ignore

    header = file.get_header(number)
    names = list(header.point_fields)
    axes = next((each for each in (_CARTESIAN, _SPHERICAL) if set(each) <= set(names)), None)
    if axes is None:
        raise ValueError(f"{path}: scan {number} has no coordinates; it has {', '.join(names) or 'nothing'}")
    whole = {name: _WHOLE[name.rpartition(":")[2]] for name in names if name.rpartition(":")[2] in _WHOLE}
    wanted = [*axes, *(name for name in names if name == "intensity" or name in _INVALID), *whole]
    kinds = {name: "i1" if name in _INVALID else "f8" for name in wanted}
    found = {name: np.zeros(header.point_count, kind) for name, kind in kinds.items()}
    buffers = libe57.VectorSourceDestBuffer()
    for name, array in found.items():
        buffers.append(libe57.SourceDestBuffer(file.image_file, name, array, len(array), True, True))
    if header.point_count:
        reader = header.points.reader(buffers)
        reader.read()
        reader.close()
    valid = np.ones(header.point_count, bool)
    for name in _INVALID:
        valid &= found[name] == 0 if name in found else True
    xyz = np.stack([found[name][valid] for name in axes], 1)
    xyz = _posed(_to_cartesian(xyz) if axes == _SPHERICAL else xyz, header)
    columns = dict(zip("xyz", xyz.T, strict=True))
    if "intensity" in found:
        columns["intensity"] = found["intensity"][valid]
    for name, standard in whole.items():
        columns[standard] = _narrow(path, standard, found[name][valid] + (standard == "return_number"))
    return columns


def _posed(xyz: np.ndarray, header: Any) -> np.ndarray:
    return xyz @ header.rotation_matrix.T + header.translation if header.has_pose() else xyz


def _to_cartesian(spherical: np.ndarray) -> np.ndarray:
    """Range, azimuth from x towards y, and elevation above the horizon."""
    length, azimuth, elevation = spherical.T
    flat = length * np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), length * np.sin(elevation)], 1)


def _narrow(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    kind = np.uint16 if name in COLOURS else np.uint8
    low, high, most = values.min(initial=0), values.max(initial=0), np.iinfo(kind).max
    if low < 0 or high > most:
        raise ValueError(f"{path}: {name} runs from {low} to {high}; it must lie in 0 to {most}")
    return values.astype(kind)


def _of_16_bits(values: np.ndarray) -> np.ndarray:
    """Intensities as LAS has them: whole ones as they are, others spread from their lowest to their highest."""
    values = np.nan_to_num(values)
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if low < 0 or high > _MOST or (values != np.floor(values)).any():
        values = (values - low) / max(high - low, 1e-30) * _MOST
    return np.round(values).astype(np.uint16)
