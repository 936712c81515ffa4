"""The segmenter that comes along, and the folder that any run can be made into."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oneiros.cli import main
from oneiros.data.clouds.formats import open_cloud, write_cloud
from oneiros.loading import load
from oneiros.points.built_in import bundle, bundled_segmenter
from oneiros.points.distance import trained_on
from oneiros.run_folder import CloudOrigin, read_cloud_origin
from tests.towns import having, make_segmenter, town


def test_a_bundle_labels_the_same_and_knows_no_paths(tmp_path):
    model = make_segmenter()
    origin = CloudOrigin(train=("/home/me/a.laz",), held_out=("/home/me/b.laz",), grid=1.0)
    model.save(tmp_path / "run", data=origin)
    bundle(tmp_path / "run", tmp_path / "bundled")
    after = load(tmp_path / "bundled")
    assert all(torch.equal(tensor, after.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert "/home/me" not in (tmp_path / "bundled" / "config.json").read_text()
    assert read_cloud_origin(tmp_path / "bundled").held_out == ("b.laz",)
    with pytest.raises(ValueError, match="exists"):
        bundle(tmp_path / "run", tmp_path / "bundled")


def test_the_segmenter_that_comes_along_labels_a_town_of_another_scanner(tmp_path, monkeypatch, capsys):
    """Made up, in another gain, without classes; without intensity and returns too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    cloud = town(3, size=60, spacing=0.4)
    truth = np.array([-1, -1, 0, 1, 1, 1, 2])[cloud.classification]
    gained = having(cloud, classification=None, red=None, intensity=cloud.attributes["intensity"] * 30.0)
    bare = having(gained, intensity=None, return_number=None, number_of_returns=None)
    for number, each in enumerate((gained, bare)):
        write_cloud(f"{number}.ply", each)
        main(["segment", f"{number}.ply"])
        found = open_cloud(f"{number}-labelled.ply").read().classification
        right = np.array([-1, -1, 0, 1, 1, 1, 2])[found] == truth
        assert right[truth == 0].mean() > 0.95
        assert right[truth == 2].mean() > 0.9
    said = capsys.readouterr().out
    assert "labelled without it, by shape alone" in said


def test_the_segmenter_that_comes_along_says_what_it_learned_from():
    origin, config = read_cloud_origin(bundled_segmenter()), load(bundled_segmenter()).config
    assert config.names == ("ground", "vegetation", "building")
    assert config.codes == ((2,), (3, 4, 5), (6,))
    assert not any("/" in path for path in (*origin.train, *origin.held_out))
    assert all(20 < profile.density < 40 for profile in trained_on(origin))
