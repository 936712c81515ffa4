"""Clouds of points on disk: LAS and LAZ (COPC too), PLY, npy, npz, PCD, E57, text.

`open_cloud(path)` reads the header; `.read()` gives the whole `Cloud`, `.chunks(n)` gives it in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oneiros.data.clouds.cloud import Cloud, CloudFile
from oneiros.data.clouds.relabel import CERTAINTY, Parts, check_paths, label_parts, with_certainty

__all__ = ["Cloud", "CloudFile", "copy_with_labels", "open_cloud", "write_cloud", "write_labels"]

_LOADED = (".npz", ".pcd", ".e57", ".xyz", ".txt", ".csv")  # read whole
ENDINGS = (".las", ".laz", ".ply", ".npy", *_LOADED)


def open_cloud(path: Path | str, columns: str = "") -> CloudFile:
    """Open a cloud; only its header is read.

    columns: what those of a text are, such as x,y,z,intensity,class; by default what its first line says.

    ValueError when it is damaged or of an unknown format, OSError when it is not there.
    """
    path = Path(path)
    ending = _ending(path)
    if not path.is_file():
        there = "is a folder" if path.is_dir() else "is a pipe or a device" if path.exists() else ""
        raise OSError(f"{path}: {f'{there}, not a cloud' if there else 'there is no such file'}")
    if ending == ".ply":
        from oneiros.data.clouds.ply import PlyFile

        return PlyFile(path)
    if ending == ".npy":
        from oneiros.data.clouds.npy import NpyFile

        return NpyFile(path)
    if ending in _LOADED:
        from oneiros.data.clouds.loaded import open_loaded

        return open_loaded(path, columns)
    from oneiros.data.clouds.las.reader import LasFile

    return LasFile(path)


def write_labels(
    source: Path | str,
    out: Path | str,
    labels: Parts,
    *,
    probabilities: Parts | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Copy a cloud with other classes: everything else in the file stays as it is, bit for bit.

    source: the cloud; it is never written to. out: the copy, of the same format. It appears under its name once it is
        whole. A COPC source becomes plain LAZ, with a warning, and so does E57, which has no field for classes.
    labels: whole numbers (N,) in the order of the file, or an iterator of such arrays, of any lengths.
    probabilities: float (N, C) to store as well, or an iterator with a part for each part of the labels: extra
        dimensions (LAS, LAZ), properties (PLY) or fields (npy) called probability_NAME for each of C `class_names`,
        with _ for blanks, and their entropy (in bits) and margin (of the likeliest over the next).
    An npy file of plain numbers becomes one of named fields: x, y, z, column_3, ... and classification.

    ValueError when labels and points are not equally many, the format cannot hold a label, or `out` does not fit.
    """
    source, out = Path(source), Path(out)
    file = open_cloud(source)
    check_paths(source, out)
    copy_with_labels(file, out, labels, probabilities=probabilities, class_names=class_names)


def copy_with_labels(
    file: CloudFile,
    out: Path,
    labels: Parts,
    *,
    probabilities: Parts | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """What `write_labels` does, of an open file, to an `out` that has passed `check_paths`."""
    if (probabilities is None) != (class_names is None):
        raise ValueError("probabilities and class names belong together: give both or neither")
    names = tuple(f"probability_{name}".replace(" ", "_") for name in class_names or ())
    if len(set(names)) < len(names):
        raise ValueError(f"class names must differ from each other, got {', '.join(class_names or ())}")
    parts = label_parts(labels, probabilities, num_points=file.num_points, num_classes=len(names))
    if names:
        parts, names = map(with_certainty, parts), (*names, *CERTAINTY)
    ending = _ending(file.path)
    if ending == ".ply":
        from oneiros.data.clouds.ply import PlyFile, write_ply_labels

        assert isinstance(file, PlyFile)
        write_ply_labels(file, out, parts, names)
    elif ending == ".npy":
        from oneiros.data.clouds.npy import NpyFile, write_npy_labels

        assert isinstance(file, NpyFile)
        write_npy_labels(file, out, parts, names)
    elif ending in _LOADED:
        from oneiros.data.clouds.loaded import LoadedFile, write_loaded_labels

        assert isinstance(file, LoadedFile)
        write_loaded_labels(file, out, parts, names)
    else:
        from oneiros.data.clouds.las.labels import write_las_labels

        write_las_labels(file.path, out, parts, names)


def write_cloud(path: Path | str, cloud: Cloud) -> None:
    """Write a new file in the format that the name ends in; it appears under its name once it is whole.

    LAS and LAZ keep coordinates to the millimetre and the reference system; the others have no place for the latter.
    ValueError for values that the format cannot hold.
    """
    path = Path(path)
    ending = _ending(path)
    if ending == ".ply":
        from oneiros.data.clouds.ply import write_ply

        write_ply(path, cloud)
    elif ending == ".npy":
        from oneiros.data.clouds.npy import write_npy

        write_npy(path, cloud)
    elif ending in _LOADED:
        from oneiros.data.clouds.loaded import write_loaded

        write_loaded(path, cloud)
    else:
        from oneiros.data.clouds.las.writer import write_las

        write_las(path, cloud, compress=ending == ".laz")


def _ending(path: Path) -> str:
    """The format, by the name's ending."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"{path}: {ending or 'a name without ending'} is no known format of clouds; use {', '.join(ENDINGS)}"
        )
    return ending
