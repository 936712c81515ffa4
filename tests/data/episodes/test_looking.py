"""What is wrong with a dataset is named, with its place: clocks, colours, films that stand still or skip, tasks."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.inspection.checks import run_checks
from oneiros.data.episodes.inspection.look import look
from oneiros.data.episodes.tables import write_tasks
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.records import ActionSpec, Camera
from tests.data.episodes.test_columns import rewrite

FRONT, WRIST = (Camera(f"observation.images.{name}", 32, 48) for name in ("front", "wrist"))
DATA, TASKS = "data/chunk-000/file-000.parquet", "meta/tasks.parquet"
ROWS = 40
XY = ActionSpec("continuous", ("x", "y"))


def red(row):
    """An orange square on blue-grey ground, whose place tells the row."""
    frame = np.full((32, 48, 3), (60, 70, 90), np.uint8)
    frame[8:24, row % 40 : row % 40 + 8] = (240, 120, 20)
    return frame


def record(
    path, *, draw=lambda episode, row: red(row), wrist=lambda row: red(row), spec=XY, tasks=("move",), episodes=4
):
    """draw: the front camera's frame of an episode and row."""
    random = np.random.default_rng(0)
    with DatasetWriter(path, fps=10, cameras=(FRONT, WRIST), action_spec=spec) as writer:
        for number in range(4):
            with writer.episode(task=tasks[number % len(tasks)]) as episode:
                for row in range(ROWS):
                    images = {FRONT.name: draw(number, row), WRIST.name: wrist(row)}
                    action = random.normal(size=2) if spec.kind == "continuous" else int(random.integers(3))
                    episode.add(images=images, action=action)
    return path


def told(path, *, films=True) -> list[str]:
    dataset = Dataset.open(path)
    checks = (*run_checks(dataset), *(look(dataset).checks if films else ()))
    return [problem.text for check in checks for problem in check.problems]


def test_of_a_dataset_that_is_right_nothing_is_said(tmp_path):
    assert told(record(tmp_path / "data")) == []


def stamp(path, edit, episode=1) -> None:
    def change(table):
        times, whose = table["timestamp"].to_numpy().astype(float), table["episode_index"].to_numpy()
        times[whose == episode] = edit(times[whose == episode])
        place = table.column_names.index("timestamp")
        return table.set_column(place, "timestamp", pa.array(times, pa.float64()))

    rewrite(path / DATA, change)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t + 1.7e9, r"row 0: timestamp is 17.* the clock begins at 17.* s as a clock of the wall does"),
        (lambda t: t + 0.3, r"row 0: timestamp is 0.300 s; at 10 fps it would be 0.000 s: the clock begins at 0.300 s"),
        (lambda t: t * 1.3, r"row 2: .* rows are stamped 7.692 times a second"),
        (
            lambda t: t * 1.006 + 0.4 * (t > 3),
            r"row 31: .* the clock jumps by 0.501 s here, as if 4 frames had been lost",
        ),
        (lambda t: t * 1.004 + 0.04, r"row 26: .* the clock runs away, by \+0.056 s"),
        (lambda t: np.where(t > 2, t - 1, t), r"row 21: timestamp is 1.100 s; .* the clock stands still or goes back"),
        (lambda t: np.where(t == t[7], np.nan, t), r"row 7: timestamp is nan s"),
    ],
)
def test_a_clock_that_is_wrong_says_how(tmp_path, edit, message):
    stamp(record(tmp_path / "data"), edit)
    (found,) = told(tmp_path / "data", films=False)
    assert "episode 1, " in found
    assert re.search(message, found), found


def test_the_same_fault_of_many_episodes_is_one_line(tmp_path):
    data = record(tmp_path / "data")
    for episode in (0, 1, 3):
        stamp(data, lambda times: times + 5, episode)
    (found,) = told(data, films=False)
    assert found.endswith("(likewise in 2 more: 1, 3)")


@pytest.mark.parametrize("swapped", [(2,), (1, 3)])
def test_episodes_whose_red_is_blue_are_named(tmp_path, swapped):
    data = record(tmp_path / "data", draw=lambda episode, row: red(row)[..., :: -1 if episode in swapped else 1])
    (found,) = told(data)
    assert f"red and blue are exchanged in episode{'s' * (len(swapped) > 1)} {', '.join(map(str, swapped))}" in found


