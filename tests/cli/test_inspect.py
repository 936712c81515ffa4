import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from oneiros.cli import main
from oneiros.data.episodes.tables import write_tasks
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.records import ActionSpec, Camera

CAMERAS = (
    Camera("observation.images.front", 32, 48, fx=30.0, fy=30.0),
    Camera("observation.depth.front", 32, 48, "depth"),
    Camera("observation.labels.front", 32, 48, "labels"),
)
KEYS = ActionSpec("keys", ("MOVE_FORWARD", "TURN_LEFT"))


def record(path, spec=KEYS, lengths=(5, 9, 2), task="collect medikits"):
    random = np.random.default_rng(0)
    with DatasetWriter(path, fps=8, cameras=CAMERAS, action_spec=spec, state_names=("health",)) as writer:
        for length in lengths:
            with writer.episode(task=task) as episode:
                for row in range(length):
                    episode.add(
                        images={
                            CAMERAS[0].name: random.integers(0, 256, (32, 48, 3), dtype=np.uint8),
                            CAMERAS[1].name: random.uniform(0, 10, (32, 48)),
                            CAMERAS[2].name: random.integers(0, 9, (32, 48)),
                        },
                        action=[1, row == 0] if spec.kind == "keys" else [row, 1.0],
                        state=[100.0],
                    )
    return path


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return record(tmp_path / "data")


def inspect(capsys, *arguments) -> str:
    main(["inspect", *map(str, arguments)])
    return capsys.readouterr().out


def fails(capsys, *arguments) -> tuple[str, str]:
    """What is printed, and the one line of error."""
    with pytest.raises(SystemExit) as exit_:
        main(["inspect", *map(str, arguments)])
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert err.startswith("oneiros: ")
    assert err.count("\n") == 1
    return out, err


def test_json_has_exactly_the_promised_entries(data, capsys):
    found = json.loads(inspect(capsys, data, "--json"))
    camera = {"height": 32, "width": 48}
    assert found == {
        "episodes": 3,
        "frames": 16,
        "fps": 8,
        "cameras": {
            "observation.images.front": {"kind": "rgb", **camera},
            "observation.depth.front": {"kind": "depth", **camera},
            "observation.labels.front": {"kind": "labels", **camera},
        },
        "camera": "observation.images.front",
        "action": KEYS.to_json(),
        "offset": None,
        "known": None,
        "endings": [],
        "ignored": [],
        "problems": [],
    }
    assert [path.name for path in data.parent.iterdir()] == ["data"]


def test_tables_name_what_there_is(data, capsys):
    out = inspect(capsys, data)
    for text in ("16 at 8 fps", "48 x 32", "0.01 to 10 m", "collect medikits", "health", "MOVE_FORWARD", "100.0%"):
        assert text in out
    assert "✗" not in out
    assert "18.8%" in out  # TURN_LEFT in 3 of 16 rows


@pytest.mark.parametrize("spec", [KEYS, ActionSpec("continuous", ("x", "y"))])
def test_the_contact_sheet_shows_every_camera_and_the_actions(tmp_path, monkeypatch, capsys, spec):
    monkeypatch.chdir(tmp_path)
    inspect(capsys, record(tmp_path / "data", spec))
    with Image.open(tmp_path / "data-sheet.png") as sheet:
        width, height = sheet.size
        colours = np.asarray(sheet).reshape(-1, 3)
    assert width == 8 * 180 + 7 * 6 + 48  # eight frames of 180 pixels, gaps and margins
    assert height > 3 * 3 * 120  # three episodes of three cameras
    assert len(np.unique(colours, axis=0)) > 1000


def test_the_contact_sheet_goes_where_it_is_told(data, capsys):
    inspect(capsys, data, "--json", "--out", data.parent / "deep/sheet.png")
    assert (data.parent / "deep/sheet.png").exists()


def rewrite_rows(data, edit) -> None:
    path = data / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(edit(table), path)


def with_nan(table):
    actions = table["action"].to_pylist()
    actions[7][1] = float("nan")
    return table.set_column(table.column_names.index("action"), "action", pa.array(actions, table["action"].type))


