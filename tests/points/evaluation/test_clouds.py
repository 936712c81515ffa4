"""Two classifications of the same points are compared, whatever their order, format and codes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from oneiros.cli import main
from oneiros.data.clouds.formats import write_cloud
from oneiros.points.evaluation.clouds import compare_clouds
from tests.towns import having, part_of, town


@pytest.fixture(scope="module")
def cloud():
    return town(size=20, houses=1, trees=2)


def relabelled(cloud, count):
    """The first so many points of ground called building."""
    codes = cloud.classification.copy()
    codes[np.flatnonzero(codes == 2)[:count]] = 6
    return having(cloud, classification=codes.astype(np.uint8))


def test_figures_are_those_of_the_points_that_differ(cloud, tmp_path):
    write_cloud(tmp_path / "a.laz", cloud)
    other = relabelled(cloud, 10)
    order = np.random.default_rng(0).permutation(len(cloud))
    write_cloud(tmp_path / "b.npy", part_of(other, order))
    scores = compare_clouds(tmp_path / "a.laz", tmp_path / "b.npy", out=tmp_path / "out")
    assert list(scores["classes"]) == ["2 ground", "3 low vegetation", "5 high vegetation", "6 building"]
    assert scores["confusion"][0][3] == 10
    assert np.sum(scores["confusion"]) - np.trace(scores["confusion"]) == 10
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["accuracy"] == scores["accuracy"]
    assert (tmp_path / "out" / "report.html").is_file()


def test_codes_of_the_second_are_mapped_and_what_has_no_class_is_counted(cloud, tmp_path):
    codes = np.select([np.isin(cloud.classification, (3, 5)), cloud.classification == 6], [2, 3], 1)
    codes[:7] = 99
    write_cloud(tmp_path / "a.ply", cloud)
    write_cloud(tmp_path / "b.ply", having(cloud, classification=codes.astype(np.uint8)))
    scores = compare_clouds(
        tmp_path / "a.ply", tmp_path / "b.ply", out=tmp_path / "out", classes="2,3-5,6", second_classes="1,2,3"
    )
    assert (scores["accuracy"], scores["unmatched"]) == (1.0, 7)
    assert list(scores["classes"]) == ["ground", "vegetation", "building"]


def test_folders_from_the_command_line(cloud, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("1.laz", "2.laz"):
        write_cloud(tmp_path / "before" / name, cloud)
        write_cloud(tmp_path / "after" / name, relabelled(cloud, 5))
    main(["eval", "before", "after", "--classes", "2,3-5,6", "--out", "difference"])
    assert "difference/report.html" in capsys.readouterr().out
    assert json.loads((tmp_path / "difference" / "metrics.json").read_text())["confusion"][0][2] == 10


def test_what_cannot_be_compared_is_named(cloud, tmp_path):
    a, b = tmp_path / "a.laz", tmp_path / "b.laz"
    write_cloud(a, cloud)
    out = tmp_path / "out"
    for other, options, words in [
        (part_of(cloud, np.arange(5)), {}, "b.laz: has 5 points"),
        (replace(cloud, xyz=cloud.xyz + 1), {}, "are not where any of its are"),
        (having(cloud, classification=None), {"classes": "2,6"}, "b.laz: has no classification|no point has a class"),
        (cloud, {"classes": "2,3-5,6", "second_classes": "1,2"}, "second-classes|names for the 2 classes"),
        (cloud, {"classes": "77,78"}, "no point has a class in both"),
    ]:
        write_cloud(b, other)
        with pytest.raises(ValueError, match=words):
            compare_clouds(a, b, out=out, **options)
    with pytest.raises(ValueError, match="compare two clouds, or two folders"):
        compare_clouds(a, tmp_path, out=out)
