"""Clouds of strangers: what a file promises is checked before memory is taken; a decoder's death is one line."""

import os
import struct

import numpy as np
import pytest

from oneiros.data.clouds.formats import Cloud, open_cloud, write_cloud, write_labels
from oneiros.data.clouds.las import laz
from tests.data.clouds.cases import LAS_FILES, small_cloud

laspy = pytest.importorskip("laspy")


def refused(path) -> str:
    """What is said of a cloud that cannot be read whole."""
    with pytest.raises((ValueError, OSError), match=path.name) as caught:
        for _ in open_cloud(path).chunks():
            pass
    return str(caught.value)


# -- LAZ ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tile(tmp_path):
    """A LAZ of 4,000 points; where its points and its table of chunks begin."""
    path = tmp_path / "tile.laz"
    write_cloud(path, small_cloud(4000))
    content = bytearray(path.read_bytes())
    points = struct.unpack_from("<I", content, 96)[0]
    return path, content, points, struct.unpack_from("<q", content, points)[0]


def patched(tile, kind: str, place: int, value) -> str:
    path, content, _, _ = tile
    struct.pack_into(f"<{kind}", content, place, value)
    path.write_bytes(content)
    return refused(path)


def test_a_laz_without_points_and_without_the_compressors_record(tile):
    path, content, points, _ = tile
    struct.pack_into("<Q", content, 247, 0)
    start = content.index(b"laszip encoded", 0, points)
    content[start : start + 16] = bytes(16)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tile\.laz: is compressed, but lacks the compressor's record"):
        write_labels(path, path.with_name("out.laz"), np.zeros(0, np.uint8))
    assert not path.with_name("out.laz").exists()


def test_ordinary_laz_are_decoded_in_this_process(tile, monkeypatch):
    monkeypatch.setattr(laz, "_try", pytest.fail)
    for path in (tile[0], *(path for path in LAS_FILES if path.suffix == ".laz")):
        assert sum(map(len, open_cloud(path).chunks())) == open_cloud(path).num_points


@pytest.mark.parametrize("count", [4001, 100_000, 2**33])
def test_more_points_than_a_laz_has(tile, count):
    assert patched(tile, "Q", 247, count)


@pytest.mark.parametrize("value", [0, 2**20, 2**32 - 1])
def test_a_number_of_chunks_that_cannot_be(tile, value):
    assert patched(tile, "I", tile[3] + 4, value)


@pytest.mark.parametrize("value", [0, 400, 2**40, -5])
def test_a_table_of_chunks_that_is_elsewhere(tile, value):
    assert patched(tile, "q", tile[2], value)


@pytest.mark.parametrize("layer", range(10))
def test_a_layer_of_four_gigabytes(tile, layer):
    """The decoder would take the memory that a chunk asks for before it looks whether the file has so much."""
    length = struct.unpack_from("<H", tile[1], 105)[0]
    assert patched(tile, "I", tile[2] + 8 + length + 4 + 4 * layer, 2**32 - 1)


def test_a_chunk_of_two_gigabytes(tile):
    """The decoder makes room for a whole chunk, whatever the number of points."""
    record = bytes(tile[1]).find(b"laszip encoded") + 52
    assert "more than a gigabyte" in patched(tile, "I", record + 12, 65_000_000)


def test_a_file_that_kills_its_trial_or_takes_its_time_is_refused(tile, monkeypatch):
    for script in ("import os; os.abort()", "import time; time.sleep(60)", "x = bytearray(1 << 60)"):
        monkeypatch.setattr(laz, "_TRIAL", script)
        monkeypatch.setattr(laz, "SECONDS", 0.1)
        laz._try.cache_clear()
        assert "decoding it crashes, or takes more than a gigabyte" in patched(tile, "q", tile[2], 400)


def test_a_trial_is_run_once_and_what_passes_it_is_read(tile, monkeypatch):
    """A file that says -1 for the place of its table, as one does that was written in a stream, is still read."""
    path, content, points, table = tile
    struct.pack_into("<q", content, points, -1)
    path.write_bytes(content + struct.pack("<q", table))
    trials = []
    monkeypatch.setattr(laz, "_try", lambda *key: trials.append(key))
    assert len(open_cloud(path).read()) == 4000
    assert len(set(trials)) == 1


