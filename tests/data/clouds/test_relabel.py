"""A labelled copy differs from its source in its classes and in nothing else: parsed here by other means."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import laspy
import numpy as np
import pytest
from plyfile import PlyData

from oneiros.data.clouds.formats import open_cloud, write_cloud, write_labels
from tests.data.clouds.cases import LAS_FILES, PLY_FILES, SHARED, needs_files, random_las, small_cloud


def fields_of(path: Path) -> dict[str, np.ndarray]:
    """Every field of every point by laspy, the byte of the old formats' classes split into class and flags."""
    points = laspy.read(path).points.array
    fields = {name: points[name] for name in points.dtype.names}
    if "raw_classification" in fields:
        raw = fields.pop("raw_classification")
        fields |= {"classification": raw & 31, "flags": raw >> 5}
    return fields


def records_of(path: Path) -> list[bytes]:
    """Every record before and after the points, but for those of compression and COPC, by the LAS 1.4 standard."""
    data, found = path.read_bytes(), []
    place, _, number = struct.unpack_from("<HII", data, 94)
    for _ in range(number):
        size = 54 + struct.unpack_from("<H", data, place + 20)[0]
        found.append(data[place : place + size])
        place += size
    if data[25] >= 4:
        place, number = struct.unpack_from("<QI", data, 235)
        for _ in range(number):
            size = 60 + struct.unpack_from("<Q", data, place + 20)[0]
            found.append(data[place : place + size])
            place += size
    return [record for record in found if record[2:6] != b"copc" and record[2:16] != b"laszip encoded"]


def header_of(path: Path) -> bytes:
    """The public header without what must change when points are compressed anew: offsets and numbers of records."""
    header = bytearray(path.read_bytes()[:375])
    length = struct.unpack_from("<H", header, 94)[0]
    header[96:104] = bytes(8)
    if length > 227:
        header[227:247] = bytes(20)
    return bytes(header[:length])


def relabel(source: Path, folder: Path, **options) -> tuple[Path, np.ndarray]:
    """Random labels, given in pieces."""
    labels = np.random.default_rng(1).integers(0, 32, open_cloud(source).num_points)
    out = folder / source.name.replace(".copc", "")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)
        warnings.filterwarnings("ignore", ".*is COPC", UserWarning)
        write_labels(source, out, iter(np.array_split(labels, 7)), **options)
    return out, labels


def assert_only_classes_differ(source: Path, out: Path, labels: np.ndarray) -> None:
    old, new = fields_of(source), fields_of(out)
    assert list(old) == list(new)
    assert np.array_equal(new.pop("classification"), labels)
    for name, values in new.items():
        assert values.tobytes() == old[name].tobytes(), name
    assert records_of(out) == records_of(source)
    assert header_of(out) == header_of(source)


@needs_files
@pytest.mark.parametrize("source", LAS_FILES, ids=lambda path: path.name)
def test_classes_alone_differ(tmp_path, source):
    before = hashlib.sha256(source.read_bytes()).digest()
    out, labels = relabel(source, tmp_path)
    assert_only_classes_differ(source, out, labels)
    assert hashlib.sha256(source.read_bytes()).digest() == before
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("point_format", range(11))
def test_every_point_format(tmp_path, point_format):
    source = random_las(tmp_path / "source.las", point_format)
    (tmp_path / "out").mkdir()
    out, labels = relabel(source, tmp_path / "out")
    assert_only_classes_differ(source, out, labels)
    changed = np.flatnonzero(np.frombuffer(source.read_bytes(), "u1") != np.frombuffer(out.read_bytes(), "u1"))
    offset, length = struct.unpack_from("<I", source.read_bytes(), 96)[0], laspy.read(source).point_format.size
    assert set((changed - offset) % length) == {15 if point_format <= 5 else 16}  # no other byte of the file


@needs_files
def test_what_follows_the_points_is_copied_and_found(tmp_path):
    """An uncompressed file is the same but for the classes' bytes; in a LAZ file its place moves."""
    out, _ = relabel(SHARED / "cloud_formats/1_4_w_evlr.las", tmp_path)
    assert [(record.user_id, record.record_id) for record in laspy.read(out).evlrs] == [("pylastest", 42)]
    las = laspy.read(SHARED / "cloud_formats/1_4_w_evlr.las")
    las.write(tmp_path / "packed.laz")
    (tmp_path / "out").mkdir()
    packed, labels = relabel(tmp_path / "packed.laz", tmp_path / "out")
    assert_only_classes_differ(tmp_path / "packed.laz", packed, labels)
    assert laspy.read(packed).evlrs[0].record_data_bytes() == las.evlrs[0].record_data_bytes()


