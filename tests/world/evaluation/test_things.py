"""Things as patches, which of them are the same, and a network that learns to see a square."""

from dataclasses import replace
from types import SimpleNamespace as Namespace

import numpy as np
import pytest
import torch

from oneiros.console import silent
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.video import DamagedVideoError
from oneiros.records import Camera
from oneiros.world.evaluation.config import ThingsConfig
from oneiros.world.evaluation.things.instances import instances, matches
from oneiros.world.evaluation.things.judge import Judge, SeenAs, find_judge, labels_beside
from oneiros.world.evaluation.things.network import see
from oneiros.world.evaluation.things.scores import ThingScores, compare
from tests.recorded import SIZE, record

PICTURE = """
11....2
1...22.
.1.....
....333
"""


def kinds(*pictures: str) -> torch.Tensor:
    rows = [[[int(c) for c in line.replace(".", "0")] for line in each.split()] for each in pictures]
    return torch.tensor(rows, dtype=torch.uint8)


def frame(*boxes: tuple[int, int, int], size: int = 64, kind: int = 1) -> torch.Tensor:
    """Squares of (row, column, side), their corners at top left."""
    picture = torch.zeros(1, size, size, dtype=torch.uint8)
    for row, column, side in boxes:
        picture[0, row : row + side, column : column + side] = kind
    return picture


def scores(true: torch.Tensor, shown: torch.Tensor) -> tuple[list[float], list[float]]:
    found, wrong = compare(instances(true, least=3), instances(shown, least=3), frames=1, size=(64, 64))
    return found[0].tolist(), wrong[0].tolist()


def test_a_thing_is_what_hangs_together_corners_included_and_is_of_one_kind():
    things = instances(kinds("." * 7 + "\n" + "." * 7 + "\n" + "." * 7 + "\n" + "." * 7, PICTURE), least=2)
    found = sorted(zip(things.kind.tolist(), things.area.tolist(), things.centre.tolist(), strict=True))
    assert found == [(1, 4.0, [0.75, 0.5]), (2, 3.0, [2 / 3, 5.0]), (3, 3.0, [3.0, 5.0])]
    assert things.frame.tolist() == [1, 1, 1]
    assert len(instances(kinds(PICTURE), least=4).area) == 1


def test_no_thing_at_all_is_no_error():
    nothing = instances(torch.zeros(2, 8, 8, dtype=torch.uint8), least=1)
    assert len(nothing.area) == 0
    assert matches(nothing, instances(frame((1, 1, 4)), least=1), width=64) == []


def test_each_thing_is_found_once_by_the_nearest():
    true = instances(frame((10, 10, 4)), least=3)
    shown = instances(frame((10, 5, 4), (10, 12, 4)), least=3)
    assert [shown.centre[other].tolist() for _, other in matches(true, shown, width=64)] == [[11.5, 13.5]]


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        (frame((10, 14, 4)), True),  # a sixteenth of the width
        (frame((10, 15, 4)), False),
        (frame((10, 10, 6)), True),
        (frame((10, 10, 7)), False),  # 49 pixels for 16
        (frame((10, 10, 2)), False),
        (frame((10, 10, 4), kind=2), False),
    ],
)
def test_the_same_thing_is_near_of_its_size_and_kind(shown, same):
    true = instances(frame((10, 10, 4)), least=3)
    assert len(matches(true, instances(shown, least=3), width=64)) == same


def test_a_large_thing_may_be_farther_off_than_a_small_one():
    true, shown = (instances(frame((10, column, 20)), least=3) for column in (10, 19))
    assert len(matches(true, shown, width=64)) == 1


def test_found_missed_and_invented_are_counted_by_size():
    true, shown = frame((2, 2, 3), (20, 20, 5), (40, 40, 9)), frame((2, 3, 3), (40, 40, 9), (50, 5, 8))
    assert scores(true, shown) == ([1.0, 0.0, 1.0], [0.0, 1.0, 1.0])


