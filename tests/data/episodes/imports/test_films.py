"""Films with tables of actions become a dataset in which every frame has its own action."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.inspection.checks import run_checks
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.data.video import decode
from tests.data.conftest import Counting
from tests.data.episodes.imports.command import run
from tests.data.episodes.test_films import film


def table(path, rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def films(tmp_path):
    """Two films of 6 and 5 frames, without actions."""
    folder = tmp_path / "films"
    folder.mkdir()
    film(folder / "a.mp4", range(6))
    film(folder / "b.mp4", range(6, 11))
    return folder


def test_a_row_a_frame(films, tmp_path):
    for name, numbers in (("a", range(6)), ("b", range(6, 11))):
        table(films / f"{name}.csv", [{"steer": n / 4, "gas": n, "reward": 0} for n in numbers])
    before = {path: path.stat().st_mtime_ns for path in films.iterdir()}
    assert run(films, "--out", tmp_path / "data") == 0
    assert before == {path: path.stat().st_mtime_ns for path in films.iterdir()}
    data = Dataset.open(tmp_path / "data", strict=True)
    assert (data.fps, data.action_spec.kind, data.action_spec.names) == (7, "continuous", ("steer", "gas"))
    for episode in data.episodes:
        numbers = Counting.numbers(data, episode.index)
        assert data.actions(episode.index)[:, 1].tolist() == numbers
    assert [episode.task for episode in data.episodes] == ["film a", "film b"]


@pytest.mark.parametrize("way", ["frame", "time", "milliseconds off"])
def test_rows_may_say_when_they_are(films, tmp_path, way):
    """A row holds until the next."""
    for name, frames in (("a", [0, 3, 4]), ("b", [0, 2])):
        at = [{"frame": f} if way == "frame" else {"time": f / 7 + (0.01 if way != "time" else 0)} for f in frames]
        (films / f"{name}.json").write_text(json.dumps([{**each, "go": f} for each, f in zip(at, frames, strict=True)]))
    assert run(films, "--out", tmp_path / "data") == 0
    data = Dataset.open(tmp_path / "data")
    assert data.action_spec.names == ("0", "2", "3", "4")
    assert [int(data.action_spec.names[each]) for each in data.actions(0)] == [0, 0, 0, 3, 4, 4]
    assert [int(data.action_spec.names[each]) for each in data.actions(1)] == [0, 0, 2, 2, 2]


def test_events_are_keys_that_are_held(films, tmp_path):
    lines = [("left", "down", 1), ("up", "down", 2), ("left", "up", 3), ("up", "up", 2)]
    events = [{"key": key, "event": event, "frame": frame} for key, event, frame in sorted(lines, key=lambda x: x[2])]
    for name in "ab":
        (films / f"{name}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert run(films, "--out", tmp_path / "data") == 0
    data = Dataset.open(tmp_path / "data")
    assert (data.action_spec.kind, data.action_spec.names) == ("keys", ("left", "up"))
    assert data.actions(0)[:, 0].tolist() == [False, True, True, True, False, False]
    assert data.actions(0)[:, 1].tolist() == [False, False, True, False, False, False]


def test_lines_of_video_pretraining(films, tmp_path):
    def line(keys, dx, buttons=()):
        return {
            "mouse": {"x": 640.0, "y": 360.0, "dx": dx, "dy": 0.0, "buttons": list(buttons), "newButtons": []},
            "keyboard": {"keys": keys, "newKeys": [], "chars": ""},
            "tick": 0,
            "isGuiOpen": False,
        }

    for name, count in (("a", 6), ("b", 5)):
        lines = [line(["key.keyboard.w"] if n % 2 else [], float(n), [0] if n == 3 else []) for n in range(count)]
        (films / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert run(films, "--out", tmp_path / "data") == 0
    data = Dataset.open(tmp_path / "data")
    spec, actions = data.action_spec, data.actions(0)
    assert set(spec.names) == {"w", "mouse.dx", "mouse.dy", "mouse.0"}
    assert actions[:, spec.names.index("w")].tolist() == [0, 1, 0, 1, 0, 1]
    assert actions[:, spec.names.index("mouse.dx")].tolist() == [0, 1, 2, 3, 4, 5]
    assert actions[:, spec.names.index("mouse.0")].tolist() == [0, 0, 0, 1, 0, 0]
    assert spec.whole[spec.names.index("w")]


def test_columns_are_chosen(films, tmp_path, capsys):
    for name, count in (("a", 6), ("b", 5)):
        table(films / f"{name}.csv", [{"note": "x", "button": n % 2, "speed": n} for n in range(count)])
    assert run(films, "--out", tmp_path / "data") == 2
    assert "a.csv: column note holds texts" in capsys.readouterr().err
    assert run(films, "--out", tmp_path / "data", "--actions", "nothing") == 2
    assert "has no column nothing; it has note, button, speed" in capsys.readouterr().err
    assert run(films, "--out", tmp_path / "data", "--actions", "note") == 0
    assert Dataset.open(tmp_path / "data").action_spec.names == ("x",)


def test_what_does_not_fit_is_left_out_and_listed_and_the_rest_stays(films, tmp_path, capsys):
    film(films / "c.mp4", range(4))
    (films / "d.mp4").write_bytes(b"no film")
    film(films / "e.mp4", range(5))
    for name, count in (("a", 6), ("b", 5), ("c", 9), ("z", 3)):
        table(films / f"{name}.csv", [{"go": n / 2} for n in range(count)])
    assert run(films, "--out", tmp_path / "data") == 0
    out, err = capsys.readouterr()
    assert "2 episodes (2 new, 11 frames, 4 left out)" in out
    for told in (
        "c.csv: has 9 rows, its film 4 frames",
        "d.mp4: is no readable video",
        "e.mp4: has no table of actions",
    ):
        assert told in err
    assert "z.csv: actions without a film beside them" in err
    assert len(Dataset.open(tmp_path / "data", strict=True).episodes) == 2


def test_an_import_that_was_stopped_goes_on(films, tmp_path, monkeypatch):
    saved = DatasetWriter._save

    def once(self, episode):
        if self.num_episodes == 1:
            raise KeyboardInterrupt
        saved(self, episode)

    monkeypatch.setattr(DatasetWriter, "_save", once)
    assert run(films, "--out", tmp_path / "data") == 130
    assert len(Dataset.open(tmp_path / "data").episodes) == 1
    monkeypatch.undo()
    assert run(films, "--out", tmp_path / "data") == 0
    assert run(films, "--out", tmp_path / "data") == 0
    data = Dataset.open(tmp_path / "data")
    assert data.action_spec is None
    assert [Counting.numbers(data, index) for index in (0, 1)] == [[*range(6)], [*range(6, 11)]]


def test_another_source_is_not_appended(films, tmp_path, capsys):
    assert run(films, "--out", tmp_path / "data") == 0
    assert run(films, "--out", tmp_path / "data", "--shift", "1") == 2
    assert "name a new folder" in capsys.readouterr().err
    assert run(tmp_path / "data", "--out", tmp_path / "data") == 2
    assert "is the source itself" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", "--out", tmp_path / "new") == 2
    assert "there is no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("shift", [-2, 0, 1])
def test_a_shift_mends_a_dataset(tmp_path, shift):
    """Actions of row t stand in row t + shift."""
    spec = Counting.keys
    with DatasetWriter(tmp_path / "data", fps=7, cameras=[Counting.rgb, Counting.depth], action_spec=spec) as writer:
        for first in (0, 9):
            with writer.episode(task="x") as episode:
                for number in range(first, first + 9):
                    images = {Counting.rgb.name: Counting.draw(number), Counting.depth.name: np.full((32, 40), 2.0)}
                    episode.add(images=images, action=Counting.action(max(0, number - shift), spec))
    assert run(tmp_path / "data", "--shift", shift, "--out", tmp_path / "mended") == 0
    data = Dataset.open(tmp_path / "mended", strict=True)
    assert [camera.kind for camera in data.cameras] == ["rgb", "depth"]
    for episode in data.episodes:
        numbers = Counting.numbers(data, episode.index)
        assert len(numbers) == 9 - abs(shift)
        said = (data.actions(episode.index) << np.arange(spec.size)).sum(1)
        assert said.tolist() == numbers


def test_pictures_and_gifs(tmp_path):
    images = [Image.fromarray(np.ascontiguousarray(Counting.draw(number))) for number in range(12)]
    (tmp_path / "films/one").mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(tmp_path / f"films/one/{number}.png")  # 10 comes after 9, not after 1
    assert run(tmp_path / "films", "--out", tmp_path / "data") == 0
    assert Counting.numbers(Dataset.open(tmp_path / "data"), 0) == [*range(12)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100, loop=0)
    assert run(tmp_path / "a.gif", "--out", tmp_path / "gif", "--task", "wave") == 0
    data = Dataset.open(tmp_path / "gif")
    assert (data.fps, data.episodes[0].task) == (10, "wave")
    assert Counting.numbers(data, 0) == [*range(12)]


def test_links_that_lead_out_are_refused(films, tmp_path, capsys):
    film(tmp_path / "secret.mp4", range(4))
    os.symlink(tmp_path / "secret.mp4", films / "c.mp4")
    assert run(films, "--out", tmp_path / "data") == 2
    assert "leads out of" in capsys.readouterr().err


@pytest.mark.parametrize("shift", [0, 1])
def test_films_are_taken_over_as_they_are_coded_where_every_frame_is_a_row(films, tmp_path, shift):
    for name, numbers in (("a", range(6)), ("b", range(6, 11))):
        table(films / f"{name}.csv", [{"steer": n / 4} for n in numbers])
    assert run(films, "--out", tmp_path / "data", "--shift", shift) == 0
    data = Dataset.open(tmp_path / "data", strict=True)
    assert Counting.numbers(data, 1) == [6, 7, 8, 9, 10][: 5 - shift]
    files = sorted((tmp_path / "data/videos").rglob("*.mp4"))
    source = list(decode(films / "b.mp4", 0, 5 - shift))
    assert len(files) == (1 if shift else 2)
    assert np.array_equal(list(data.frames(1)), source) == (not shift)
    assert not [problem for check in run_checks(data) for problem in check.problems]


def test_what_is_encoded_is_not_joined_to_what_was_taken_over(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    for place, name in enumerate("abcd"):
        film(folder / f"{name}.mp4", range(4 * place, 4 * place + 4), pixels="yuv444p" if name in "bc" else "yuv420p")
    assert run(folder, "--out", tmp_path / "data") == 0
    data = Dataset.open(tmp_path / "data", strict=True)
    assert [Counting.numbers(data, index)[0] for index in range(4)] == [0, 4, 8, 12]
    assert len([*(tmp_path / "data/videos").rglob("*.mp4")]) == 3


def test_actions_without_any_film_and_archives_are_told_from_what_is_unknown(tmp_path, capsys):
    (tmp_path / "drive").mkdir()
    table(tmp_path / "drive/a.csv", [{"steer": 1}])
    (tmp_path / "drive.zip").write_bytes(b"PK")
    for name, told in (
        ("drive", "a.csv: is a table of actions, but nowhere in"),
        ("drive.zip", "is an archive; unpack"),
    ):
        assert run(tmp_path / name, "--out", tmp_path / "data") == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
