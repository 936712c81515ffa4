"""A segmenter is measured on clouds it never saw, point by point."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from oneiros.data.clouds.formats import open_cloud, write_cloud
from oneiros.loading import load
from oneiros.points.evaluation.run import evaluate_segmenter
from oneiros.points.labelling import label_points
from tests.dot_runs import save_world
from tests.towns import having, part_of, save_segmenter, segmenter_config, town, write_town

OF_CODE = np.array([-1, -1, 0, 1, 1, 1, 2])  # of ground, vegetation 3 to 5, buildings


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained segmenter, which errs."""
    return save_segmenter(tmp_path_factory.mktemp("runs") / "segmenter")


def test_every_point_of_a_known_class_is_counted(run, tmp_path):
    cloud = town(4)
    codes = cloud.classification.copy()
    codes[::7] = 9  # water: seen, but not measured
    path = tmp_path / "town.laz"
    write_cloud(path, having(cloud, classification=codes.astype(np.uint8)))
    found = evaluate_segmenter(run, [path], out=tmp_path / "eval")
    truth = np.where(codes == 9, -1, OF_CODE[np.minimum(codes, 6)])
    predicted = label_points(load(run), open_cloud(path).read()).argmax(1).numpy()
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (truth[truth >= 0], predicted[truth >= 0]), 1)
    assert found["confusion"] == expected.tolist()
    assert found["accuracy"] == pytest.approx(np.trace(expected) / expected.sum())
    iou = expected[2, 2] / (expected[2].sum() + expected[:, 2].sum() - expected[2, 2])
    assert found["classes"]["building"]["iou"] == pytest.approx(iou)
    assert json.loads((tmp_path / "eval" / "metrics.json").read_text())["confusion"] == found["confusion"]
    page = (tmp_path / "eval" / "report.html").read_text()
    for word in ("town.laz", "vegetation", "Segmentation by segmenter"):
        assert word in page


def test_several_clouds_add_up(run, tmp_path):
    paths = [write_town(tmp_path / f"{seed}.ply", seed) for seed in range(2)]
    each = [np.array(evaluate_segmenter(run, [path], out=tmp_path / "eval")["confusion"]) for path in paths]
    assert evaluate_segmenter(run, paths, out=tmp_path / "eval")["confusion"] == (each[0] + each[1]).tolist()


def test_the_clouds_held_out_are_measured_by_default(segmenter_run, towns, tmp_path, capsys):
    found = evaluate_segmenter(segmenter_run, out=tmp_path)
    assert found["accuracy"] > 0.95
    assert sum(map(sum, found["confusion"])) == len(town(2))
    assert "flatter" not in capsys.readouterr().err
    evaluate_segmenter(segmenter_run, [towns[0]], out=tmp_path)
    assert f"{towns[0]}: the segmenter was trained on this cloud; figures on it flatter" in capsys.readouterr().err


def test_a_town_of_one_class(run, tmp_path):
    cloud = town()
    write_cloud(tmp_path / "plain.npy", part_of(cloud, cloud.classification == 2))
    found = evaluate_segmenter(run, [tmp_path / "plain.npy"], out=tmp_path / "eval")
    assert found["classes"]["vegetation"]["recall"] is None


REFUSED = {
    "no classes": (lambda c: having(c, classification=None), "has no classification to measure against"),
    "none that it knows": (lambda c: having(c, classification=np.full(len(c), 9, np.uint8)), "no point is of a class"),
    "no points": (lambda c: part_of(c, np.arange(0)), "holds no points"),
    "no intensity": (lambda c: having(c, intensity=None), "has no intensity, which the model was trained with"),
    "NaN": (lambda c: having(c, intensity=np.full(len(c), np.nan)), "point 0: intensity is nan"),
    "degrees": (lambda c: replace(c, xyz=c.xyz * (1e-7, 1e-6, 1)), "x and y look like degrees, not metres"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_clouds_that_cannot_be_measured_on_are_named(run, tmp_path, wrong):
    change, message = REFUSED[wrong]
    write_cloud(tmp_path / "town.ply", change(town()))
    with pytest.raises(ValueError, match=rf"^{tmp_path}/town\.ply: .*{message}"):
        evaluate_segmenter(run, [tmp_path / "town.ply"], out=tmp_path / "eval")
    assert not (tmp_path / "eval").exists()


def test_runs_that_cannot_be_measured(run, tmp_path):
    with pytest.raises(ValueError, match="held out no whole cloud; name the classified clouds"):
        evaluate_segmenter(run, out=tmp_path / "eval")
    with pytest.raises(ValueError, match="holds a world; this needs a segmenter"):
        evaluate_segmenter(save_world(tmp_path / "world"), out=tmp_path / "eval")


def test_prediction_is_not_swayed_by_what_is_true(run, tmp_path):
    """The classes of a cloud are what it is measured against, and nothing it is told."""
    cloud = town()
    shuffled = having(cloud, classification=np.random.default_rng(0).permutation(cloud.classification))
    model = load(run)
    assert torch.equal(label_points(model, cloud), label_points(model, shuffled))
    assert model.config == segmenter_config()