def test_a_trial_runs_no_code_of_the_folder_it_is_started_in(tile, tmp_path, monkeypatch):
    (tmp_path / "laspy.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    assert patched(tile, "q", tile[2], 400)
    assert not (tmp_path / "ran").exists()


# -- what is no file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["las", "laz", "ply", "npy"])
def test_pipes_and_devices_are_refused_without_waiting(tmp_path, ending):
    os.mkfifo(tmp_path / f"pipe.{ending}")
    (tmp_path / f"zero.{ending}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        assert "is a pipe or a device, not a cloud" in refused(tmp_path / f"{name}.{ending}")


# -- npy ---------------------------------------------------------------------------------------------------------------


def npy(path, descr: str, shape: str, content: bytes = bytes(240)):
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content)
    return path


def test_an_npz_that_is_called_npy(tmp_path):
    with (tmp_path / "cloud.npy").open("wb") as file:
        np.savez(file, np.zeros((4, 3)))
    assert "cannot be read as npy: it begins with b'PK" in refused(tmp_path / "cloud.npy")


@pytest.mark.parametrize(
    "shape",
    ["(-1, 3)", "(3, -1)", "(10**30, 3)", f"({10**30}, 3)", f"({2**62}, 3)", "('x', 3)", "(True, 3)", "((1,), 3)"],
)
def test_shapes_that_cannot_be(tmp_path, shape):
    refused(npy(tmp_path / "cloud.npy", "'<f8'", shape))


def test_two_milliards_of_columns_without_a_row(tmp_path):
    assert "a cloud is (N, 3 to 10000) numbers" in refused(npy(tmp_path / "cloud.npy", "'<f8'", f"(0, {2**31})"))


@pytest.mark.parametrize("kind", ["<U4", "<M8[s]", "<c16", "|S3", "|V8", "<m8[D]"])
def test_coordinates_and_attributes_that_are_no_numbers(tmp_path, kind):
    refused(npy(tmp_path / "cloud.npy", f"'{kind}'", "(2, 3)"))
    for name in "xw":
        fields = [(each, kind if each == name else "<f4") for each in "xyzw"]
        assert "attributes are numbers" in refused(npy(tmp_path / "cloud.npy", repr(fields), "(2,)"))


@pytest.mark.parametrize("header", ["{'descr': '<f8', 'shape': (", "{'descr': ['", "\x00" * 50, "{" * 500, "9" * 5000])
def test_headers_that_python_stumbles_over(tmp_path, header):
    head = header.encode().ljust(117) + b"\n"
    (tmp_path / "cloud.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(240))
    assert "cannot be read as npy" in refused(tmp_path / "cloud.npy")


# -- PLY ---------------------------------------------------------------------------------------------------------------

PLY = "ply\nformat {}\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n{}end_header\n1 2 3\n"


@pytest.mark.parametrize("order", ["ascii 1.0", "binary_little_endian 1.0"])
@pytest.mark.parametrize("count", ["-1", "1000000", "1" + "0" * 30, "9" * 5000, "1.5", "x"])
def test_counts_of_points_that_cannot_be(tmp_path, order, count):
    (tmp_path / "cloud.ply").write_text(PLY.format(order, count, ""))
    refused(tmp_path / "cloud.ply")


def test_rows_before_the_points_that_are_not_there(tmp_path):
    text = PLY.format("ascii 1.0", 1, "").replace("element vertex", f"element other {10**18}\nelement vertex")
    (tmp_path / "cloud.ply").write_text(text)
    assert "is cut off" in refused(tmp_path / "cloud.ply")


def test_a_property_named_twice(tmp_path):
    (tmp_path / "cloud.ply").write_text(PLY.format("ascii 1.0", 1, "property float x\n"))
    assert "two properties of vertex have the same name" in refused(tmp_path / "cloud.ply")


def test_a_header_without_end(tmp_path):
    (tmp_path / "cloud.ply").write_bytes(b"ply\n" + b"comment nothing\n" * 2_000_000)
    assert "its header does not end" in refused(tmp_path / "cloud.ply")


# -- LAS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2**64 - 1, 2**40, 100])
def test_an_extended_record_that_does_not_end(tmp_path, size):
    path = tmp_path / "cloud.las"
    write_cloud(path, Cloud(np.zeros((4, 3)), {}))
    content = bytearray(path.read_bytes())
    struct.pack_into("<QI", content, 235, len(content), 1)
    path.write_bytes(content + struct.pack("<H16sHQ32s", 0, b"x", 1, size, b""))
    assert "extended record" in refused(path)
