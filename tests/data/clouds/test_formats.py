from __future__ import annotations

from dataclasses import replace

import laspy
import numpy as np
import pytest
from plyfile import PlyData

from oneiros.data.clouds.checks import require_metres
from oneiros.data.clouds.formats import Cloud, open_cloud, write_cloud
from tests.data.clouds.cases import LAS_FILES, SHARED, needs_files, random_las, small_cloud

FORMATS = ("las", "laz", "ply", "npy")


@needs_files
@pytest.mark.parametrize("path", LAS_FILES, ids=lambda path: path.name)
def test_reads_what_laspy_reads(path):
    expected, file = laspy.read(path), open_cloud(path)
    cloud = file.read()
    assert file.num_points == len(cloud) == len(expected)
    assert np.array_equal(cloud.xyz, expected.xyz)
    assert tuple(cloud.attributes) == file.attribute_names
    told = {*expected.point_format.dimension_names} - {"ExtraBytes"}  # of further records laspy tells no names
    assert told <= {"X", "Y", "Z", *cloud.attributes}
    for name in told & cloud.attributes.keys():
        values = cloud.attributes[name]
        assert np.array_equal(values, np.asarray(expected[name]), equal_nan=values.dtype.kind == "f"), name
    numbers, counts = np.unique(np.asarray(expected.classification), return_counts=True)
    assert file.classes == dict(zip(numbers.tolist(), counts.tolist(), strict=True))


@needs_files
def test_chunks_are_the_cloud_in_pieces():
    file = open_cloud(LAS_FILES[-1])
    whole, chunks = file.read(), list(file.chunks(25_000))
    assert [len(chunk) for chunk in chunks] == [25_000, 25_000, len(whole) - 50_000]
    assert np.array_equal(np.concatenate([chunk.xyz for chunk in chunks]), whole.xyz)
    for name, values in whole.attributes.items():
        assert np.array_equal(np.concatenate([chunk.attributes[name] for chunk in chunks]), values)


@needs_files
def test_the_reference_system_and_its_unit():
    def said(name):
        file = open_cloud(SHARED / "cloud_formats" / name)
        return (file.crs or "")[:18], file.unit

    assert said("append-bug.laz") == ('PROJCRS["RGF93 / L', "metre")
    assert said("1_4_w_evlr.las") == ('PROJCS["NAD83(HARN', "US survey foot")
    assert said("simple.copc.laz")[1] == "metre"  # in a system compounded with one of heights
    assert said("no-points.las") == ("EPSG:4269", "degree")
    assert said("plane.laz") == ("", "metre")  # GeoTIFF keys that define a system of their own
    assert said("simple.las") == ("", None)


@needs_files
def test_text_ply_with_blanks_after_words_and_types_of_all_kinds():
    assert np.array_equal(
        open_cloud(SHARED / "cloud_formats/simple_text.ply").read().xyz, [[-1, 0, 0], [0, 1, 0], [1, 0, 0]]
    )
    cloud = open_cloud(SHARED / "cloud_formats/text_extradim.ply").read()
    assert {name: values.tolist() for name, values in cloud.attributes.items() if values.dtype.kind != "f"} == {
        **{"red": [63], "green": [200], "blue": [64], "alpha": [255], "omg": [1234]}
    }


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_of_every_order_with_elements_around_the_points(tmp_path, order):
    text = order == "ascii"
    kind = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[order]
    lines = ["ply", f"format {order} 1.0", "element camera 1", "property float focal", "element vertex 2"]
    lines += ["property double x", "property double y", "property double z", "property int scalar_Classification"]
    lines += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    rows = np.array([(1, 2, 3, 4), (5, 6, 7, 8)], [*((name, f"{kind}f8") for name in "xyz"), ("c", f"{kind}i4")])
    body = b"30\n1 2 3 4\n5 6 7 8\n3 0 1 2\n"
    if not text:
        body = (
            np.array(30, f"{kind}f4").tobytes() + rows.tobytes() + b"\x03" + np.arange(3, dtype=f"{kind}i4").tobytes()
        )
    (path := tmp_path / "cloud.ply").write_bytes("\n".join(lines).encode() + body)
    file = open_cloud(path)
    assert np.array_equal(file.read().xyz, [[1, 2, 3], [5, 6, 7]])
    assert file.classes == {4: 1, 8: 1}
    assert [low_high.tolist() for low_high in file.bounds] == [[1, 2, 3], [5, 6, 7]]


