from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from oneiros.cli import main
from oneiros.data.clouds.formats import Cloud, open_cloud, write_cloud
from oneiros.data.clouds.picture import cloud_picture
from oneiros.data.clouds.summary import summarise


@pytest.fixture
def cloud(tmp_path, monkeypatch) -> Cloud:
    """Ground of 40 x 40 m with four points a square metre, and a house of 10 x 10 m and 5 m high on it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    x, y = np.meshgrid(np.arange(0.25, 40, 0.5), np.arange(0.25, 40, 0.5))
    house = (np.abs(x - 30) < 5) & (np.abs(y - 30) < 5)
    xyz = np.stack([x, y, 5 * house], axis=-1).reshape(-1, 3) + np.array([770_000, 6_277_000, 20])
    classes = np.where(house, 6, 2).reshape(-1).astype(np.uint8)
    return Cloud(xyz, {"classification": classes, "return_number": np.ones(6400, np.uint8)}, "EPSG:2154")


def inspect(capsys, *arguments) -> str:
    main(["inspect", *map(str, arguments)])
    return capsys.readouterr().out


def fails(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["inspect", *map(str, arguments)])
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("oneiros: ")
    return lines[-1]


def test_tables_and_picture(cloud, capsys, tmp_path):
    write_cloud("town.laz", cloud)
    out = " ".join(inspect(capsys, "town.laz").split())
    assert "LAZ 1.4, point format 6" in out
    assert "6,400" in out
    assert "4.0 points a square unit" in out
    assert "EPSG:2154" in out
    assert "2 ground 6,000 93.8%" in out
    assert "6 building 400 6.2%" in out
    assert out.count("✓") == 5
    assert (tmp_path / "town-cloud.png").is_file()


def test_the_picture_shows_the_house_where_it_is(cloud, capsys):
    write_cloud("town.laz", cloud)
    inspect(capsys, "town.laz", "--out", "seen.png")
    picture = np.asarray(Image.open("seen.png")).astype(int)
    above = picture[122:742, 24:644]  # the first panel: north up, the house at three quarters of both ways

    def share_of(colour, part):
        return (np.abs(part - colour).max(axis=-1) < 30).mean()

    house, ground = (226, 88, 62), (190, 152, 105)
    assert share_of(house, above[110:220, 400:510]) > 0.9
    assert share_of(ground, above[330:560, 60:560]) > 0.9
    assert share_of(house, above[330:560, 60:560]) == 0
    lit = picture[122:742, 660:1280]  # by height: the house light, the ground dark
    assert lit[110:220, 400:510].mean() > lit[330:560, 60:560].mean() + 40


def test_json(cloud, capsys, tmp_path):
    write_cloud("town.laz", cloud)
    found = json.loads(inspect(capsys, "town.laz", "--json"))
    assert found["points"] == 6400
    assert found["density"] == 4
    assert found["classes"] == {"2": 6000, "6": 400}
    assert found["returns"] == {"1": 6400}
    assert found["low"] == pytest.approx([770_000.25, 6_277_000.25, 20])
    assert found["problems"] == []
    assert not (tmp_path / "town-cloud.png").exists()


def test_a_summary_is_the_same_in_pieces(cloud, monkeypatch):
    write_cloud("town.npy", cloud)
    whole = summarise(open_cloud("town.npy"))
    monkeypatch.setattr("oneiros.data.clouds.summary.CHUNK", 999)
    monkeypatch.setattr("oneiros.data.clouds.summary.SAMPLE", 1000)
    pieces = summarise(open_cloud("town.npy"))
    assert replace(pieces, low=0, high=0, sample=None) == replace(whole, low=0, high=0, sample=None)
    assert np.array_equal([pieces.low, pieces.high], [whole.low, whole.high])
    assert 500 < len(pieces.sample) <= 1000 + 7  # every seventh of each piece
    assert set(pieces.sample.classification) == {2, 6}


def test_a_legend_of_a_million_classes_is_no_taller_than_that_of_256():
    heights = []
    for number in (256, 1_000_000):
        xyz, classes = np.zeros((2, 3)), {100_000 + place: 1 for place in range(number)}
        picture = cloud_picture(Cloud(xyz, {}), title="", subtitle="", classes=classes)
        heights.append(picture.height)
    assert heights[0] == heights[1] < 2000


def test_a_cloud_of_one_point_is_drawn(cloud, capsys):
    write_cloud("point.ply", Cloud(np.zeros((1, 3)), {}))
    assert "there is no classification" in inspect(capsys, "point.ply")


def test_what_is_wrong(cloud, capsys):
    write_cloud("none.laz", Cloud(np.zeros((0, 3)), {}))
    assert fails(capsys, "none.laz") == "oneiros: none.laz: has no points"
    write_cloud("degrees.laz", replace(cloud, crs="EPSG:4326"))
    assert "degrees.laz: x and y are in units of degree, not metres" in fails(capsys, "degrees.laz")
    nan = {name: np.full(6400, np.nan, np.float32) for name in ("red", "green", "blue")}
    write_cloud("colours.npy", replace(cloud, attributes=nan))
    assert "red is NaN for 6,400 of 6,400 points" in fails(capsys, "colours.npy")
    write_cloud("one.laz", replace(cloud, attributes={"classification": np.full(6400, 2, np.uint8)}))
    assert "every point is of class 2 (ground)" in inspect(capsys, "one.laz")
    assert "every point is of class 2 (ground)" in fails(capsys, "one.laz", "--strict")
    assert "missing.laz: there is no such file" in fails(capsys, "missing.laz")


def test_a_header_with_other_bounds_than_its_points(cloud, capsys, tmp_path):
    write_cloud("town.las", cloud)
    content = bytearray((tmp_path / "town.las").read_bytes())
    content[179:187] = np.float64(770_100).tobytes()  # the highest x
    (tmp_path / "town.las").write_bytes(content)
    assert "the header says x runs from 770000.25 to 770100.00" in " ".join(inspect(capsys, "town.las").split())


def test_names_with_markup_and_escape_codes_are_shown_as_they_are(cloud, capsys, tmp_path):
    nasty = {"[INST] planarity": np.zeros(6400, np.float32), "[/red]": np.zeros(6400), "[old] w\x1b[2J": np.ones(6400)}
    write_cloud("[old] data.npy", replace(cloud, attributes={**cloud.attributes, **nasty}, class_names={}))
    said = inspect(capsys, "[old] data.npy")
    assert "\x1b" not in said
    for name in ("[old] data.npy", "[INST] planarity", "[/red]", r"[old] w\x1b[2J"):
        assert name in said
