"""Tables that claim too much, or are of another kind, are one line and little time and memory."""

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oneiros.data.episodes import parquet, parquet_pages
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.inspection.checks import run_checks
from oneiros.data.episodes.metadata import read_tasks

DATA, EPISODES, TASKS = (
    "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet",
)  # fmt: skip


@pytest.fixture
def data(tmp_path, counting):
    counting.record(tmp_path / "data", [4, 3])
    return tmp_path / "data"


def change(path: Path, name: str, values: object) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(values)), path)


def repeated(value: object, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([value]))


def use(path: Path) -> Dataset:
    dataset = Dataset.open(path)
    for episode in dataset.episodes:
        dataset.actions(episode.index)
        dataset.states(episode.index)
        dataset.frames(episode.index)
    return dataset


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        (DATA, "episode_index", ["x"] * 7),
        (DATA, "action", ["x"] * 7),
        (DATA, "action", [[["x"]]] * 7),
        (DATA, "action", [None] * 7),
        (DATA, "action", [[1.0] * (row % 3) for row in range(7)]),
        (DATA, "action", np.arange(7).astype("datetime64[s]")),
        (EPISODES, "length", [-4, 3]),
        (EPISODES, "length", ["x", "y"]),
        (EPISODES, "length", [None, 3]),
        (EPISODES, "episode_index", [None, 3]),
        (EPISODES, "episode_index", ["x", "y"]),
        (EPISODES, "tasks", [3, 4]),
        (EPISODES, "videos/observation.images.front/from_timestamp", [-5.0, 1.0]),
        (EPISODES, "videos/observation.images.front/from_timestamp", [float("inf"), 1.0]),
    ],
)
def test_columns_of_another_kind(data, name, column, values):
    change(data / name, column, values)
    with pytest.raises(ValueError, match=r"^[^\n]*(/data|data/chunk)[^\n]*$"):
        use(data)


@pytest.mark.parametrize("name", [DATA, EPISODES, TASKS])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 1000 + b"PAR1", b"PAR1" + b"\xff" * 40 + b"PAR1"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_that_are_no_tables(data, name, content):
    (data / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]*(parquet|readable episode)[^\n]*$"):
        read_tasks(use(data).path)


@pytest.mark.parametrize("name", [EPISODES, TASKS])
def test_a_pipe_that_nobody_fills(data, name):
    (data / name).unlink()
    os.mkfifo(data / name)
    with pytest.raises(ValueError, match="is no file"):
        read_tasks(use(data).path)


def test_a_table_that_claims_more_rows_than_can_be_believed(data):
    pq.write_table(pa.table({"episode_index": repeated(0, 2**20)}), data / EPISODES)
    assert (data / EPISODES).stat().st_size < 10_000
    with pytest.raises(ValueError, match="claims to have 1,048,576 rows; at most 524,288 can be read"):
        Dataset.open(data)


