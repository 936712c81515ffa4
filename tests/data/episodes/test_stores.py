"""Datasets on an object store; fsspec's own, which is in memory, stands for it."""

import fsspec
import pytest

from oneiros.cli import main
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.remote import stores
from tests.data.conftest import Counting

ADDRESS = "memory://lab/arm"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Two episodes, of 4 and 5 rows, and something that is no part of a dataset."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Counting.record(tmp_path / "made", [4, 5])
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "made") + "/", "/lab/arm/", recursive=True)
    memory.pipe("/lab/arm/README.md", b"not needed")
    forget()
    yield memory
    memory.store.clear()


def forget():
    """As a new command begins."""
    stores.mirrored.cache_clear()


def test_a_dataset_is_downloaded_once_and_again_what_changed(store, tmp_path, monkeypatch, capsys):
    data = Dataset.open(ADDRESS, strict=True)
    assert [Counting.numbers(data, index) for index in (0, 1)] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    assert not (data.path / "README.md").exists()
    fetched = []
    get = store.get_file
    monkeypatch.setattr(type(store), "get_file", lambda self, name, to: (fetched.append(name), get(name, to))[1])
    forget()
    assert main(["inspect", ADDRESS, "--json", "--fast"]) is None
    assert fetched == []
    store.pipe("/lab/arm/meta/stats.json", store.cat("/lab/arm/meta/stats.json") + b" ")
    forget()
    Dataset.open(ADDRESS)
    assert fetched == ["/lab/arm/meta/stats.json"]

    def away(*_, **__):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(type(store), "find", away)
    forget()
    capsys.readouterr()
    assert len(Dataset.open(ADDRESS).episodes) == 2
    assert "cannot be reached (ConnectionError)" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"memory://lab/other: cannot be read \(ConnectionError: nobody answers\)"):
        Dataset.open("memory://lab/other")


def test_a_download_that_was_cut_off_goes_on(store, monkeypatch):
    get, left = store.get_file, [3]

    def cut_off(self, name, to):
        left[0] -= 1
        if left[0] < 0:
            raise TimeoutError("gone")
        get(name, to)

    monkeypatch.setattr(type(store), "get_file", cut_off)
    with pytest.raises(
        ValueError, match=r"cannot be downloaded \(/lab/arm/.*, TimeoutError: gone\); run again to go on"
    ):
        Dataset.open(ADDRESS)
    left[0] = 99
    forget()
    assert len(Dataset.open(ADDRESS).episodes) == 2
    assert 99 - left[0] == len(store.find("/lab/arm")) - 1 - 3  # but for README.md, and what was there


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("memory://lab/nothing", "is no LeRobot dataset; it has no meta/info.json"),
        ("nowhere://lab/arm", "cannot be read (ValueError: Protocol not known: nowhere"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(store, address, told, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["inspect", address])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert f"oneiros: {address}: {told}" in error
    assert error.count("\n") == 1