@needs_files
def test_copc_becomes_plain_laz_and_says_so(tmp_path):
    source = SHARED / "cloud_formats/simple.copc.laz"
    labels = np.zeros(1065, int)
    with pytest.warns(UserWarning, match=r"out\.laz: is plain LAZ: simple\.copc\.laz is COPC"):
        write_labels(source, tmp_path / "out.laz", labels)
    written = laspy.read(tmp_path / "out.laz")
    assert "copc" not in {record.user_id for record in [*written.header.vlrs, *written.evlrs]}
    with pytest.raises(ValueError, match=r"COPC cannot be written"):
        write_labels(source, tmp_path / "out.copc.laz", labels)


@needs_files
@pytest.mark.parametrize("source", LAS_FILES[:12], ids=lambda path: path.name)
def test_probabilities_become_extra_dimensions(tmp_path, source):
    """Also where the file has extra bytes already, described or not; and again over the file so written."""
    num_points = open_cloud(source).num_points
    chances = np.random.default_rng(2).random((num_points, 2)).astype(np.float32)
    options = {"probabilities": iter(np.array_split(chances, 7)), "class_names": ["ground", "tree"]}
    out, labels = relabel(source, tmp_path, **options)
    old, new = fields_of(source), fields_of(out)
    if "ExtraBytes" in old and "confidence" in new:  # of a second record, which has become one with the first
        old["confidence"] = old.pop("ExtraBytes")
    assert set(new) == {*old, "probability_ground", "probability_tree", "entropy", "margin"}
    assert np.array_equal(np.stack([new["probability_ground"], new["probability_tree"]], axis=1), chances)
    assert np.array_equal(new["classification"], labels)
    for name, values in old.items():
        assert name == "classification" or values.tobytes() == new[name].tobytes(), name
    again = out.with_stem("again")
    write_labels(out, again, labels, probabilities=chances[:, ::-1], class_names=["ground", "tree"])
    assert list(fields_of(again)) == list(new)
    assert np.array_equal(fields_of(again)["probability_ground"], chances[:, 1])


@needs_files
@pytest.mark.parametrize("source", PLY_FILES, ids=lambda path: path.name)
def test_ply_gains_properties_and_keeps_every_word(tmp_path, source):
    num_points = open_cloud(source).num_points
    chances = np.full((num_points, 1), 0.25, np.float32)
    out = tmp_path / "out.ply"
    write_labels(source, out, np.arange(num_points), probabilities=chances, class_names=["low a"])
    again = tmp_path / "again.ply"
    write_labels(out, again, np.arange(num_points) + 7, probabilities=2 * chances, class_names=["low a"])
    old, new = open_cloud(source).read(), open_cloud(again).read()
    assert np.array_equal(new.xyz, old.xyz)
    assert new.classification.tolist() == list(range(7, 7 + num_points))
    assert list(new.attributes) == [*old.attributes, "classification", "probability_low_a", "entropy", "margin"]
    for name, values in old.attributes.items():
        assert np.array_equal(new.attributes[name], values)
    assert np.array_equal(new.attributes["probability_low_a"], np.full(num_points, 0.5))
    if "text" in source.name:
        kept = [line.split() for line in source.read_bytes().splitlines() if not line.startswith(b"property")]
        words = [line.split() for line in again.read_bytes().splitlines() if not line.startswith(b"property")]
        assert [word[: len(line)] for line, word in zip(kept, words, strict=True)] == kept
    else:
        assert PlyData.read(again)["vertex"].data["classification"].tolist() == new.classification.tolist()