@pytest.mark.parametrize("name", [EPISODES, TASKS])
def test_a_text_that_stands_once_and_fills_the_memory_as_often_as_it_is_read(data, name, monkeypatch):
    for constant in ("_MOST_BYTES", "_BYTES_AT_ONCE"):
        monkeypatch.setattr(parquet, constant, getattr(parquet, constant) // 64)
    text = repeated("x" * 100_000, 200_000)  # 20 GB
    columns = {"task": text, "task_index": np.arange(200_000), "episode_index": np.arange(200_000)}
    pq.write_table(pa.table(columns), data / name)
    begun, taken = time.monotonic(), pa.default_memory_pool().max_memory()
    with pytest.raises(ValueError, match="holds more than 8 MB; too much to be read"):
        read_tasks(Dataset.open(data).path)
    assert time.monotonic() - begun < 5
    assert pa.default_memory_pool().max_memory() - taken < 200e6


@pytest.mark.parametrize("codec", ["zstd", "gzip", "snappy", "brotli", "lz4"])
def test_pages_that_unpack_to_more_than_the_footer_claims(tmp_path, codec):
    """A column chunk is taken from a large file and put where the footer of a small one expects its own."""
    options = {"compression": codec, "use_dictionary": False, "data_page_size": 2**30, "write_statistics": False}
    small, large, lying = (tmp_path / f"{name}.parquet" for name in ("small", "large", "lying"))
    rows = 2_000_000
    pq.write_table(pa.table({"x": np.zeros(rows)}), large, **options, row_group_size=rows)
    chunk = pq.ParquetFile(large).metadata.row_group(0).column(0)
    pages = large.read_bytes()[chunk.data_page_offset :][: chunk.total_compressed_size]
    noise = np.random.default_rng(0).bytes(len(pages) - 60)
    pq.write_table(pa.table({"x": [noise]}), small, **options)
    chunk = pq.ParquetFile(small).metadata.row_group(0).column(0)
    place, spare = chunk.data_page_offset, chunk.total_compressed_size
    content = small.read_bytes()
    assert parquet.read_table(small, lambda name: True).num_rows == 1
    lying.write_bytes(content[:place] + pages[:spare].ljust(spare, b"\0") + content[place + spare :])
    with pytest.raises(
        ValueError, match=rf"^{lying}: cannot be read \(x unpacks to [0-9,]+ bytes or more, where .* claimed"
    ):
        parquet.read_table(lying, lambda name: True)


@pytest.mark.parametrize("codec", ["zstd", "gzip", "snappy", "none"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_honest_pages_of_every_kind_are_read(tmp_path, codec, version, monkeypatch):
    monkeypatch.setattr(parquet_pages, "_HARMLESS", 0)
    monkeypatch.setattr(parquet_pages, "_SLACK", 0)
    random = np.random.default_rng(0)
    columns = {
        "numbers": random.normal(size=5000),
        "lists": list(random.normal(size=(5000, 3))),
        "texts": [f"row {row % 7}" for row in range(5000)],
        "none": [None, 1] * 2500,
        "truths": [True, False] * 2500,
    }
    table = pa.table(columns)
    options = {
        "data_page_size": 1000,
        "row_group_size": 1700,
        "data_page_version": version,
        "write_page_checksum": True,
    }
    pq.write_table(table, tmp_path / "some.parquet", compression=codec, **options)
    assert parquet.read_table(tmp_path / "some.parquet", lambda name: True).equals(table)
    assert sum(map(len, parquet.row_groups(tmp_path / "some.parquet"))) == 5000


@pytest.mark.parametrize(
    "content",
    [b"", b"\x15", b"\xff" * 99, b"\x19" * 9999, b"\x1c" * 9999, b"\x19\xf1" + b"\xff" * 8 + b"\x01", b"\x00"],
)
def test_pages_whose_header_is_none(tmp_path, content, monkeypatch):
    monkeypatch.setattr(parquet_pages, "_HARMLESS", 0)
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"x": np.random.default_rng(0).normal(size=20_000)}), path, use_dictionary=False)
    column, whole = pq.ParquetFile(path).metadata.row_group(0).column(0), path.read_bytes()
    place = column.data_page_offset
    path.write_bytes(
        whole[:place]
        + content.ljust(column.total_compressed_size, b"\xff")
        + whole[place + column.total_compressed_size :]
    )
    with pytest.raises(ValueError, match=rf"^{path}: cannot be read \(x has a page "):
        parquet.read_table(path, lambda name: True)


def test_a_data_file_of_many_values(data, monkeypatch):
    monkeypatch.setattr(parquet, "_MOST_VALUES", 50)
    with pytest.raises(ValueError, match="claims to hold 70 values"):
        use(data)
    monkeypatch.setattr(parquet, "_MOST_VALUES", 6)
    with pytest.raises(ValueError, match=r"no readable episode.*claims to have 7 rows"):
        use(data)


def test_a_lost_table_of_tasks_is_a_problem(data):
    for content in (None, b"x", b"PAR1"):
        (data / TASKS).unlink()
        if content:
            (data / TASKS).write_bytes(content)
        problems = [problem.text for check in run_checks(Dataset.open(data)) for problem in check.problems]
        assert problems
        assert all("task" in problem for problem in problems)
        (data / TASKS).touch()


def test_a_table_that_a_recorder_replaces_while_it_is_read(data, tmp_path, counting, monkeypatch):
    """Every file is opened once: its size is that of the file that is read."""
    counting.record(tmp_path / "grown", [4, 3, 5])
    opened, looked_at = Path.open, Path.is_file

    def replaced(path: Path) -> None:
        other = tmp_path / "grown" / path.relative_to(data)
        (tmp_path / "copy").write_bytes(other.read_bytes())
        os.replace(tmp_path / "copy", path)

    def is_file(path: Path) -> bool:
        answer = looked_at(path)
        if path.is_relative_to(data) and path.suffix in (".mp4", ".parquet"):
            replaced(path)
        return answer

    def open_then_replace(path: Path, mode: str = "r", **options: str):
        file = opened(path, mode, **options)
        if path.is_relative_to(data) and path.suffix in (".mp4", ".parquet"):
            replaced(path)
        return file

    monkeypatch.setattr(Path, "is_file", is_file)
    monkeypatch.setattr(Path, "open", open_then_replace)
    assert not Dataset.open(data).problems