def test_films_whose_red_is_the_blue_of_the_statistics_are_named(tmp_path):
    data = record(tmp_path / "data", draw=lambda episode, row: np.full((32, 48, 3), (200, 90, 30), np.uint8) + row % 9)
    stats = json.loads((data / "meta/stats.json").read_text())
    stats[FRONT.name]["mean"] = stats[FRONT.name]["mean"][::-1]
    (data / "meta/stats.json").write_text(json.dumps(stats))
    found = told(data)
    assert any("by the dataset's statistics 0.1" in text and "one of the two is BGR" in text for text in found), found


def other(number, wrong):
    return lambda episode, row: wrong(row) if episode == number else red(row)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda row: red(3), "episode 2: the film stands still, its first 40 frames are"),
        (lambda row: red(min(row, 15)), "episode 2: the film stands still for 23 frames from frame 16 on"),
        (lambda row: red(row // 2), "episode 2: every frame is shown twice"),
        (lambda row: red(row - row // 5), "episode 2: every 5th frame or so is shown twice, the first is frame 5"),
        (lambda row: red(row)[::-1] // 2 if row > 25 else red(row), "episode 2: from frame 25 to 26 the picture leaps"),
        (lambda row: 0 * red(row) if row > 28 else red(row), f"episode 2: {FRONT.name} is black for 11 frames from"),
    ],
)
def test_a_film_that_stands_still_skips_or_is_black_is_named(tmp_path, wrong, message):
    found = told(record(tmp_path / "data", draw=other(2, wrong)))
    assert any(message in text for text in found), found


def test_a_choice_to_do_nothing_is_no_frame_shown_twice(tmp_path):
    """As in a game: some steps change nothing, and which is chance; and a cut is no lost frame."""
    places = np.random.default_rng(3).integers(0, 2, (4, ROWS)).cumsum(axis=1)
    places[1, 20:] += 17
    spec = ActionSpec("discrete", ("left", "stay", "right"))
    assert told(record(tmp_path / "data", draw=lambda episode, row: red(places[episode, row]), spec=spec)) == []


def test_a_black_camera_that_training_does_not_take_is_named(tmp_path):
    found = told(record(tmp_path / "data", wrist=lambda row: 0 * red(row)))
    assert next(text for text in found if WRIST.name in text) == f"episode 0: {WRIST.name} is black"


def test_a_task_written_in_two_ways_and_rows_of_another_task_are_named(tmp_path):
    data = record(tmp_path / "data", tasks=("Pick the cube.", "pick the cube", "open the door"))
    (alike,) = told(data, films=False)
    assert "'Pick the cube.' and 'pick the cube' differ in how they are written alone" in alike
    write_tasks(data / TASKS, ["pick the cube", "close it", "open the door"])
    swapped = told(data, films=False)
    assert any(
        "episode 0 is 'Pick the cube.' by the table of episodes, 'pick the cube' by its rows'" in each
        for each in swapped
    )


def test_an_action_that_never_changes_is_named(tmp_path):
    data = record(tmp_path / "data")

    def hold(table):
        actions = [[x, 0.25] for x, _ in table["action"].to_pylist()]
        return table.set_column(table.column_names.index("action"), "action", pa.array(actions, table["action"].type))

    rewrite(data / DATA, hold)
    notes = [check.note for check in run_checks(Dataset.open(data))]
    assert any("action y never changes" in note for note in notes)
    assert told(data, films=False) == [], "many robots have such a number: it is nothing wrong"


def test_statistics_that_are_not_of_the_rows_are_named(tmp_path):
    data = record(tmp_path / "data")
    stats = json.loads((data / "meta/stats.json").read_text())
    stats["action"] |= {"max": [0.1, 0.1], "std": [0.01, 0.01]}
    (data / "meta/stats.json").write_text(json.dumps(stats))
    assert "the statistics of action in meta/ are not of its rows; they are counted anew" in told(data, films=False)


def test_rewards_that_are_in_the_metadata_alone_are_left_out(tmp_path):
    data = record(tmp_path / "data")
    info = json.loads((data / "meta/info.json").read_text())
    info["features"]["next.reward"] = {"dtype": "float32", "shape": [], "names": None}
    (data / "meta/info.json").write_text(json.dumps(info))
    assert not Dataset.open(data).pays
    assert told(data, films=False) == ["next.reward is in the metadata, but not in the rows; it is left out"]
    assert "next.reward" not in pq.read_schema(data / DATA).names
