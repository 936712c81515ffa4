"""The pictures show the points they were given; the page and its metrics.json say what was measured."""

import json

import numpy as np
import pytest
import torch

from oneiros.points.evaluation.confusion import Confusion
from oneiros.points.evaluation.pictures import (
    RIGHT,
    UNKNOWN,
    WRONG,
    View,
    class_colours,
    error_colours,
    from_above,
    label_colours,
    mark,
    triptych,
    upright,
    views,
    worst_section,
)
from oneiros.points.evaluation.report import write_report

NAMES = ("ground", "vegetation", "building")
ORIGIN = np.array([770_000.0, 6_277_000.0, 20.0])
COLOURS = class_colours(NAMES)


def plane(side: int = 50) -> np.ndarray:
    """A level square of side x side points, a metre apart, at coordinates as large as surveyors use."""
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    return ORIGIN + np.stack([x.ravel(), y.ravel(), np.zeros(side * side)], axis=1)


def at(picture: np.ndarray, pixel: float, x: float, y: float) -> list[int]:
    """The picture's colour at metres east and north of the cloud's corner."""
    return picture[picture.shape[0] - 1 - int(y / pixel), int(x / pixel), :3].tolist()


def test_every_class_has_its_own_colour_and_familiar_ones_the_familiar():
    names = ("low vegetation", "ground", "high vegetation", "wire", "car", "building")
    colours = class_colours(names)
    assert len(np.unique(colours, axis=0)) == len(names)
    assert colours[1].tolist() == COLOURS[0].tolist()
    assert colours[5].tolist() == COLOURS[2].tolist()


def test_unknown_points_are_grey_and_never_errors():
    truth, predicted = np.array([0, 1, -1]), np.array([0, 2, 2])
    assert label_colours(truth, COLOURS).tolist() == [*COLOURS[:2].tolist(), list(UNKNOWN)]
    assert error_colours(truth, predicted).tolist() == [list(RIGHT), list(WRONG), list(RIGHT)]


def test_north_is_up_and_the_highest_point_is_seen():
    xyz = plane()
    labels = (xyz[:, 1] > ORIGIN[1] + 30).astype(int)
    picture, pixel = from_above(xyz, View("", label_colours(labels, COLOURS)))
    assert at(picture, pixel, 10, 40) == COLOURS[1].tolist()
    assert at(picture, pixel, 10, 20) == COLOURS[0].tolist()
    chimney = ORIGIN + np.array([[10, 20, 5]])
    picture, pixel = from_above(np.concatenate([chimney, xyz]), View("", label_colours(np.r_[2, labels], COLOURS)))
    np.testing.assert_allclose(
        at(picture, pixel, 10, 20), 0.7 * COLOURS[2], atol=1
    )  # in shadow: all is lower south-east


def test_an_error_under_a_roof_is_seen():
    xyz = np.concatenate([plane(), plane() + np.array([0, 0, 8])])
    truth, predicted = np.zeros(len(xyz), int), np.zeros(len(xyz), int)
    predicted[1010] = 1
    truth_view, _, errors = views(truth, predicted, COLOURS)
    assert not (from_above(xyz, View("", errors.colours))[0][..., :3] == WRONG).all(axis=-1).any()
    assert (from_above(xyz, errors)[0][..., :3] == WRONG).all(axis=-1).any()
    assert (from_above(xyz, truth_view)[0][..., :3] == COLOURS[0]).all(axis=-1).any()