def test_an_action_that_is_no_number_stops_with_its_row(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = record(tmp_path / "data", ActionSpec("continuous", ("x", "y")))
    rewrite_rows(data, with_nan)
    out, err = fails(capsys, data, "--json")
    assert "episode 1, row 2: action y is nan" in err
    assert "episode 1, row 2: action y is nan" in json.loads(out)["problems"][0]
    out, _ = fails(capsys, data)
    assert "✗" in out


def test_wrong_time_stamps_are_named(data, capsys):
    rewrite_rows(
        data,
        lambda table: table.set_column(
            table.column_names.index("timestamp"), "timestamp", pa.compute.multiply(table["timestamp"], pa.scalar(2.0))
        ),
    )
    found = json.loads(inspect(capsys, data, "--json"))  # training goes on: it counts frames
    assert "row 1: timestamp is 0.250 s; at 8 fps it would be 0.125 s" in found["problems"][0]
    fails(capsys, data, "--json", "--strict")


def edit_info(data, edit) -> None:
    path = data / "meta/info.json"
    info = json.loads(path.read_text())
    edit(info)
    path.write_text(json.dumps(info))


def test_a_rate_that_disagrees_with_the_video_stops(data, capsys):
    edit_info(data, lambda info: info.update(fps=16))
    out, err = fails(capsys, data, "--json")
    assert "file-000.mp4: runs at 8 fps; meta/info.json says 16" in err
    assert json.loads(out)["fps"] == 16


def test_a_shape_that_disagrees_with_the_video_stops(data, capsys):
    edit_info(data, lambda info: info["features"][CAMERAS[0].name].update(shape=[48, 32, 3]))
    _, err = fails(capsys, data, "--json")
    assert "frames are 32 x 48; meta/info.json says 48 x 32" in err


def test_totals_that_are_wrong_are_a_problem_but_no_failure(data, capsys):
    edit_info(data, lambda info: info.update(total_episodes=7))
    found = json.loads(inspect(capsys, data, "--json"))
    assert found["problems"] == ["meta/info.json says total_episodes is 7; there are 3"]
    _, err = fails(capsys, data, "--strict")
    assert "total_episodes is 7" in err


def test_a_cut_off_video_leaves_nothing(data, capsys):
    video = next(data.glob("videos/observation.images.front/*/*.mp4"))
    video.write_bytes(video.read_bytes()[:100])
    _, err = fails(capsys, data)
    assert "has no readable episode; all 3 are missing or damaged" in err


def test_what_is_no_dataset_is_one_line(tmp_path, capsys):
    assert "no such folder" in fails(capsys, tmp_path / "nowhere")[1]
    assert "is no LeRobot dataset; it has no meta/info.json" in fails(capsys, tmp_path)[1]


def test_a_run_shows_its_configuration(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"kind": "world", "model": {"depth": 6}, "recipe": {"seed": 3}}))
    out = inspect(capsys, tmp_path)
    assert "world" in out
    assert "model.depth" in out
    assert json.loads(inspect(capsys, tmp_path, "--json"))["recipe"] == {"seed": 3}


def test_help_needs_no_torch():
    script = "import sys; from oneiros.cli import main; main(['inspect', '--help'])"
    check = f"try:\n    {script.replace('; ', '; ')}\nexcept SystemExit: print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert "oneiros inspect data" in result.stdout
    assert result.stdout.strip().endswith("False")


@pytest.mark.parametrize("change", ["lost", "words", "other tasks"])
def test_a_lost_table_of_tasks_counts_where_all_does(data, capsys, change):
    path = data / "meta/tasks.parquet"
    if change == "lost":
        path.unlink()
    elif change == "words":
        path.write_text("words")
    else:
        write_tasks(path, ["another"])
    assert "task" in json.loads(inspect(capsys, data, "--json"))["problems"][0]
    fails(capsys, data, "--json", "--strict")


