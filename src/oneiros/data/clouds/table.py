"""Clouds whose points are rows of a table with named fields: PLY and npy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from oneiros.data.clouds.cloud import CHUNK, CLASSIFICATION, Cloud, CloudFile
from oneiros.data.clouds.relabel import check_range

XYZ = ("x", "y", "z")


class TableFile(CloudFile):
    """A cloud of rows with fields x, y, z and others; `dtype` names them."""

    crs = unit = None

    def __init__(
        self, path: Path, num_points: int, dtype: np.dtype, class_names: Mapping[int, str] | None = None
    ) -> None:
        names = dtype.names or ()
        if missing := [name for name in XYZ if name not in names]:
            raise ValueError(f"{path}: points have no {', '.join(missing)}; they have {', '.join(names) or 'no names'}")
        for name in names:
            base, shape = dtype[name].base, dtype[name].shape
            if base.kind not in "biuf" or (shape and name in XYZ) or len(shape) > 1:
                raise ValueError(f"{path}: {name} is {_said(dtype[name])}; a point's attributes are numbers")
        self.path, self.num_points, self.dtype = path, num_points, dtype
        self.class_names = class_names or {}
        self.single = any(dtype[name].base == np.dtype("f4") for name in XYZ)
        self._fields = {known: name for known, name in known_names(names).items() if name not in XYZ}
        self.attribute_names = tuple(self._fields)

    @property
    def highest_class(self) -> int:
        name = class_field(self.dtype.names or ())
        return highest_class(self.dtype[name] if name else np.dtype("u1"))

    @abstractmethod
    def rows(self, sizes: Iterable[int]) -> Iterator[np.ndarray]:
        """Consecutive pieces of the table, structured arrays of so many rows."""

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest x, y, z, each float64 (3,), inf and -inf without points. Reads the file once."""
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for cloud in self.chunks(CHUNK, attributes=()):
            low, high = np.minimum(low, cloud.xyz.min(axis=0)), np.maximum(high, cloud.xyz.max(axis=0))
        return low, high

    def _stream(self, sizes: Iterable[int], names: Collection[str]) -> Iterator[Cloud]:
        for rows in self.rows(sizes):
            xyz = np.stack([rows[name] for name in XYZ], axis=1, dtype=np.float64)
            attributes = {name: _native(rows[self._fields[name]]) for name in names}
            yield Cloud(xyz, attributes, self.crs, self.path, self.class_names)


def _said(dtype: np.dtype) -> str:
    return f"{dtype.base}" + (f" of shape {dtype.shape}" if dtype.shape else "")


_STANDARD = {
    "classification": CLASSIFICATION,
    "class": CLASSIFICATION,
    "label": CLASSIFICATION,
    "intensity": "intensity",
    "returnnumber": "return_number",
    "numberofreturns": "number_of_returns",
    "numreturns": "number_of_returns",
    "withheld": "withheld",
    "synthetic": "synthetic",
    "red": "red",
    "green": "green",
    "blue": "blue",
}


def known_names(names: Sequence[str]) -> dict[str, str]:
    """Fields by what LAS calls them: in any case, with or without blanks and underscores, and with the `scalar_` that
    CloudCompare puts before names. Fields that LAS does not know keep their names, and so does the second of two."""
    found: dict[str, str] = {}
    plain = {name: name.lower().removeprefix("scalar_").replace("_", "").replace(" ", "") for name in names}
    for word, standard in _STANDARD.items():
        for name in names:
            if plain[name] == word and name not in found.values():
                found.setdefault(standard, name)
    fields = {name: standard for standard, name in found.items()}
    return {fields.get(name, name): name for name in names}


def class_field(names: Sequence[str]) -> str | None:
    """The field that holds the class: classification, class or label."""
    return known_names(names).get(CLASSIFICATION)


def highest_class(dtype: np.dtype) -> int:
    """That a field of this type can hold; of floats, what a float32 counts exactly."""
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else 2**24


def new_values(
    dtype: np.dtype, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str], path: Path
) -> dict[str, np.ndarray]:
    """The fields that relabelling a table writes, by name, the class first, each of the type it has or will have."""
    old = dtype.names or ()
    classes = class_field(old) or CLASSIFICATION
    class_type = dtype[classes] if classes in old else np.dtype("u1")
    types = {name: dtype[name] if name in old else np.dtype("f4") for name in names}
    check_range(labels, highest_class(class_type), f"{path.name} holds classes")
    columns = {classes: labels.astype(class_type)}
    return columns | {name: column.astype(types[name]) for name, column in zip(names, probabilities.T, strict=True)}


def replaced(rows: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rows with other values in these fields; fields they have not come last."""
    old = [(name, rows.dtype[name]) for name in rows.dtype.names or ()]
    new = [(name, column.dtype) for name, column in values.items() if name not in (rows.dtype.names or ())]
    table: np.ndarray = np.empty(len(rows), [*old, *new])
    for name, _ in old:
        table[name] = rows[name]
    for name, column in values.items():
        table[name] = column
    return table


def as_table(cloud: Cloud) -> np.ndarray:
    """A cloud as rows: x, y, z in float64, then every attribute; one of n numbers a point becomes n fields."""
    columns: dict[str, np.ndarray] = dict(zip(XYZ, cloud.xyz.T, strict=True))
    for name, values in cloud.attributes.items():
        if values.ndim == 1:
            columns[name] = values
        else:
            columns |= {f"{name}_{index}": column for index, column in enumerate(values.T)}
    table = np.empty(len(cloud), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table


def _native(values: np.ndarray) -> np.ndarray:
    """A copy in memory, in the machine's byte order."""
    return np.array(values, values.dtype.newbyteorder("="))