def test_text_ply_in_uneven_pieces(tmp_path):
    """No line is lost between two pieces, and digits beyond those of a float stay."""
    header = "ply\nformat ascii 1.0\nelement vertex 9\nproperty float x\nproperty float y\nproperty float z\n"
    lines = [f"{i}.123456789123 0 {i}" for i in range(9)]
    (tmp_path / "in.ply").write_text(header + "end_header\n" + "\n".join(lines) + "\n")
    write_labels(tmp_path / "in.ply", tmp_path / "out.ply", iter([np.array([5]), np.arange(5), np.arange(3)]))
    written = (tmp_path / "out.ply").read_text().splitlines()[-9:]
    assert written == [f"{line} {label}" for line, label in zip(lines, [5, *range(5), *range(3)], strict=True)]


def test_npy_of_plain_numbers_gains_names(tmp_path):
    numbers = np.random.default_rng(0).random((6, 4)).astype(np.float32)
    np.save(tmp_path / "in.npy", numbers)
    write_labels(tmp_path / "in.npy", tmp_path / "out.npy", np.arange(6))
    table = np.load(tmp_path / "out.npy")
    assert table.dtype.names == ("x", "y", "z", "column_3", "classification")
    assert np.array_equal(np.stack([table[name] for name in table.dtype.names[:4]], axis=1), numbers)
    write_labels(tmp_path / "out.npy", tmp_path / "again.npy", np.arange(6)[::-1])
    assert np.load(tmp_path / "again.npy")["classification"].tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("ending", ["las", "laz", "ply", "npy"])
def test_what_does_not_fit_leaves_nothing_behind(tmp_path, ending):
    source, out = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    write_cloud(source, small_cloud(5))
    good, chances = np.zeros(5, int), np.zeros((5, 2))

    def refused(message, labels=good, target=out, **options):
        with pytest.raises(ValueError, match=message):
            write_labels(source, target, labels, **options)
        assert [path.name for path in tmp_path.iterdir()] == [source.name]

    refused("there are 4 labels for 5 points", good[:4])
    refused("there are at least 6 labels for 5 points", iter([good, good[:1], good]))
    refused("a label is -1", np.array([0, 0, -1, 0, 0]))
    refused("a label is 256; .* holds classes from 0 to 255", np.full(5, 256))
    refused("must be .* whole numbers", np.zeros(5))
    refused("must be .* whole numbers", np.zeros((5, 1), int))
    refused(r"must be \(5, 3\)", probabilities=chances, class_names=["a", "b", "c"])
    refused("belong together", probabilities=chances)
    refused("must differ from each other", probabilities=chances, class_names=["a", "a"])
    refused("is the source itself", target=source)
    refused("is the source itself", target=tmp_path / "." / source.name)
    refused(f"must end in .{ending}", target=tmp_path / "out.xyz")


def test_old_point_formats_hold_classes_up_to_31(tmp_path):
    source = random_las(tmp_path / "in.las", 3, num_points=2)
    with pytest.raises(ValueError, match=r"a label is 32; in\.las holds classes from 0 to 31"):
        write_labels(source, tmp_path / "out.las", np.array([31, 32]))
    assert not (tmp_path / "out.las").exists()


def test_an_existing_file_is_replaced_only_by_a_whole_one(tmp_path):
    write_cloud(tmp_path / "in.laz", small_cloud(5))
    (tmp_path / "out.laz").write_text("old")
    with pytest.raises(ValueError, match="3 labels for 5 points"):
        write_labels(tmp_path / "in.laz", tmp_path / "out.laz", iter([np.zeros(3, int)]))
    assert (tmp_path / "out.laz").read_text() == "old"
    write_labels(tmp_path / "in.laz", tmp_path / "out.laz", np.zeros(5, int))
    assert open_cloud(tmp_path / "out.laz").classes == {0: 5}


@pytest.mark.parametrize("ending", ["las", "laz", "ply", "npy"])
def test_a_full_disk(tmp_path, ending):
    """A limit on the size of files stands for it."""
    write_cloud(tmp_path / f"in.{ending}", small_cloud(20_000))
    code = f"""
import resource, signal, numpy as np
from oneiros.data.clouds.formats import open_cloud, write_cloud, write_labels
cloud = open_cloud("in.{ending}").read()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
labels = np.zeros(20_000, int)
tries = [(write_labels, ("in.{ending}", "out.{ending}", labels)), (write_cloud, ("out.{ending}", cloud))]
for write, arguments in tries:
    try:
        write(*arguments)
    except OSError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"out.{ending}: could not be written (") for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == [f"in.{ending}"]