def test_the_old_picture_stays_until_the_new_one_is_there(data, capsys, monkeypatch):
    out = data.parent / "sheet.png"
    out.write_text("the old picture")

    def full(image, path, *_):
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    _, err = fails(capsys, data, "--out", out)
    assert err == f"oneiros: {out}: could not be written (No space left on device)\n"
    assert out.read_text() == "the old picture"
    assert [path.name for path in data.parent.iterdir() if path.name.startswith(".partial")] == []


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path, monkeypatch, capsys):
    record(tmp_path / "[old] data", task="[bold]push[/bold] [/INST] the cube")
    monkeypatch.chdir(tmp_path)
    out = inspect(capsys, Path("[old] data"))
    assert "[old] data" in out
    assert "[bold]push[/bold] [/INST] the cube" in out


def test_a_film_says_what_it_holds_and_how_it_is_imported(data, capsys):
    film = next(data.glob("videos/observation.images.front/*/*.mp4"))
    assert "oneiros import" in inspect(capsys, film)
    found = json.loads(inspect(capsys, film, "--json"))
    assert found == {"frames": 16, "fps": 8.0, "width": 48, "height": 32, "codec": "h264"}
    assert "`oneiros import` makes one of films" in fails(capsys, film.parent)[1]


def paying(path, *endings):
    """Episodes of three steps that pay 1.5 each, and end as told."""
    with DatasetWriter(path, fps=8, cameras=CAMERAS[:1], action_spec=KEYS, outcomes=True) as writer:
        for ending in endings:
            with writer.episode(task="collect") as episode:
                for row in range(3):
                    over = {ending: row == 2} if ending else {}
                    image = np.full((32, 48, 3), 40 * row, np.uint8)
                    episode.add(images={CAMERAS[0].name: image}, action=[1, 0], reward=1.5, **over)
    return path


def test_returns_and_how_episodes_end_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = paying(tmp_path / "data", "terminated", "truncated", "truncated", None)
    out = inspect(capsys, data, "--fast")
    assert "how episodes end" in out
    rows = {line.split()[0].rstrip(":"): line.split() for line in out.splitlines() if ":" in line and line.strip()}
    assert "1" in rows["ended"]
    assert "2" in rows["truncated"]
    assert "1" in rows["open"]
    assert "4.50" in rows["ended"]
    assert "next.reward" not in out  # among what is not read
    told = json.loads(inspect(capsys, data, "--fast", "--json"))
    assert told["endings"][0] == {"episode": 0, "end": "ended", "return": 4.5}
    assert [each["end"] for each in told["endings"]] == ["ended", "truncated", "truncated", "open"]


def test_without_rewards_nothing_is_said_of_them(data, capsys):
    assert "how episodes end" not in inspect(capsys, data, "--fast")
    assert json.loads(inspect(capsys, data, "--fast", "--json"))["endings"] == []


@pytest.mark.parametrize(("column", "value"), [("next.reward", float("nan")), ("next.done", None)])
def test_a_reward_or_an_end_that_is_no_number_stops_with_its_row(tmp_path, monkeypatch, capsys, column, value):
    monkeypatch.chdir(tmp_path)
    data = paying(tmp_path / "data", "terminated", "truncated")
    path = next((data / "data").rglob("*.parquet"))
    whole = pq.read_table(path)
    values = whole[column].to_pylist()
    values[4] = value
    place = whole.column_names.index(column)
    pq.write_table(
        whole.set_column(place, whole.schema.field(place), pa.array(values, whole.schema.types[place])), path
    )
    _, error = fails(capsys, data, "--fast")
    assert f"episode 1, row 1: {column} is nan; it must be a finite number" in error


def test_an_episode_that_goes_on_after_its_end_is_told_of(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = paying(tmp_path / "data", "terminated", "truncated")
    path = next((data / "data").rglob("*.parquet"))
    whole = pq.read_table(path)
    place = whole.column_names.index("next.done")
    pq.write_table(whole.set_column(place, "next.done", pa.array([True, False, True, False, False, True])), path)
    assert "episode 0 goes on for 2 rows after row 0" in inspect(capsys, data, "--fast")
