"""Text, npz and PCD: what others write is read, what is written comes back, labels change nothing else."""

import struct

import numpy as np
import pytest

from oneiros.data.clouds.formats import open_cloud, write_cloud, write_labels
from oneiros.data.clouds.relabel import with_certainty
from tests.towns import having, town

ENDINGS = ("csv", "txt", "xyz", "npz", "pcd")


@pytest.mark.parametrize("ending", ENDINGS)
def test_clouds_come_back(tmp_path, ending):
    cloud = town(size=14, houses=1, trees=1)
    cloud = having(cloud, height=np.full(len(cloud), 0.1))
    path = tmp_path / f"cloud.{ending}"
    write_cloud(path, cloud)
    file = open_cloud(path)
    back = file.read()
    assert file.num_points == len(cloud)
    assert set(back.attributes) == set(cloud.attributes)
    assert np.array_equal(back.xyz, cloud.xyz)
    for name, values in cloud.attributes.items():
        assert np.array_equal(back.attributes[name], values), name


@pytest.mark.parametrize("ending", ENDINGS)
def test_labels_change_classes_alone(tmp_path, ending):
    cloud = town(size=14, houses=1, trees=1)
    source, out = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    write_cloud(source, cloud)
    labels = np.arange(len(cloud)) % 7
    chances = np.random.default_rng(0).random((len(cloud), 2)).astype(np.float32)
    write_labels(source, out, labels, probabilities=chances, class_names=("ground", "high tree"))
    before, after = open_cloud(source).read(), open_cloud(out).read()
    assert np.array_equal(after.classification, labels)
    assert np.array_equal(after.xyz, before.xyz)
    np.testing.assert_allclose(after.attributes["probability_high_tree"], chances[:, 1], rtol=1e-6)
    first, second = np.sort(chances)[:, ::-1].T
    np.testing.assert_allclose(after.attributes["margin"], first - second, atol=1e-6)
    np.testing.assert_allclose(after.attributes["entropy"], -(chances * np.log2(chances)).sum(1), atol=1e-5)
    for name in set(before.attributes) - {"classification"}:
        assert np.array_equal(after.attributes[name], before.attributes[name])


@pytest.mark.parametrize("ending", ENDINGS)
def test_labels_alone_add_no_field(tmp_path, ending):
    cloud = town(size=14, houses=1, trees=1)
    source, out = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    write_cloud(source, cloud)
    write_labels(source, out, np.arange(len(cloud)) % 7)
    before, after = open_cloud(source).read(), open_cloud(out).read()
    assert list(after.attributes) == list(before.attributes)
    assert np.array_equal(after.classification, np.arange(len(cloud)) % 7)


def test_entropy_and_margin_of_what_is_sure_and_of_what_is_not():
    labels, told = with_certainty((np.zeros(3, int), np.array([[1, 0], [0.5, 0.5], [0.75, 0.25]], np.float32)))
    assert told[:, 3].tolist() == [1, 0, 0.5]
    np.testing.assert_allclose(told[:, 2], [0, 1, 0.811278], atol=1e-6)
    assert with_certainty((labels[:1], np.ones((1, 1), np.float32)))[1].tolist() == [[1, 0, 1]]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1 2 3 7\n4 5 6 8\n", ["column_3"]),
        ("//X Y Z Intensity\n1 2 3 7\n4 5 6 8\n", ["intensity"]),
        ("# exported by somebody\n# x, y, z, Scalar_Intensity\n1,2,3,7\n4,5,6,8\n", ["intensity"]),
        ('"x";"y";"z";"class"\n1;2;3;7\n\n4;5;6;8\n', ["classification"]),
        ("x\ty\tz\tlabel\n1\t2\t3\t7\n4\t5\t6\t8\n", ["classification"]),
    ],
)
def test_text_as_others_write_it(tmp_path, text, names):
    path = tmp_path / "cloud.txt"
    path.write_text(text)
    cloud = open_cloud(path).read()
    assert cloud.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert list(cloud.attributes) == names
    assert cloud.attributes[names[0]].tolist() == [7, 8]


def test_columns_are_what_is_said(tmp_path):
    path = tmp_path / "cloud.txt"
    path.write_text("1,2,3,9,7,5\n4,5,6,9,8,2\n")
    file = open_cloud(path, "x,y,z,-,intensity,class")
    cloud = file.read()
    assert cloud.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert cloud.attributes["intensity"].tolist() == [7, 8]
    assert cloud.classification.tolist() == [5, 2]
    path.write_text("z y x\n1 2 3\n")
    assert open_cloud(path, "x,y,z").read().xyz.tolist() == [[1, 2, 3]]  # whatever the first line says
    for said, words in (("x,y", "hold 3 numbers; --columns names 2"), ("x,y,h", "names no z"), ("x,y,z,z", "names 4")):
        with pytest.raises(ValueError, match=words):
            open_cloud(path, said)
    path.write_text("1 2 3 4\n")
    with pytest.raises(ValueError, match="names z twice"):
        open_cloud(path, "x,y,z,z")


PCD = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z label\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH 3\nHEIGHT 1\n"
PACKED = PCD.encode() + b"POINTS 3\nDATA binary_compressed\n"


def test_pcd_as_others_write_it(tmp_path):
    path = tmp_path / "cloud.pcd"
    xyz, label = np.arange(9, dtype="<f4").reshape(3, 3), np.array([2, 2, 6], "<u4")
    path.write_text(PCD + "POINTS 3\nDATA ascii\n0 1 2 2\n3 4 5 2\n6 7 8 6\n")
    plain = xyz.T.tobytes() + label.tobytes()
    # plain bytes, then the last label's three zeros copied from the one before
    packed = b"".join(bytes([len(part) - 1]) + part for part in (plain[:32], plain[32:45]))
    packed += bytes([1 << 5, 3])
    files = {
        "ascii": path.read_bytes(),
        "binary": (PCD + "POINTS 3\nDATA binary\n").encode() + b"".join(
            struct.pack("<fffI", *row, code) for row, code in zip(xyz.tolist(), label.tolist(), strict=True)
        ),
        "compressed": (PCD + "POINTS 3\nDATA binary_compressed\n").encode()
        + struct.pack("<II", len(packed), len(plain)) + packed,
    }  # fmt: skip
    for content in files.values():
        path.write_bytes(content)
        cloud = open_cloud(path).read()
        assert np.array_equal(cloud.xyz, xyz)
        assert cloud.classification.tolist() == [2, 2, 6]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"1 2\n3 4\n", "its lines hold 2 numbers"),
        ("a.csv", b"x,y,z\n1,2,3\n1,2\n", "cannot be read as 3 numbers"),
        ("a.txt", b"\xff\xfe\x00", "is no text"),
        ("a.npz", b"PK nothing", "cannot be read as npz"),
        ("a.pcd", b"nothing", "no line DATA"),
        ("a.pcd", PCD.encode() + b"POINTS 3\nDATA binary\n123", "damaged or cut off"),
        (
            "a.pcd",
            PACKED + struct.pack("<II", 9, 48) + b"\xff" * 9,
            "damaged",
        ),
        ("a.pcd", PCD.replace("SIZE 4", "SIZE 4 4").encode() + b"POINTS 3\nDATA ascii\n", "header is damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        open_cloud(tmp_path / name).read()
    assert str(tmp_path / name) in str(error.value)
