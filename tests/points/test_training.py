"""Classified clouds become a segmenter's run folder."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from oneiros.data.clouds.formats import Cloud, open_cloud, write_cloud
from oneiros.loading import load
from oneiros.points import training as segmenter
from oneiros.points.cells import Cells, layout, make_cells
from oneiros.points.evaluation.run import evaluate_segmenter
from oneiros.points.labelling import label_points
from oneiros.points.profile import CloudProfile
from oneiros.points.segmenter import Segmenter
from oneiros.points.training import _class_weights, _cut
from oneiros.run_folder import read_cloud_origin, read_config
from oneiros.train.log import read_metrics
from oneiros.train.state import load_state
from tests.dot_runs import save_world
from tests.recorded import segmenter_settings
from tests.towns import having, part_of, town, write_town
from tests.world.training.test_tokenizer import run_until_ctrl_c


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(run / "metrics.jsonl")]


def write(path: Path, cloud: Cloud) -> Path:
    write_cloud(path, cloud)
    return path


def test_run_folder(segmenter_run, towns):
    for name in ("config.json", "model.safetensors", "state.pt", "metrics.jsonl", "environment.json"):
        assert (segmenter_run / name).is_file()
    config = read_config(segmenter_run)
    assert config.kind == "segmenter"
    assert config.recipe["clouds"] == [str(path) for path in towns]
    origin = read_cloud_origin(segmenter_run)
    assert origin.train == tuple(str(path) for path in towns[:-1])
    assert origin.held_out == (str(towns[-1]),)
    assert [CloudProfile.from_json(values).full_colour for values in origin.profiles] == [65535, 65535]
    model = load(segmenter_run).config
    assert model.names == ("ground", "vegetation", "building")
    assert model.codes == ((2,), (3, 4, 5), (6,))
    assert model.writes == (2, 5, 6)  # of vegetation, most is high
    assert model.features == ("cones", "steps", "intensity_rank", "echoes", "colour_rank")
    assert (model.network.grid, model.radius, model.max_points) == (1.0, 8.0, 2048)


def test_towns_never_seen_are_labelled(segmenter_run):
    cloud = town(9)
    found = label_points(load(segmenter_run), cloud).argmax(1).numpy()
    truth = np.array([-1, -1, 0, 1, 1, 1, 2])[cloud.classification]
    assert (found == truth).mean() > 0.95


def test_held_out_towns_are_measured_and_drawn(segmenter_run):
    row = read_metrics(segmenter_run / "metrics.jsonl")[-1]
    assert row["held_out/accuracy"] > 0.95
    assert row["held_out/miou"] > 0.8
    picture = Image.open(segmenter_run / "pictures" / "step_000060.png")
    assert picture.width > 2 * picture.height  # three squares


def test_statistics_and_weights_are_those_of_the_training_clouds(towns, tmp_path):
    segmenter.run(segmenter_settings(towns, tmp_path, steps=1, landscapes=0))
    config = load(tmp_path).config
    cells = [make_cells(open_cloud(path).read(), 1.0, config.features) for path in towns[:-1]]
    features = torch.cat([each.features for each in cells])
    torch.testing.assert_close(torch.tensor(config.mean), features.mean(0))
    torch.testing.assert_close(torch.tensor(config.std), features.std(0), rtol=1e-3, atol=1e-3)
    ground, vegetation, building = config.class_weights
    assert ground < vegetation
    assert ground < building


def test_class_weights():
    assert _class_weights(torch.tensor([50.0, 50.0])) == pytest.approx((1, 1))
    counts = torch.tensor([6400.0, 1600.0, 0.0])
    weights = torch.tensor(_class_weights(counts))
    assert weights[1] / weights[0] == pytest.approx(2)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    rare = _class_weights(torch.tensor([10_000.0, 1.0]))
    assert rare[1] / rare[0] < 5  # and not a hundred


def test_other_clouds_are_refused_by_a_run_that_goes_on(towns, tmp_path):
    """What was held out so far would be learned from."""
    settings = segmenter_settings(towns[:2], tmp_path / "run", steps=1)
    segmenter.run(settings)
    for changes in ({"clouds": tuple(towns)}, {"clouds": tuple(towns[1::-1])}, {"held_out": (towns[0],)}):
        with pytest.raises(ValueError, match="learned from other clouds, or held out others"):
            segmenter.run(replace(settings, steps=2, resume=True, **changes))


def test_ctrl_c_then_resume_is_the_run_that_never_stopped(towns, tmp_path):
    settings = segmenter_settings(towns[:2], tmp_path / "parts", steps=8, save_every=3)
    segmenter.run(replace(settings, out=tmp_path / "whole"))
    run_until_ctrl_c(segmenter.run, settings, 4, asks="seeds")
    assert load_state(tmp_path / "parts")["step"] < 8
    segmenter.run(type(settings)(out=tmp_path / "parts", resume=True))  # the rest is in the run folder
    whole, parts = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_warm_start_begins_with_the_other_segmenter(segmenter_run, towns, tmp_path, capsys):
    settings = segmenter_settings(towns[:2], tmp_path, warm_start=segmenter_run, classes="2,3-6", steps=1, lr=1e-9)
    segmenter.run(settings)
    theirs, ours = load(segmenter_run), load(tmp_path)
    assert (theirs.num_classes, ours.num_classes) == (3, 2)
    for name, parameter in theirs.network.named_parameters():
        if not name.startswith("head.1"):
            torch.testing.assert_close(ours.network.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)
    assert "fresh ones in network" in capsys.readouterr().err


def test_warm_start_takes_over_the_features_that_both_have(segmenter_run, towns, tmp_path, capsys):
    features = ("colour_rank", "cones")
    segmenter.run(
        segmenter_settings(towns[:2], tmp_path, warm_start=segmenter_run, features=features, steps=1, lr=1e-9)
    )
    theirs, ours = load(segmenter_run), load(tmp_path)
    old, new = layout(theirs.config.features), layout(features)
    for feature in ("", *features):
        one, other = (model.network.stem.weights[:, place[feature]] for model, place in ((theirs, old), (ours, new)))
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    assert theirs.config.features != features
    segmenter.run(segmenter_settings(towns[:2], tmp_path / "back", warm_start=tmp_path, steps=1, lr=1e-9))
    assert "it has not seen steps, intensity_rank, echoes before" in capsys.readouterr().err
    fresh = load(tmp_path / "back").network.stem.weights[:, old["echoes"]]
    assert fresh.abs().max() < 1e-6


def test_only_a_segmenter_is_begun_with(towns, tmp_path):
    settings = segmenter_settings(towns[:2], tmp_path / "run", warm_start=save_world(tmp_path / "world"))
    with pytest.raises(ValueError, match="world holds a world; this needs a segmenter"):
        segmenter.run(settings)


def test_a_cell_on_the_border_is_learned_from_and_not_measured_on():
    places = torch.stack([torch.arange(101.0), torch.zeros(101), torch.zeros(101)], 1)[torch.randperm(101)]
    cells = Cells(places, torch.zeros(101, 2), torch.zeros(101, dtype=torch.int64), torch.arange(101), np.zeros(3))
    (train,), (held_out,) = _cut(cells)
    assert sorted(train.xyz[:, 0].tolist()) == list(range(81))
    assert sorted(held_out.xyz[:, 0].tolist()) == list(range(81, 101))


def test_of_a_single_cloud_a_part_is_held_out_that_shares_no_cell(tmp_path):
    path = write(tmp_path / "town.ply", part_of(town(size=60), np.arange(4000)))
    cells = make_cells(open_cloud(path).read(), 1.0, ())
    cells = replace(cells, labels=torch.zeros(len(cells), dtype=torch.int64))
    (train,), (held_out,) = _cut(cells)
    assert len(train) + len(held_out) == len(cells)
    assert 0.15 < len(held_out) / len(cells) < 0.25
    axis = int((train.xyz.amax(0) < held_out.xyz.amin(0))[:2].nonzero()[0, 0])
    assert train.xyz[:, axis].max() < held_out.xyz[:, axis].min()
    run = tmp_path / "run"
    segmenter.run(segmenter_settings([path], run, steps=1))
    assert read_cloud_origin(run).held_out == ()
    assert "held_out/miou" in read_metrics(run / "metrics.jsonl")[-1]
    with pytest.raises(ValueError, match="held out no whole cloud; name the classified clouds to measure on"):
        evaluate_segmenter(run, out=tmp_path / "eval")


def test_what_is_held_out_can_be_chosen(towns, tmp_path):
    chosen = (towns[0].parent / "." / towns[0].name, towns[1].parent / "nowhere" / ".." / towns[1].name)
    segmenter.run(segmenter_settings(towns, tmp_path, held_out=chosen, steps=1))
    origin = read_cloud_origin(tmp_path)
    assert (origin.train, origin.held_out) == ((str(towns[2]),), tuple(str(path) for path in towns[:2]))


def test_the_usual_cell_is_some_times_as_wide_as_points_are_apart(tmp_path):
    x, y = np.meshgrid(np.arange(0, 30, 0.4), np.arange(0, 30, 0.4))
    flat = Cloud(np.stack([x, y, 0 * x], -1).reshape(-1, 3), {})
    assert segmenter._usual_grid([flat]) == 1.0
    assert segmenter._usual_grid([replace(flat, xyz=flat.xyz / 10)]) == 0.1
    with pytest.raises(ValueError, match="lie on top of each other; say with --grid"):
        segmenter._usual_grid([replace(flat, xyz=flat.xyz * 0)])


def test_only_what_all_clouds_offer_is_looked_at(towns, tmp_path):
    bare = write(tmp_path / "bare.npy", having(town(5), intensity=None, red=None))
    segmenter.run(segmenter_settings([*towns[:1], bare], tmp_path / "run", steps=1, classes="2,6", names=("g", "b")))
    config = load(tmp_path / "run").config
    assert config.features == ("cones", "steps", "echoes")
    assert config.names == ("g", "b")


@pytest.mark.parametrize("ending", ["las", "laz", "ply", "npy"])
def test_every_format_is_learned_from(ending, tmp_path):
    paths = [write_town(tmp_path / f"{seed}.{ending}", seed) for seed in range(2)]
    segmenter.run(segmenter_settings(paths, tmp_path / "run", steps=1))
    assert isinstance(load(tmp_path / "run"), Segmenter)


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clouds": ()}, "name at least one classified cloud"),
        ({"classes": "2,9"}, r"--classes: no point of the clouds is of class water \(9\)"),
        ({"classes": "2,3-5,5"}, "code 5 stands in two classes"),
        ({"names": ("a", "a", "b")}, "a names two classes"),
        ({"held_out": (Path("other.laz"),)}, r"--held-out other\.laz is none of the clouds given"),
        ({"grid": -1.0}, "--grid is -1.0; it must be above 0"),
        ({"radius": 0.0}, "--radius is 0.0; it must be above 0"),
        ({"radius": float("nan")}, "--radius is nan; it must be above 0"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
    ],
)
def test_wrong_settings_are_one_clear_line(options, message, towns, tmp_path):
    clouds = options.pop("clouds", towns[:2])
    with pytest.raises(ValueError, match=message) as refused:
        segmenter.run(segmenter_settings(clouds, tmp_path, **options))
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_clouds_are_given_once_and_not_all_held_out(towns, tmp_path):
    with pytest.raises(ValueError, match=rf"^{towns[0]}: is given twice"):
        segmenter.run(segmenter_settings([towns[0], towns[1], towns[0]], tmp_path))
    with pytest.raises(ValueError, match="--held-out names every cloud"):
        segmenter.run(segmenter_settings(towns[:2], tmp_path, held_out=(towns[1], towns[0])))
    segmenter.run(segmenter_settings(towns[:2], tmp_path, held_out=(towns[0], towns[0]), steps=1))


WRONG_CLOUDS = {
    "no classes": (lambda c: having(c, classification=None), "has no classification to learn from"),
    "classes that are no codes": (
        lambda c: having(c, classification=np.full(len(c), 1000, np.uint16)),
        "classification code 1000; codes go from 0 to 255",
    ),
    "classes between classes": (lambda c: having(c, classification=np.full(len(c), 2.5)), "the class is 2.5"),
    "no points": (lambda c: part_of(c, np.arange(0)), "holds no points"),
    "NaN colours": (lambda c: having(c, red=np.full(len(c), np.nan, np.float32)), "point 0: red is nan"),
    "NaN intensity": (lambda c: having(c, intensity=np.full(len(c), np.nan)), "point 0: intensity is nan"),
    "degrees": (lambda c: replace(c, xyz=c.xyz * (1e-7, 1e-6, 1)), "x and y look like degrees, not metres"),
    "too large": (lambda c: replace(c, xyz=c.xyz * (1e3, 1e3, 1)), "too much for cells of 1"),
}


@pytest.mark.parametrize("ending", ["ply", "npy"])
@pytest.mark.parametrize("wrong", WRONG_CLOUDS)
def test_clouds_that_cannot_be_learned_from_are_named(towns, tmp_path, wrong, ending):
    change, message = WRONG_CLOUDS[wrong]
    path = write(tmp_path / f"wrong.{ending}", change(town()))
    with pytest.raises(ValueError, match=rf"^{path}: .*{message}"):
        segmenter.run(segmenter_settings([path, *towns[:1]], tmp_path / "run"))
    assert not (tmp_path / "run" / "state.pt").exists()


def test_a_cloud_too_small_to_be_cut_is_named(tmp_path):
    one_place = town().xyz[:1].repeat(2, 0)
    path = write(tmp_path / "tiny.npy", Cloud(one_place, {"classification": np.array([2, 6], np.uint8)}))
    with pytest.raises(ValueError, match=rf"^{path}: is too small to hold a part out"):
        segmenter.run(segmenter_settings([path], tmp_path / "run", classes="2,6"))


def test_config_is_plain_json(segmenter_run):
    recipe = json.loads((segmenter_run / "config.json").read_text())["recipe"]
    assert recipe["classes"] == "2,3-5,6"
    assert "resume" not in recipe


def test_a_dense_network_trains_resumes_and_labels(towns, tmp_path):
    """With its kernels exported at every picture, and class weights of one's own."""
    described = tmp_path / "model.json"
    described.write_text(json.dumps({
        "feature_extraction": {"feature_space_dims": [16, 32], "blocks": [1, 1], "shell_points": [1, 9]},
        "pre_processing": {"num_points_per_depth": [256, 64], "num_pwise_neighbors": [12, 12],
                           "num_downsampling_neighbors": [1, 6]},
        "model_handling": {"class_weight": [1, 1, 4]},
    }))  # fmt: skip
    settings = segmenter_settings(
        towns, tmp_path / "run", network=str(described), steps=20, save_every=10, picture_every=10
    )
    segmenter.run(settings)
    model = load(tmp_path / "run")
    weights = torch.tensor(model.config.class_weights)
    torch.testing.assert_close(weights / weights[0], torch.tensor([1.0, 1.0, 4.0]))
    assert model.config.network.dims == (16, 32)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["held_out/accuracy"] > 0.6
    assert (tmp_path / "run" / "kernels" / "step_000020" / "level_1_change.png").is_file()
    segmenter.run(replace(settings, steps=21, resume=True))
    assert load_state(tmp_path / "run")["step"] == 21


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"network": "huge"}, "--network is huge; choose tiny, small, official-S, official-L, kpconvx-dense or"),
        ({"class_weights": (1.0, 2.0)}, "class weights are [1.0, 2.0]"),
        ({"network": "no.json"}, "no.json"),
    ],
)
def test_networks_and_weights_that_do_not_fit_are_named(towns, tmp_path, options, words):
    with pytest.raises((ValueError, OSError), match=re.escape(words)):
        segmenter.run(segmenter_settings(towns, tmp_path / "run", **options))
