"""Measures of a segmentation against values worked out by hand and against scikit-learn."""

import io
import json
import math
import re

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn import metrics as sklearn_metrics

from oneiros.points.evaluation.confusion import Confusion, score_table

NAMES = ("ground", "vegetation", "building")


def counted(truth, predicted, num_classes: int = 3) -> Confusion:
    confusion = Confusion(num_classes)
    confusion.add(torch.tensor(truth), torch.tensor(predicted))
    return confusion


def test_the_measures_are_those_worked_out_by_hand():
    confusion = counted([0, 0, 0, 1, 1, 2, -1], [0, 0, 1, 1, 2, 2, 0])
    assert confusion.matrix.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert confusion.points.tolist() == [3, 2, 1]
    torch.testing.assert_close(confusion.iou, torch.tensor([2 / 3, 1 / 3, 1 / 2], dtype=torch.float64))
    torch.testing.assert_close(confusion.precision, torch.tensor([1, 1 / 2, 1 / 2], dtype=torch.float64))
    torch.testing.assert_close(confusion.recall, torch.tensor([2 / 3, 1 / 2, 1], dtype=torch.float64))
    torch.testing.assert_close(confusion.f1, torch.tensor([4 / 5, 1 / 2, 2 / 3], dtype=torch.float64))
    assert confusion.miou == pytest.approx(1 / 2)
    assert confusion.accuracy == pytest.approx(4 / 6)


def test_the_measures_agree_with_scikit_learn_and_do_not_depend_on_how_points_arrive():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 4000)
    predicted = np.where(rng.random(4000) < 0.7, truth, rng.integers(0, 5, 4000))
    confusion = Confusion(5)
    for part in np.split(rng.permutation(4000), [7, 7, 1500]):
        confusion.add(truth[part].astype(np.uint8), torch.from_numpy(predicted[part]))
    np.testing.assert_array_equal(confusion.matrix, sklearn_metrics.confusion_matrix(truth, predicted))
    np.testing.assert_allclose(confusion.iou, sklearn_metrics.jaccard_score(truth, predicted, average=None))
    np.testing.assert_allclose(confusion.f1, sklearn_metrics.f1_score(truth, predicted, average=None))
    np.testing.assert_allclose(confusion.precision, sklearn_metrics.precision_score(truth, predicted, average=None))
    np.testing.assert_allclose(confusion.recall, sklearn_metrics.recall_score(truth, predicted, average=None))
    assert confusion.accuracy == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))


def test_an_absent_class_has_no_measures_and_does_not_count_in_the_mean():
    confusion = counted([0, 0, 1], [0, 0, 1])
    assert confusion.miou == 1.0
    assert math.isnan(confusion.iou[2])
    assert confusion.scores(NAMES)["classes"]["building"] == {
        "iou": None,
        "f1": None,
        "precision": None,
        "recall": None,
        "points": 0,
    }


def test_a_class_that_is_only_predicted_counts_against_the_mean():
    confusion = counted([0, 0, 1], [0, 2, 1])
    assert confusion.iou.tolist() == [0.5, 1.0, 0.0]
    assert math.isnan(confusion.recall[2])
    assert confusion.miou == 0.5


def test_nothing_counted_is_nothing_known():
    scores = counted([-1, -1], [0, 1]).scores(NAMES)
    assert scores["miou"] is None
    assert scores["accuracy"] is None


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([0, 3], [0, 0], "truth holds the label 3; classes are 0 to 2"),
        ([0, 1], [0, -1], "prediction holds the label -1; classes are 0 to 2"),
        ([0, 1], [0], r"truth \(2,\) and prediction \(1,\) differ in shape"),
    ],
)
def test_labels_that_cannot_be_counted_are_refused_and_nothing_is_counted(truth, predicted, message):
    confusion = Confusion(3)
    with pytest.raises(ValueError, match=message):
        confusion.add(torch.tensor(truth), torch.tensor(predicted))
    assert confusion.num_points == 0


def test_names_that_would_hide_a_class_are_refused():
    with pytest.raises(ValueError, match="3 classes need as many different names, got"):
        Confusion(3).scores(("ground", "ground", "building"))


def test_scores_are_json_and_a_table():
    scores = counted([0, 0, 1], [0, 1, 1]).scores(NAMES)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(score_table(scores))
    shown = console.export_text()
    assert "mIoU 0.500, overall accuracy 0.667" in shown
    assert re.search(r"ground +│ 0\.500 │ 0\.667 │ +1\.000 │ +0\.500 │ +2 ", shown)
    assert re.search(r"building +│ +– │ +– │ +– │ +– │ +0 ", shown)