def test_npy_of_plain_numbers_in_any_layout(tmp_path):
    numbers = np.arange(20, dtype=np.float32).reshape(4, 5)
    for layout in (numbers, np.asfortranarray(numbers)):
        np.save(tmp_path / "cloud.npy", layout)
        cloud = open_cloud(tmp_path / "cloud.npy").read()
        assert np.array_equal(cloud.xyz, numbers[:, :3])
        assert list(cloud.attributes) == ["column_3", "column_4"]
        assert np.array_equal(cloud.attributes["column_4"], numbers[:, 4])


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("num_points", [0, 1, 50])
def test_what_is_written_is_read_again(tmp_path, ending, num_points):
    cloud = small_cloud(num_points)
    write_cloud(tmp_path / f"cloud.{ending}", cloud)
    file = open_cloud(tmp_path / f"cloud.{ending}")
    again = file.read()
    assert np.allclose(again.xyz, cloud.xyz, rtol=0, atol=1e-6 if ending in ("las", "laz") else 0)
    for name, values in cloud.attributes.items():
        assert np.array_equal(again.attributes[name], values), name
    if ending != "npy":
        assert file.class_names == {2: "soil"}
    assert [path.name for path in tmp_path.iterdir()] == [f"cloud.{ending}"]  # nothing temporary stays


def test_written_ply_is_read_alike_by_plyfile(tmp_path):
    cloud = small_cloud()
    write_cloud(tmp_path / "cloud.ply", cloud)
    points = PlyData.read(tmp_path / "cloud.ply")["vertex"].data
    assert np.array_equal(np.stack([points[name] for name in "xyz"], axis=1), cloud.xyz)
    for name, values in cloud.attributes.items():
        assert np.array_equal(points[name], values)


@pytest.mark.parametrize("crs", ['PROJCS["here",UNIT["metre",1]]', "EPSG:2154", "EPSG:4326", None])
def test_las_keeps_the_reference_system(tmp_path, crs):
    write_cloud(tmp_path / "cloud.laz", replace(small_cloud(), crs=crs))
    file = open_cloud(tmp_path / "cloud.laz")
    assert file.crs == crs
    assert (file.unit == "degree") == (crs == "EPSG:4326")


def test_colours_of_8_and_16_bits_and_floats():
    def colours(values):
        attributes = {name: np.array(values) for name in ("red", "green", "blue")}
        return Cloud(np.zeros((2, 3)), attributes).colours()[:, 0].tolist()

    assert colours(np.array([0, 65535], np.uint16)) == [0, 1]
    assert colours(np.array([0, 255], np.uint16)) == [0, 1]
    assert colours(np.array([51, 255], np.uint8)) == pytest.approx([0.2, 1])
    assert colours([0.25, 1.0]) == [0.25, 1]
    assert Cloud(np.zeros((2, 3)), {}).colours() is None
    with pytest.raises(ValueError, match=r"point 1: red is nan"):
        colours([0.5, np.nan])


def test_attributes_are_chosen_by_name(tmp_path):
    write_cloud(tmp_path / "cloud.laz", small_cloud())
    file = open_cloud(tmp_path / "cloud.laz")
    assert list(file.read(attributes=["intensity"]).attributes) == ["intensity"]
    with pytest.raises(ValueError, match=r"cloud\.laz: has no height; it has intensity,"):
        file.read(attributes=["height"])


# what is wrong is said in one line that names the file


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_cut_off_anywhere(tmp_path, ending):
    write_cloud(tmp_path / f"whole.{ending}", small_cloud())
    whole = (tmp_path / f"whole.{ending}").read_bytes()
    path = tmp_path / f"cut.{ending}"
    for size in [0, 3, 50, 100, 230, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=rf"cut\.{ending}: "):
            open_cloud(path).read()


