"""Clouds of points on disk: LAS and LAZ (COPC too), PLY, npy.

`open_cloud(path)` reads the header; `.read()` gives the whole `Cloud`, `.chunks(n)` gives it in pieces.
"""

from __future__ import annotations

from pathlib import Path

from oneiros.data.cloud import Cloud, CloudFile

__all__ = ["Cloud", "CloudFile", "open_cloud"]

ENDINGS = (".las", ".laz", ".ply", ".npy")


def open_cloud(path: Path | str) -> CloudFile:
    """Open a cloud; only its header is read. ValueError when it is damaged or of an unknown format, OSError if absent."""
    path = Path(path)
    ending = _ending(path)
    if not path.is_file():
        raise OSError(f"{path}: {'is a folder, not a cloud' if path.is_dir() else 'there is no such file'}")
    if ending == ".ply":
        from oneiros.data.cloud_ply import PlyFile

        return PlyFile(path)
    if ending == ".npy":
        from oneiros.data.cloud_npy import NpyFile

        return NpyFile(path)
    from oneiros.data.cloud_las import LasFile

    return LasFile(path)


def _ending(path: Path) -> str:
    """The format, by the name's ending."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"{path}: {ending or 'a name without ending'} is no known format of clouds; use {', '.join(ENDINGS)}"
        )
    return ending
