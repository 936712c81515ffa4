"""The parquet tables of a LeRobot dataset (v3.0), as its official reader expects them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oneiros.data.episodes.statistics import Statistics


def data_schema(features: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """Columns of the data files: shape [1] is a plain column, shape [n] a list of fixed size; videos have none."""
    fields = []
    for name, feature in features.items():
        if feature["dtype"] != "video":
            value = pa.from_numpy_dtype(np.dtype(feature["dtype"]))
            size = feature["shape"][0]
            fields.append(pa.field(name, value if feature["shape"] == [1] else pa.list_(value, size)))
    return pa.schema(fields)


def data_table(schema: pa.Schema, columns: Mapping[str, np.ndarray]) -> pa.Table:
    """One episode: a column of shape (T,) or (T, n) for each field."""

    def array(field: pa.Field) -> pa.Array:
        values = columns[field.name]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(values).ravel(), field.type.value_type)
            return pa.FixedSizeListArray.from_arrays(flat, field.type.list_size)
        return pa.array(values.reshape(len(values)), field.type)

    return pa.Table.from_arrays([array(field) for field in schema], schema=schema)


def write_data(path: Path, tables: Sequence[pa.Table]) -> None:
    """One row group per episode, so that a reader can fetch an episode alone."""
    with pq.ParquetWriter(path, tables[0].schema, compression="snappy") as writer:
        for table in tables:
            writer.write_table(table)


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """The task's text is the index of a pandas table: without that metadata, LeRobot names the tasks "0", "1", ..."""
    column = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    index = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **column},
            {"name": "task", "field_name": "task", **index},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    schema = pa.schema(
        [pa.field("task_index", pa.int64()), pa.field("task", pa.string())], metadata={"pandas": json.dumps(pandas)}
    )
    pq.write_table(pa.table([list(range(len(tasks))), list(tasks)], schema=schema), path)


def write_episodes(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=4, ensure_ascii=False), encoding="utf-8")


def plain(statistics: Statistics) -> dict[str, list]:
    """Arrays -> nested lists, for JSON and parquet."""
    return {name: values.tolist() for name, values in statistics.items()}