def test_a_text_ply_cut_off(tmp_path):
    header = (
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    (path := tmp_path / "cut.ply").write_text(header + "1 2 3\n4 5 6\n")
    with pytest.raises(ValueError, match=r"cut\.ply: is cut off: 3 points are promised"):
        open_cloud(path).read()
    path.write_text(header + "1 2 3\n4 5 6\n7 8\n")
    with pytest.raises(ValueError, match=r"cut\.ply: a point cannot be read"):
        open_cloud(path).read()


@pytest.mark.parametrize("place", [94, 96, 100])
def test_a_header_that_promises_too_much_is_refused_at_once(tmp_path, place):
    """laspy would read four thousand million records."""
    path = random_las(tmp_path / "bad.las", 6)
    content = bytearray(path.read_bytes())
    content[place + 1] = content[place + (1 if place == 94 else 3)] = 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.las: is damaged or cut off"):
        open_cloud(path)


@pytest.mark.parametrize("ending", ["ply", "npy"])
def test_coordinates_that_are_no_numbers(tmp_path, ending):
    cloud = small_cloud()
    table = np.zeros(50, [(name, "<f8") for name in "xyz"])
    table["y"][7:9] = np.nan
    if ending == "npy":
        np.save(tmp_path / "cloud.npy", table)
    else:
        write_cloud(tmp_path / "cloud.ply", replace(cloud, attributes={}))
        content = (tmp_path / "cloud.ply").read_bytes()
        (tmp_path / "cloud.ply").write_bytes(content[: -table.nbytes] + table.tobytes())
    with pytest.raises(ValueError, match=rf"cloud\.{ending}: point 7 of 50: y is nan .* 1 more points"):
        open_cloud(tmp_path / f"cloud.{ending}").read()


def test_a_class_that_is_no_whole_number(tmp_path):
    write_cloud(tmp_path / "cloud.ply", replace(small_cloud(2), attributes={"classification": np.array([1, np.nan])}))
    with pytest.raises(ValueError, match=r"cloud\.ply: point 1: the class is nan"):
        _ = open_cloud(tmp_path / "cloud.ply").classes


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cloud.obj", b"1 2 3", r"\.obj is no known format of clouds; use \.las, \.laz, \.ply, \.npy"),
        ("cloud.las", b"PK\x03\x04" * 100, "is no LAS or LAZ file: it begins with"),
        ("cloud.ply", b"solid cube\n", "is no PLY file"),
        ("cloud.npy", b"\x80\x04K\x01.", "cannot be read as npy"),
        (
            "cloud.ply",
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty half x\nend_header\n",
            "cannot be understood",
        ),
        (
            "cloud.ply",
            b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nend_header\n",
            "points have no y, z",
        ),
    ],
)
def test_what_is_no_cloud(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: .*{message}|{name}: {message}"):
        open_cloud(tmp_path / name)


def test_npy_of_other_shapes_and_pickles(tmp_path):
    for array in (np.zeros((4, 2)), np.zeros(5), np.array([{}], object), np.zeros((2, 3), complex)):
        np.save(tmp_path / "cloud.npy", array)
        with pytest.raises(ValueError, match=r"cloud\.npy: "):
            open_cloud(tmp_path / "cloud.npy")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(OSError, match=r"cloud\.laz: there is no such file"):
        open_cloud(tmp_path / "cloud.laz")
    (tmp_path / "cloud.laz").mkdir()
    with pytest.raises(OSError, match=r"cloud\.laz: is a folder"):
        open_cloud(tmp_path / "cloud.laz")


def test_values_that_a_format_cannot_hold(tmp_path):
    def refused(ending, name, values, message):
        cloud = Cloud(np.zeros((2, 3)), {name: np.array(values)})
        with pytest.raises(ValueError, match=message):
            write_cloud(tmp_path / f"cloud.{ending}", cloud)

    refused("laz", "classification", [1, 300], "a label is 300; LAS holds classes from 0 to 255")
    refused("laz", "intensity", [1, 70_000], "intensity runs from 1 to 70000")
    refused("las", "return_number", [1, 16], "return_number runs from 1 to 16")
    refused("ply", "time", [1, 2**40], "time has values beyond 32 bits")
    with pytest.raises(ValueError, match="LAS counts millimetres"):
        write_cloud(tmp_path / "cloud.las", Cloud(np.array([[0, 0, 0], [1e7, 0, 0]]), {}))
    assert list(tmp_path.iterdir()) == []


def test_units_other_than_metres_are_refused(tmp_path):
    low = np.array([5.1, 43.2, 100.0])
    degrees = low + np.random.default_rng(0).random((20, 3)) * [0.001, 0.001, 30]
    write_cloud(tmp_path / "cloud.npy", Cloud(degrees, {}))
    with pytest.raises(ValueError, match=r"cloud\.npy: .* look like degrees, not metres"):
        require_metres(open_cloud(tmp_path / "cloud.npy"))
    write_cloud(tmp_path / "cloud.las", Cloud(degrees, {}, "EPSG:4326"))
    with pytest.raises(ValueError, match=r"cloud\.las: x and y are in units of degree, not metres"):
        require_metres(open_cloud(tmp_path / "cloud.las"))
    write_cloud(tmp_path / "near.npy", Cloud(np.random.default_rng(0).random((20, 3)) * [5, 5, 3], {}))
    require_metres(open_cloud(tmp_path / "near.npy"))
