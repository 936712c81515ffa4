"""Files as other programs write them: units in any words, records in any number, headers of any kind."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import laspy
import numpy as np
import pytest
from laspy.vlrs.known import WktCoordinateSystemVlr

from oneiros.cli import main
from oneiros.data.clouds.checks import require_metres, run_checks
from oneiros.data.clouds.formats import Cloud, open_cloud, write_cloud, write_labels
from oneiros.data.clouds.las.crs import read_crs
from oneiros.data.clouds.las.head import Head, LasRecord, _descriptor
from oneiros.data.clouds.las.wkt import units
from oneiros.data.clouds.summary import summarise

EXTRA = ("LASF_Spec", 4)
BASE = 'GEOGCS["WGS 84",DATUM["d",SPHEROID["s",6378137,298]],UNIT["degree",0.0174532925199433]]'
AXES = 'CS[Cartesian,2],AXIS["(E)",east,ORDER[1],LENGTHUNIT["metre",1]],AXIS["(N)",north,LENGTHUNIT["metre",1]]'
CRS = f'PROJCRS["UTM 31N",BASEGEOGCRS["WGS 84",DATUM["d",ELLIPSOID["e",6378137,298,LENGTHUNIT["foot",0.3048]]]],{AXES}]'
VERTICAL = 'VERT_CS["NAVD88",VERT_DATUM["d",2005],UNIT["US survey foot",0.3048006096012192],AXIS["Up",UP]]'

UNITS = {
    f'PROJCS["a",{BASE},UNIT["Meter",1.0]]': ("metre", None),
    f'PROJCS["a",{BASE},UNIT["METER",1]]': ("metre", None),
    f'PROJCS["a",{BASE},UNIT["Metre"]]': ("metre", None),
    f'PROJCS [ "a", {BASE}, UNIT [ "U.S. Survey Feet", 0.304800609601219 ] ]': ("US survey foot", None),
    f'PROJCS[ "a", {BASE}, UNIT [ "U.S. Survey Feet" ] ]': ("US survey foot", None),
    f'PROJCS["a",{BASE},UNIT["Foot",0.3048]]': ("foot", None),
    f'PROJCS["a",{BASE},UNIT["Foot_US",0.3048006096012192]]': ("US survey foot", None),
    f'PROJCS["a",{BASE},UNIT["kilometre",1000]]': ("kilometre", None),
    f'COMPD_CS["c",PROJCS["a",{BASE},UNIT["metre",1]],{VERTICAL}]': ("metre", "US survey foot"),
    f'COMPOUNDCRS["c",{CRS},VERTCRS["v",VDATUM["d"],CS[vertical,1],AXIS["h",up,LENGTHUNIT["foot",0.3048]]]]': (
        "metre",
        "foot",
    ),
    f'PROJCS["a",{BASE},UNIT["Meter",1.0]],VERTCS["v",VDATUM["d"],UNIT["Foot_US",0.3048006]]': (
        "metre",
        "US survey foot",
    ),
    f'BOUNDCRS[SOURCECRS[{CRS}],TARGETCRS[GEOGCRS["WGS 84"]],ABRIDGEDTRANSFORMATION["t"]]': ("metre", None),
    BASE: ("degree", None),
    "no text of this kind": (None, None),
    'PROJCS["cut off",UNIT["metre",1': (None, None),
}


@pytest.mark.parametrize("wkt", UNITS)
def test_units_of_well_known_text(wkt):
    assert units(wkt) == UNITS[wkt]


def test_pyproj_agrees_about_units():
    """Codes that it knows, as each kind of text that it writes."""
    pyproj = pytest.importorskip("pyproj", reason="pyproj is not installed")
    lengths = {2154: "metre", 2992: "foot", 2263: "US survey foot", 4326: "degree"}
    compound = {7415: ("metre", "metre"), 8764: ("US survey foot", "US survey foot"), 8703: ("foot", "foot")}
    for code, expected in ({code: (name, None) for code, name in lengths.items()} | compound).items():
        for kind in ("WKT1_ESRI", "WKT1_GDAL", "WKT2_2015", "WKT2_2019"):
            assert units(pyproj.CRS.from_epsg(code).to_wkt(kind)) == expected
    for code, name in lengths.items():
        assert read_crs([geo_keys((1024, 1), (3072, code))]).unit == name
    assert read_crs([geo_keys((1024, 1), (3072, 29999))]).unit is None


def las_file(path: Path, *records: laspy.VLR, extra=(), point_format: int = 6) -> Path:
    """Fifty points, ten by ten by five units."""
    las = laspy.create(point_format=point_format, file_version="1.4")
    las.add_extra_dims([laspy.ExtraBytesParams(name, kind) for name, kind in extra])
    las.header.scales = np.full(3, 0.001)
    las.x, las.y, las.z = np.arange(50) % 10 + 1000, np.arange(50) // 10 * 2 + 2000, np.arange(50) / 10
    las.classification = np.arange(50) % 2 + 2
    for number, (name, _) in enumerate(extra):
        las[name] = np.arange(50) + number
    las.header.vlrs.extend(records)
    las.write(path)
    return path


def geo_keys(*keys: tuple[int, int]) -> laspy.VLR:
    entries = [(1, 1, 0, len(keys)), *((key, 0, 1, value) for key, value in keys)]
    return laspy.VLR("LASF_Projection", 34735, "", b"".join(struct.pack("<4H", *entry) for entry in entries))


def test_heights_in_feet_over_metres_are_said_and_brought_to_metres(tmp_path):
    wkt = WktCoordinateSystemVlr(f'COMPD_CS["c",PROJCS["a",{BASE},UNIT["metre",1]],{VERTICAL}]')
    keys = geo_keys((1024, 1), (3072, 32631), (4099, 9003))
    for number, record in enumerate((wkt, keys)):
        file = open_cloud(las_file(tmp_path / f"{number}.las", record))
        assert (file.unit, file.vertical_unit) == ("metre", "US survey foot")
        np.testing.assert_allclose(file.metres, [1, 1, 1200 / 3937])
        np.testing.assert_allclose(file.read_metres().xyz[:, 2], file.read().xyz[:, 2] * 1200 / 3937)
        check = run_checks(file, summarise(file))[0]
        assert check.note == (
            "x and y are in metre, z is in US survey foot: brought to metres inside, written back as they are"
        )
        assert not check.problems


def test_feet_are_worked_on_and_unknown_units_have_no_tick(tmp_path, capsys):
    feet = open_cloud(las_file(tmp_path / "feet.las", geo_keys((1024, 1), (3072, 32767), (3076, 9003))))
    require_metres(feet)
    np.testing.assert_allclose(feet.metres, [1200 / 3937] * 3)
    code = las_file(tmp_path / "code.las", geo_keys((1024, 1), (3072, 3857)))
    assert open_cloud(code).crs == "EPSG:3857"
    plain = las_file(tmp_path / "plain.las")
    main(["inspect", str(plain), "--out", str(tmp_path / "plain.png")])
    said = capsys.readouterr().out
    assert "? coordinates are in metres" in " ".join(said.split())
    assert "nothing says in what unit x and y are" in " ".join(said.split())
    other = las_file(tmp_path / "km.las", WktCoordinateSystemVlr(f'PROJCS["a",{BASE},UNIT["kilometre",1000]]'))
    with pytest.raises(ValueError, match="coordinates are in units of kilometre, not metres"):
        require_metres(open_cloud(other))


def with_records(path: Path, change) -> Path:
    """The records of an uncompressed file changed in place."""
    head, raw = Head.read(path), path.read_bytes()
    points = raw[struct.unpack_from("<I", raw, 96)[0] :]
    change(head)
    path.write_bytes(head.to_bytes() + points)
    return path


def label_with_probabilities(path: Path, out: Path):
    write_labels(path, out, np.full(50, 2), probabilities=np.full((50, 2), 0.5), class_names=["a", "b"])
    return open_cloud(out)


def test_several_records_of_extra_bytes_are_read_and_become_one(tmp_path):
    def split(head: Head) -> None:
        record = head.find(EXTRA)
        head.records.append(LasRecord.new(EXTRA, record.data[192:], "the rest"))
        record.data = record.data[:192]

    source = with_records(las_file(tmp_path / "a.las", extra=(("one", "u2"), ("two", "f4"), ("three", "u1"))), split)
    assert open_cloud(source).attribute_names[-3:] == ("one", "two", "three")
    copy = label_with_probabilities(source, tmp_path / "b.las")
    assert copy.attribute_names[-7:-2] == ("one", "two", "three", "probability_a", "probability_b")
    ours, theirs = copy.read().attributes, open_cloud(source).read().attributes
    assert all(np.array_equal(ours[name], theirs[name]) for name in ("one", "two", "three"))
    assert [record.identity for record in Head.read(tmp_path / "b.las").records].count(EXTRA) == 1
    assert [*laspy.read(tmp_path / "b.las").point_format.extra_dimension_names][:3] == ["one", "two", "three"]


def test_a_record_of_bytes_that_no_point_has(tmp_path):
    def promise(head: Head) -> None:
        head.records.append(LasRecord.new(EXTRA, _descriptor("more", 9, 0), ""))

    source = with_records(las_file(tmp_path / "a.las"), promise)
    copy = label_with_probabilities(source, tmp_path / "b.las")
    assert copy.attribute_names[-4:] == ("probability_a", "probability_b", "entropy", "margin")
    assert np.array_equal(copy.read().xyz, open_cloud(source).read().xyz)


def test_a_record_of_more_bytes_than_points_have_is_named(tmp_path):
    def promise(head: Head) -> None:
        head.drop(EXTRA)
        head.records.append(LasRecord.new(EXTRA, _descriptor("one", 3, 0) + _descriptor("more", 9, 0), ""))

    source = with_records(las_file(tmp_path / "a.las", extra=(("one", "u2"),)), promise)
    with pytest.raises(ValueError, match=r"its points have 32 bytes, .*records of extra bytes describe 36"):
        open_cloud(source)


def test_header_bounds_that_are_no_numbers_are_one_line(tmp_path, capsys):
    path = las_file(tmp_path / "a.las")
    raw = bytearray(path.read_bytes())
    struct.pack_into("<6d", raw, 179, *[np.nan] * 6)
    path.write_bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main(["inspect", str(path), "--out", str(tmp_path / "a.png")])
    assert "the header's bounds are no numbers" in capsys.readouterr().out


def test_a_stray_point_is_named(tmp_path):
    cloud = open_cloud(las_file(tmp_path / "a.las")).read()
    stray = Cloud(np.concatenate([cloud.xyz, [[0, 0, 0]]]), {})
    write_cloud(tmp_path / "stray.npy", stray)
    for path, count in (("a.las", 0), ("stray.npy", 1)):
        file = open_cloud(tmp_path / path)
        check = next(check for check in run_checks(file, summarise(file)) if "far from all" in check.name)
        assert len(check.problems) == count
    assert "such as at 0.00, 0.00, 0.00" in check.problems[0].text


def test_float32_says_what_it_resolves(tmp_path):
    xyz = np.random.default_rng(0).uniform(0, 40, (100, 3)) + np.array([770_500, 6_277_500, 100])
    rows = np.zeros(100, [(name, "f4") for name in "xyz"])
    for axis, name in enumerate("xyz"):
        rows[name] = xyz[:, axis]
    np.save(tmp_path / "utm.npy", rows)
    file = open_cloud(tmp_path / "utm.npy")
    problems = [problem.text for check in run_checks(file, summarise(file)) for problem in check.problems]
    assert any("float32, which at 6,277" in text and "0.5 from each other" in text for text in problems)


CLOUDCOMPARE = """ply
format ascii 1.0
comment Created by CloudCompare
element {name} 2
property double x
property double y
property double z
{more}property float scalar_Intensity
property float scalar_Return_Number
property float scalar_Number_Of_Returns
property float scalar_Classification
end_header
"""


def ply(path: Path, rows: str, *, name: str = "vertex", more: str = "") -> Path:
    path.write_text(CLOUDCOMPARE.format(name=name, more=more) + rows)
    return path


def test_names_of_cloudcompare_mean_what_they_say(tmp_path):
    path = ply(tmp_path / "cloud.ply", "1 2 3 700 1 2 6\n4 5 6 800 2 2 2\n")
    cloud = open_cloud(path).read()
    assert {*cloud.attributes} == {"intensity", "return_number", "number_of_returns", "classification"}
    assert cloud.attributes["number_of_returns"].tolist() == [2, 2]
    write_labels(path, tmp_path / "out.ply", np.array([2, 5]))
    assert "property float scalar_Classification" in (tmp_path / "out.ply").read_text()
    assert open_cloud(tmp_path / "out.ply").read().classification.tolist() == [2, 5]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("property float my name", "line 8, 'property float my name'"),
        ("proprety float q", "line 8, 'proprety float q'"),
    ],
)
def test_lines_of_a_header_that_are_none_are_named(tmp_path, line, said):
    path = ply(tmp_path / "cloud.ply", "", more=f"{line}\n")
    with pytest.raises(ValueError, match=said):
        open_cloud(path)


def test_lists_in_a_text_and_points_of_another_name(tmp_path):
    more = "property list uchar int neighbours\n"
    path = ply(tmp_path / "cloud.ply", "1 2 3 2 8 9 700 1 2 6\n4 5 6 0 800 2 2 2\n", name="point", more=more)
    cloud = open_cloud(path).read()
    assert cloud.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert cloud.attributes["intensity"].tolist() == [700, 800]
    write_labels(path, tmp_path / "out.ply", np.array([2, 5]))
    assert open_cloud(tmp_path / "out.ply").read().classification.tolist() == [2, 5]
    assert "1 2 3 2 8 9 700 1 2 2.0" in (tmp_path / "out.ply").read_text()
    with pytest.raises(ValueError, match="a point cannot be read"):
        open_cloud(ply(tmp_path / "short.ply", "1 2 3 9 8 9 700 1 2 6\n4 5 6 0 800 2 2 2\n", more=more)).read()
    (tmp_path / "face.ply").write_text("ply\nformat ascii 1.0\nelement face 1\nproperty int a\nend_header\n1\n")
    with pytest.raises(ValueError, match="has no element vertex nor another with x, y, z; elements: face"):
        open_cloud(tmp_path / "face.ply")
