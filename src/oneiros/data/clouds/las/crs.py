"""What a LAS file says about its coordinates: the reference system, and the units of x and y and of z."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from oneiros.data.clouds.las.wkt import units

_WKT, _GEO_KEYS = 2112, 34735
# keys and values of GeoTIFF 1.1 (OGC 19-008r4), annex B
_MODEL, _GEOGRAPHIC, _PROJECTED, _LINEAR_UNIT, _VERTICAL_UNIT = 1024, 2048, 3072, 3076, 4099
_GEOGRAPHIC_MODEL, _USER_DEFINED = 2, 32767
_LINEAR_UNITS = {9001: "metre", 9002: "foot", 9003: "US survey foot"}
_UTM = (range(32601, 32661), range(32701, 32761), range(25828, 25839))  # WGS 84 north and south, ETRS89


class Crs(NamedTuple):
    """system: WKT as it stands, else EPSG:n. unit: of x and y. vertical_unit: of z. None where nothing says it."""

    system: str | None
    unit: str | None
    vertical_unit: str | None


def read_crs(records: Iterable[Any]) -> Crs:
    """What variable length records say: WKT, else GeoTIFF keys (no code where they define a system of their own)."""
    data = {
        record.record_id: record.record_data_bytes()
        for record in records
        if record.user_id == "LASF_Projection" and record.record_id in (_WKT, _GEO_KEYS)
    }
    keys = _geo_keys(data.get(_GEO_KEYS, b""))
    vertical = _LINEAR_UNITS.get(keys.get(_VERTICAL_UNIT, 0))
    if wkt := _text(data.get(_WKT, b"")):
        unit, of_z = units(wkt)
        return Crs(wkt, unit, of_z or vertical)
    geographic = keys.get(_MODEL) == _GEOGRAPHIC_MODEL
    code = keys.get(_GEOGRAPHIC if geographic else _PROJECTED, _USER_DEFINED)
    unit = "degree" if geographic else _LINEAR_UNITS.get(keys.get(_LINEAR_UNIT, 0))
    known = code != _USER_DEFINED
    return Crs(f"EPSG:{code}" if known else None, unit or (_unit_of_code(code) if known else None), vertical)


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace").strip()


def _unit_of_code(code: int) -> str | None:
    """That of an EPSG code: UTM is in metres; of others pyproj tells, where it is installed."""
    if any(code in each for each in _UTM):
        return "metre"
    if find_spec("pyproj") is None:
        return None
    from pyproj import CRS  # pyright: ignore[reportMissingImports]
    from pyproj.exceptions import CRSError  # pyright: ignore[reportMissingImports]

    try:
        return units(CRS.from_epsg(code).to_wkt())[0]
    except CRSError:
        return None


def _geo_keys(data: bytes) -> Mapping[int, int]:
    """Keys whose value stands in the directory itself (GeoTIFF 1.1, section 7.1.1)."""
    entries = np.frombuffer(data[: len(data) // 8 * 8], "<u2").reshape(-1, 4)[1:]
    return {int(key): int(value) for key, location, _, value in entries if location == 0 and key}
