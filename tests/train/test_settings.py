"""What a run that goes on takes from before, and which settings are fields of a config."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from oneiros.points.settings import SegmenterSettings
from oneiros.policy.cloning import CloningConfig
from oneiros.policy.settings import CloningSettings, PolicySettings
from oneiros.train.settings import shared
from oneiros.world.config import WorldConfig
from oneiros.world.settings import TokenizerSettings, WorldSettings


def begun(settings) -> None:
    """What the first checkpoint of a run tells of its settings."""
    config = {"kind": "x", "model": {}, "recipe": settings.to_json()}
    settings.out.mkdir(exist_ok=True)
    (settings.out / "config.json").write_text(json.dumps(config))


def test_a_setting_given_at_its_default_is_given(tmp_path):
    begun(WorldSettings(out=tmp_path, accumulate=4, frame_stride=3, augment=True, seed=7))
    found = WorldSettings(out=tmp_path, accumulate=1, augment=False, resume=True).completed()
    assert (found.accumulate, found.augment) == (1, False)
    assert (found.frame_stride, found.seed) == (3, 7)


def test_completed_settings_stay_as_they_are(tmp_path):
    begun(WorldSettings(out=tmp_path, accumulate=4))
    once = WorldSettings(out=tmp_path, resume=True).completed()
    assert once.completed() == once
    assert replace(once, accumulate=1).completed().accumulate == 1


def test_a_new_run_takes_nothing_from_before(tmp_path):
    begun(WorldSettings(out=tmp_path, accumulate=4))
    assert WorldSettings(out=tmp_path).completed().accumulate == 1


def test_paths_come_back_as_paths(tmp_path):
    clouds = (Path("a.laz"), Path("b.laz"))
    begun(SegmenterSettings(out=tmp_path, clouds=clouds, names=("x", "y"), held_out=clouds[1:], warm_start=Path("c")))
    found = SegmenterSettings(out=tmp_path, resume=True).completed()
    assert (found.clouds, found.held_out, found.names) == (clouds, clouds[1:], ("x", "y"))
    assert found.warm_start == Path("c")


def test_a_moved_run_goes_on_where_it_is(tmp_path):
    begun(WorldSettings(out=tmp_path / "before", data=Path("data")))
    (tmp_path / "before").rename(tmp_path / "after")
    found = WorldSettings(out=tmp_path / "after", resume=True).completed()
    assert found == WorldSettings(out=tmp_path / "after", data=Path("data"), resume=True)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"seed": "seven"}, "seed of the recipe in .* is 'seven', not int"),
        ({"precision": "int4"}, "precision of the recipe in .* is 'int4', not one of auto"),
        (None, "lacks data"),
    ],
)
def test_a_damaged_recipe_is_one_clear_line(recipe, message, tmp_path):
    config = {"kind": "tokenizer", "model": {}, "recipe": recipe and recipe | {"data": "data"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        TokenizerSettings(out=tmp_path, data=Path("data"), resume=True).completed()


def test_shared_are_fields_of_the_same_name_and_type(tmp_path):
    cloning = CloningSettings(out=tmp_path, data=tmp_path, depth=True, execute=3)
    assert shared(cloning, CloningConfig) == {
        "height": 64,
        "width": 64,
        "frame_stride": 4,
        "observed_frames": 2,
        "action_horizon": 10,
        "execute": 3,
        "diffusion": False,
    }  # not depth: of a picture here, of a network there


def test_settings_that_are_none_are_left_to_the_config(tmp_path):
    assert "tokens_per_step" not in shared(WorldSettings(out=tmp_path), WorldConfig)
    assert shared(WorldSettings(out=tmp_path, tokens_per_step=4), WorldConfig)["tokens_per_step"] == 4


@pytest.mark.parametrize("kind", [TokenizerSettings, WorldSettings, PolicySettings, CloningSettings, SegmenterSettings])
def test_every_preset_trains(kind, tmp_path):
    needed = {"data": tmp_path} if "data" in {field.name for field in fields(kind)} else {}
    for preset in ("tiny", "small", "base"):
        assert kind(out=tmp_path, preset=preset, **needed).fit_config().steps >= 100