def test_a_triptych_shows_truth_then_prediction_then_errors():
    xyz = plane()
    whole = triptych(xyz, np.zeros(2500, int), np.full(2500, 2), COLOURS)
    middle = whole[len(whole) // 2, :, :3]
    assert [middle[int(len(middle) * share)].tolist() for share in (0.2, 0.5, 0.8)] == [
        COLOURS[0].tolist(),
        COLOURS[2].tolist(),
        list(WRONG),
    ]


def test_where_there_is_no_point_pictures_are_transparent():
    xyz = plane()
    xyz = xyz[(xyz[:, 0] < ORIGIN[0] + 15) | (xyz[:, 0] > ORIGIN[0] + 35)]
    picture, pixel = from_above(xyz, View("", np.full((len(xyz), 3), 200, np.uint8)))
    assert picture[:, int(20 / pixel) : int(30 / pixel), 3].max() == 0
    assert picture[:, : int(10 / pixel), 3].min() == 255


def test_the_cut_goes_through_the_worst_place_along_the_errors():
    xyz = plane()
    truth, predicted = np.zeros(2500, int), np.zeros(2500, int)
    column = xyz[:, 0] == ORIGIN[0] + 12
    predicted[column & (xyz[:, 1] > ORIGIN[1] + 9) & (xyz[:, 1] < ORIGIN[1] + 40)] = 1
    predicted[-1] = 2
    cut = worst_section(xyz, truth, predicted)
    assert cut is not None
    assert cut.axis == 1
    assert cut.wrong == 30
    assert cut.low[0] < ORIGIN[0] + 12 < cut.high[0]
    assert (cut.low >= xyz[:, :2].min(0)).all()
    assert (cut.high <= xyz[:, :2].max(0)).all()


def test_without_errors_there_is_nothing_to_cut():
    assert worst_section(plane(), np.full(2500, -1), np.zeros(2500, int)) is None


def test_the_cut_holds_a_wrong_point_even_where_few_are_far_apart():
    xyz = plane()
    predicted = np.zeros(2500, int)
    predicted[[0, 3 * 50 + 3]] = 1
    cut = worst_section(xyz, np.zeros(2500, int), predicted)
    assert cut is not None
    assert (cut.holds(xyz) & (predicted == 1)).any()


def test_upright_up_is_up_at_one_scale():
    xyz = plane()
    xyz[:, 2] += (xyz[:, 0] - ORIGIN[0]) / 2
    predicted = np.zeros(2500, int)
    predicted[(xyz[:, 1] == ORIGIN[1] + 25)] = 1
    cut = worst_section(xyz, np.zeros(2500, int), predicted)
    assert cut is not None
    assert cut.axis == 0
    picture = upright(xyz, View("", np.full((2500, 3), 9, np.uint8)), cut)
    rows, columns = np.nonzero(picture[..., 3])
    slope = np.polyfit(columns, rows, 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.02)


def test_the_outline_surrounds_the_cut_and_hides_nothing_in_it():
    xyz = plane()
    predicted = np.zeros(2500, int)
    predicted[25 * 50 + 25] = 1
    cut = worst_section(xyz, np.zeros(2500, int), predicted)
    assert cut is not None
    picture, pixel = from_above(xyz, views(np.zeros(2500, int), predicted, COLOURS)[2])
    marked = mark(picture, pixel, xyz, cut)
    changed = (marked != picture).any(axis=-1)
    assert changed.any()
    assert not changed[int((xyz[:, 1].max() - xyz[1275, 1]) / pixel), int(25 / pixel)]


def clouds():
    """Two clouds, as a segmenter and a reader give them: one with errors, one without points."""
    xyz, truth = plane(), np.repeat([0, 1, -1, 1, 0], 500)
    predicted = torch.from_numpy(np.where(np.arange(2500) % 10 == 0, 1, np.maximum(truth, 0)))
    yield "town <north>", torch.from_numpy(xyz), truth, predicted
    yield "nothing", np.empty((0, 3)), np.empty(0, np.int64), np.empty(0, np.int64)


def test_a_report_is_one_page_that_fetches_nothing_beside_its_figures(tmp_path):
    confusion = Confusion(3)
    for _, _, truth, predicted in clouds():
        confusion.add(truth, predicted)
    config = {"model": {"grid": 0.4}, "tiles": ["a.laz"]}
    write_report(tmp_path / "eval", title="Town & co", names=NAMES, confusion=confusion, clouds=clouds(), config=config)
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == ["metrics.json", "report.html"]
    measured = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert {name: measured[name] for name in ("miou", "accuracy", "classes", "confusion")} == confusion.scores(NAMES)
    assert measured["config"] == config
    worst, empty = measured["clouds"]
    assert (worst["name"], worst["points"]) == ("town <north>", 2500)
    assert worst["iou"] == {"ground": pytest.approx(0.9), "vegetation": pytest.approx(1000 / 1100), "building": None}
    assert (empty["name"], empty["miou"]) == ("nothing", None)
    page = (tmp_path / "eval" / "report.html").read_text()
    assert page.count("<img") == page.count('src="data:image/png;base64,') == 6
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "Town &amp; co" in page
    assert "town &lt;north&gt;" in page
    assert "model.grid" in page
    assert "This cloud has no points." in page


def test_only_the_worst_clouds_are_drawn(tmp_path):
    def many():
        for number in range(8):
            truth = np.zeros(2500, int)
            yield f"cloud-{number}", plane(), truth, np.where(np.arange(2500) < 10 * number, 1, 0)

    confusion = Confusion(3)
    for _, _, truth, predicted in many():
        confusion.add(truth, predicted)
    write_report(tmp_path, title="Many", names=NAMES, confusion=confusion, clouds=many(), config={})
    page = (tmp_path / "report.html").read_text()
    assert [f"<h3>cloud-{number}</h3>" in page for number in range(8)] == [False] * 2 + [True] * 6
    assert page.index("<h3>cloud-7</h3>") < page.index("<h3>cloud-2</h3>")
    assert "The 6 clouds of 8 with the lowest accuracy" in page
    assert "<td>cloud-0</td>" in page


@pytest.mark.parametrize("xyz", [ORIGIN[None], plane(30)[:30], plane(30)[::30], np.repeat(ORIGIN[None], 5, axis=0)])
def test_a_point_a_line_and_a_heap_of_duplicates_are_drawn_too(xyz, tmp_path):
    truth, predicted = np.zeros(len(xyz), int), np.ones(len(xyz), int)
    confusion = Confusion(3)
    confusion.add(truth, predicted)
    cloud = ("small", xyz, truth, predicted)
    write_report(tmp_path, title="Small", names=NAMES, confusion=confusion, clouds=[cloud], config={})
    assert (tmp_path / "report.html").read_text().count("<img") == 6
