"""What a LAS file says about its coordinates: the reference system, and the unit of x and y."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_WKT, _GEO_KEYS = 2112, 34735
# keys and values of GeoTIFF 1.1 (OGC 19-008r4), annex B
_MODEL, _GEOGRAPHIC, _PROJECTED, _LINEAR_UNIT = 1024, 2048, 3072, 3076
_GEOGRAPHIC_MODEL, _USER_DEFINED = 2, 32767
_LINEAR_UNITS = {9001: "metre", 9002: "foot", 9003: "US survey foot"}


def read_crs(records: Iterable[Any]) -> tuple[str | None, str | None]:
    """The reference system and the unit of x and y, from the variable length records; None where nothing says it.

    The system is WKT as it stands, else EPSG:n from GeoTIFF keys (not where they define one of their own).
    """
    data = {
        record.record_id: record.record_data_bytes()
        for record in records
        if record.user_id == "LASF_Projection" and record.record_id in (_WKT, _GEO_KEYS)
    }
    if wkt := _text(data.get(_WKT, b"")):
        return wkt, _unit_of_wkt(wkt)
    keys = _geo_keys(data.get(_GEO_KEYS, b""))
    geographic = keys.get(_MODEL) == _GEOGRAPHIC_MODEL
    code = keys.get(_GEOGRAPHIC if geographic else _PROJECTED, _USER_DEFINED)
    return f"EPSG:{code}" if code != _USER_DEFINED else None, "degree" if geographic else _LINEAR_UNITS.get(
        keys.get(_LINEAR_UNIT, 0)
    )


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace").strip()


def _unit_of_wkt(wkt: str) -> str | None:
    """The last length unit before the vertical system: those of ellipsoid, parameters and base system come earlier."""
    horizontal = re.split(r"VERT_?CR?S\[", wkt)[0]
    if not re.search(r"PROJ(CS|CRS)\[", horizontal):
        return "degree" if re.search(r"GEOG(CS|CRS)\[|GEODCRS\[", horizontal) else None
    units = re.findall(r'(?:LENGTH)?UNIT\["([^"]+)"', horizontal)
    return units[-1].replace("meter", "metre") if units else None


def _geo_keys(data: bytes) -> Mapping[int, int]:
    """Keys whose value stands in the directory itself (GeoTIFF 1.1, section 7.1.1)."""
    entries = np.frombuffer(data[: len(data) // 8 * 8], "<u2").reshape(-1, 4)[1:]
    return {int(key): int(value) for key, location, _, value in entries if location == 0 and key}