def test_specks_count_neither_as_missed_nor_as_invented_but_find_what_they_show():
    speck, small = frame((10, 10, 2)), frame((10, 10, 3))
    assert scores(speck, frame()) == scores(frame(), speck) == ([0.0] * 3, [0.0] * 3)
    assert scores(small, speck) == ([1.0, 0.0, 0.0], [0.0] * 3)
    assert scores(speck, small) == ([0.0] * 3, [0.0] * 3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return Dataset.open(record(tmp_path_factory.mktemp("squares") / "data", labels=True))


def find(dataset: Dataset, **options) -> Judge | str:
    config = ThingsConfig(**{"steps": 60, **options})
    view = SeenAs(None, SIZE, SIZE)
    return find_judge(dataset, view, learn_from=(0, 1, 2, 3), measured=(4, 5), config=config, seed=0, track=silent)


@pytest.fixture(scope="module")
def judge(dataset) -> Judge:
    found = find(dataset)
    assert isinstance(found, Judge)
    return found


def test_the_network_learns_what_is_a_thing_and_where(judge, dataset):
    assert judge.names == ("square",)  # the floor covers more than a tenth
    frames = torch.from_numpy(dataset.frames(5))
    assert (see(judge.network, frames) == torch.from_numpy(judge.kinds[5])).float().mean() > 0.99


def test_a_seed_repeats_the_network(judge, dataset):
    frames = torch.from_numpy(dataset.frames(4))
    again = find(dataset)
    assert isinstance(again, Judge)
    assert torch.equal(see(judge.network, frames), see(again.network, frames))


def test_things_are_compared_with_the_frames_of_the_same_rows(judge, dataset):
    """Dreams: the truth, the truth a frame late, an empty floor, and the last given frame."""
    context, horizon, stride, row = 3, 4, 2, 5
    rows = row + stride * np.arange(context + horizon)
    frames = torch.from_numpy(dataset.frames(4)[rows])[None]
    real, last = frames[:, context:], frames[:, context - 1 : context].expand(1, horizon, -1, -1, -1)
    empty = torch.tensor([40, 30, 60], dtype=torch.uint8).expand_as(real)
    result = ThingScores(judge, context=context, stride=stride)
    result.add(
        [(4, row)],
        real,
        {"sampled": frames[:, :-context], "model": empty, "reconstruction": real, "copy_last_frame": last},
    )
    summary = result.summary([4])
    assert summary["f1"]["real"] == summary["f1"]["reconstruction"] == [1.0] * 4
    assert summary["f1"]["model"] == [0.0] * 4
    assert summary["f1"]["sampled"] != [1.0] * 4
    assert min(summary["per_frame"]) >= 1
    assert summary["by_size"]["large"]["things"] >= 4
    assert summary["by_size"]["large"]["model"] == 0.0


def test_who_is_blind_on_real_frames_is_not_asked_about_dreams(judge):
    """The frames do not show the things that the label images tell of; and there are none at all."""
    blank = torch.tensor([40, 30, 60], dtype=torch.uint8).expand(1, 2, 32, 32, 3)
    dreams = dict.fromkeys(("sampled", "model", "reconstruction", "copy_last_frame"), blank)
    result = ThingScores(judge, context=3, stride=1)
    result.add([(4, 0)], blank, dreams)
    assert result.summary([4]) == {
        "left_out": "on real frames, the network that looks for square finds too little (F1 0.00)"
    }
    result = ThingScores(replace(judge, kinds={4: np.zeros_like(judge.kinds[4])}), context=3, stride=1)
    result.add([(4, 0)], blank, dreams)
    assert "there is none" in result.summary([4])["left_out"]


def test_why_there_is_nobody_to_look_is_said_in_a_word(dataset, tmp_path):
    plain = Dataset.open(record(tmp_path / "plain", num_episodes=2))
    view = SeenAs(None, SIZE, SIZE)
    options = {"measured": (1,), "seed": 0, "track": silent}
    assert find(dataset, steps=0) == "not asked for"
    assert find_judge(plain, view, learn_from=(0,), config=ThingsConfig(), **options) == "plain has no label images"
    none = find_judge(dataset, view, learn_from=(), config=ThingsConfig(), **options)
    assert none == "no episode is left to learn from"


def test_a_damaged_film_of_labels_costs_this_measure_alone(dataset, monkeypatch):
    def labels(*given, **named):
        raise DamagedVideoError("labels.mp4: frame 3 is missing")

    monkeypatch.setattr(dataset, "labels", labels)
    assert find(dataset) == "labels.mp4: frame 3 is missing"


def test_labels_are_those_of_the_camera_that_the_world_saw():
    def cameras(*names: str) -> Namespace:
        kinds = {"images": "rgb", "labels": "labels"}
        made = tuple(Camera(f"observation.{name}", 8, 8, kinds[name.split(".")[0]]) for name in names)
        return Namespace(cameras=made, camera=lambda name: next(each for each in made if name in (None, each.name)))

    def found(seen: str, *names: str) -> str | None:
        beside = labels_beside(cameras(*names), f"observation.{seen}")
        return beside.name.removeprefix("observation.") if beside else None

    assert found("images.top", "images.top", "images.front", "labels.front", "labels.top") == "labels.top"
    assert found("images.top", "images.top", "images.front", "labels.front") is None
    assert found("images.top", "images.top", "labels.front") == "labels.front"


def test_kinds_may_be_named_and_a_wrong_name_is_told(dataset):
    found = find(dataset, kinds=("floor", "square"), steps=1)
    assert isinstance(found, Judge)
    assert found.names == ("floor", "square")
    with pytest.raises(ValueError, match="no class 'medikit'; theirs are floor, square"):
        find(dataset, kinds=("medikit",))
