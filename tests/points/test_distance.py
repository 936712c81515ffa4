"""What a cloud is like, and what is said of one that is unlike those of the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oneiros.cli import main
from oneiros.data.clouds.formats import open_cloud, write_cloud
from oneiros.points.distance import differences
from oneiros.points.labelling import load_segmenter
from oneiros.points.profile import CloudProfile
from oneiros.run_folder import CloudOrigin
from tests.towns import having, make_segmenter, segmenter_config, town, write_town

RELATIVE = ("intensity_rank", "echoes")


def config(features=RELATIVE):
    channels = {"intensity_rank": 2, "echoes": 3, "intensity": 1, "returns": 2}
    base = segmenter_config(())
    number = 2 + sum(channels[name] for name in features)
    network = replace(base.network, in_dim=number)
    return replace(base, features=features, mean=(0.5,) * number, std=(1.0,) * number, network=network)


def found(cloud, features=RELATIVE) -> dict:
    model = make_segmenter(config(features))
    rows = differences(model, [CloudProfile.of(town(), "metre")], CloudProfile.of(cloud, "metre"))
    return {row.what: row for row in rows}


def test_of_a_like_town_nothing_is_said():
    rows = found(town(5))
    assert {"density", "intensity", "returns", "heights"} <= rows.keys()
    assert not any(row.note for row in rows.values())


def test_another_gain_is_nothing_to_ranks_and_too_far_for_raw_intensities():
    bright = having(town(), intensity=town().attributes["intensity"] * 20)
    assert not found(bright)["intensity"].note
    assert found(bright, ("intensity", "returns"))["intensity"].far


def test_what_is_missing_is_said():
    cloud = town()
    ones = np.ones(len(cloud), np.uint8)
    bare = having(cloud, intensity=0 * ones, return_number=ones, number_of_returns=ones)
    rows = found(bare)
    assert rows["intensity"].note == "labelled without it, by shape alone"
    assert rows["returns"].note == "labelled without them"
    assert not any(row.far for row in rows.values())


def test_a_thin_cloud_and_a_tall_one():
    cloud = town()
    thin = replace(cloud, xyz=(cloud.xyz - cloud.xyz.min(0)) * (30, 30, 1))
    assert found(thin)["density"].far
    assert found(replace(cloud, xyz=cloud.xyz * (1, 1, 5)))["heights"].note


def test_profiles_come_back_from_json_and_do_not_depend_on_chunks(tmp_path):
    path = write_town(tmp_path / "town.laz")
    profile = CloudProfile.of_file(open_cloud(path))
    assert CloudProfile.from_json(profile.to_json()) == profile
    whole = CloudProfile.of(open_cloud(path).read())
    assert profile == replace(whole, unit=profile.unit)
    assert profile.density == pytest.approx(2.6, rel=0.2)
    assert profile.full_colour == 65535


def save(run: Path, features=("intensity", "returns")) -> Path:
    """A run that knows what its town was like."""
    make_segmenter(config(features)).save(run, data=CloudOrigin(profiles=(CloudProfile.of(town()).to_json(),)))
    return run


def test_the_table_comes_first_and_strict_refuses(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    run = save(tmp_path / "run")
    bright = having(town(), intensity=town().attributes["intensity"] * 20)
    write_cloud("bright.laz", bright)
    write_town(tmp_path / "like.laz")
    main(["segment", "bright.laz", "like.laz", "--model", "run", "--out", "out"])
    said = capsys.readouterr().out
    assert said.index("another scale, and the model takes") < said.index("out/bright.laz:")
    for verb in (["segment", "bright.laz", "--model", "run", "--strict"], ["eval", "run", "bright.laz", "--strict"]):
        with pytest.raises(SystemExit) as exit_:
            main(verb)
        assert exit_.value.code == 2
        assert "bright.laz: intensity is median" in capsys.readouterr().err
    assert not Path("bright-labelled.laz").exists()
    assert load_segmenter(run).num_classes == 3
