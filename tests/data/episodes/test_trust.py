"""No name that stands in a dataset leads a reader or a recorder out of its folder, and no two recorders share one."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oneiros.data.episodes.clips import load_frames
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.inspection.contact_sheet import contact_sheet
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.data.video import DamagedVideoError, probe
from oneiros.records import ActionSpec, Camera
from tests.data.episodes.test_dataset import write_v2

DATA = "data/chunk-000/file-000.parquet"


@pytest.fixture
def victim(tmp_path, counting):
    counting.record(tmp_path / "victim", [6, 5])
    return tmp_path / "victim"


@pytest.fixture
def data(tmp_path, counting):
    counting.record(tmp_path / "data", [4, 3])
    return tmp_path / "data"


def tell(root: Path, **values: str) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps({**info, **values}))


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def victims(root: Path, victim: Path) -> list[str]:
    """Places of the victim's data, as a template in `root` would name them."""
    rest = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    return [f"../victim/{rest}", f"data/../../victim/{rest}", f"{victim}/{rest}"]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_template_that_leads_out_is_neither_read_nor_written(data, victim, counting, which):
    tell(data, data_path=victims(data, victim)[which])
    before = content(victim)
    with pytest.raises(ValueError, match="leads out of this folder"):
        Dataset.open(data)
    with pytest.raises(ValueError, match="nothing is appended"):
        counting.record(data, [2])
    assert content(victim) == before


def test_a_template_of_films_that_leads_out_is_not_read(data, victim):
    tell(data, video_path="../victim/videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4")
    with pytest.raises(ValueError, match="leads out of this folder"):
        Dataset.open(data)


def test_templates_of_older_datasets_are_held_to_the_same(tmp_path, victim, counting):
    write_v2(tmp_path / "old", counting, [3], action={"dtype": "float32", "shape": [2]}, names=None)
    tell(tmp_path / "old", data_path=str(victim / DATA))
    with pytest.raises(ValueError, match="leads out of this folder"):
        Dataset.open(tmp_path / "old")


@pytest.mark.parametrize("linked", [DATA, "data", "meta/info.json", "meta"])
def test_a_link_that_leads_out_is_neither_read_nor_written(data, victim, counting, linked):
    path, before = data / linked, content(victim)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(victim / linked)
    with pytest.raises(ValueError, match="through a symbolic link"):
        Dataset.open(data)
    with pytest.raises((ValueError, OSError), match="through a symbolic link"):
        counting.record(data, [2])
    assert content(victim) == before


def test_a_snapshot_of_the_hub_is_read_through_its_links(data, tmp_path, counting):
    snapshot, blobs = tmp_path / "datasets--me--it" / "snapshots" / "0123abc", tmp_path / "datasets--me--it" / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in data.rglob("*") if path.is_file())):
        place = snapshot / path.relative_to(data)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blobs / str(number))
        place.symlink_to(blobs / str(number))
    counting.check(Dataset.open(snapshot, strict=True), [4, 3])


@pytest.mark.parametrize(
    "template",
    [
        "{chunk_index:>1000000000}",
        "{chunk_index:1000000000d}",
        "{chunk_index:0{file_index}d}",
        "{chunk_index.__class__}",
        "{chunk_index!r}",
        "{file_index:.999999999f}",
        "{info}",
        "{0}",
        "{}",
        "{chunk_index",
    ],
)
def test_templates_hold_their_fields_with_plain_widths_and_no_more(data, template):
    tell(data, data_path=f"data/{template}.parquet")
    with pytest.raises(ValueError, match=r"info\.json|may hold|meta"):
        Dataset.open(data)


@pytest.mark.parametrize("name", ["../../victim/x", "/tmp/x", "observation/../../x", ".."])
def test_a_camera_whose_name_leads_out_is_neither_read_nor_recorded(data, tmp_path, counting, name):
    with pytest.raises(ValueError, match="leads out of this folder"):
        DatasetWriter(tmp_path / "new", fps=7, cameras=[replace(counting.rgb, name=name)], action_spec=None)
    info = json.loads((data / "meta/info.json").read_text())
    info["features"][name] = info["features"].pop(counting.rgb.name)
    (data / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="leads out of this folder"):
        load_frames(Dataset.open(data), [0], height=8, width=8, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("leads_to", ["../precious", "data"])
def test_a_link_in_place_of_the_folder_where_recordings_grow_is_not_followed(data, tmp_path, counting, leads_to):
    precious = tmp_path / "precious"
    for name in ("batch", "episode"):
        (precious / name).mkdir(parents=True)
        (precious / name / "thesis.tex").write_text("years of work")
    (precious / "lock").write_text("years of work")
    before = content(precious) | content(data)
    (data / ".partial").symlink_to(leads_to)
    with pytest.raises(ValueError, match="is a symbolic link"):
        counting.record(data, [2])
    assert content(precious) | content(data) == before


def test_links_inside_the_folder_where_recordings_grow_are_not_followed(data, tmp_path, counting):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    (data / ".partial").mkdir()
    for name in ("batch", "episode"):
        (data / ".partial" / name).symlink_to(precious)
    (data / ".lock").symlink_to(precious / "thesis.tex")
    with pytest.raises(OSError, match="symbolic link"):
        counting.record(data, [2])
    (data / ".lock").unlink()
    counting.record(data, [2], first=7)
    assert content(precious) == {"thesis.tex": b"years of work"}
    counting.check(Dataset.open(data, strict=True), [4, 3, 2])


def test_a_playlist_that_is_called_a_film_is_not_followed(data, tmp_path):
    film = next((data / "videos").rglob("*.mp4"))
    assert probe(film).num_frames == 7
    playlist = tmp_path / "list.mp4"
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{film}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{film.relative_to(tmp_path)}'\n",
    ):
        playlist.write_text(text)
        with pytest.raises(DamagedVideoError, match="is no readable video"):
            probe(playlist)


IN_TURNS = """
import os, sys
from oneiros.data.episodes.writer import DatasetWriter
path, holders, rounds = sys.argv[1], sys.argv[1] + "-held", int(sys.argv[2])
opened = 0
while opened < rounds:
    try:
        writer = DatasetWriter(path, fps=7, cameras=[], action_spec=None)
    except OSError as error:
        assert "another recorder is writing there" in str(error), error
        continue
    os.close(os.open(holders, os.O_CREAT | os.O_EXCL))  # fails where another holds the folder, too
    opened += 1
    os.unlink(holders)
    writer.close()
"""


def test_one_recorder_at_a_time_however_often_they_open_and_close(tmp_path):
    command = [sys.executable, "-c", IN_TURNS, str(tmp_path / "data"), "150"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    told = [process.communicate(timeout=300)[1] for process in processes]
    assert told == [""] * 4
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["meta"]


@pytest.mark.parametrize("shape", [(2, 4096), (16, 2048)])
def test_a_film_like_a_thread_makes_no_wide_picture(tmp_path, shape):
    """Tiles are 120 pixels high: in full, one of 2 x 4,096 is 245,760 wide, and a row of them 1.4 GB."""
    camera = Camera("observation.images.front", *shape)
    with DatasetWriter(tmp_path / "data", fps=7, cameras=(camera,), action_spec=None) as writer:
        for _ in range(2):
            with writer.episode(task="look") as episode:
                for _ in range(8):
                    episode.add(images={camera.name: np.zeros((*shape, 3), np.uint8)})
    sheet = contact_sheet(Dataset.open(tmp_path / "data"), num_frames=8)
    assert sheet.width < 8 * (8 * 120 + 20)


@pytest.mark.parametrize("values", [[0, 1, 2, 3, 0, 1, 2], [0, 1, -1, 2, 0, 1, 2]])
def test_choices_that_are_not_among_the_names(tmp_path, counting, values):
    counting.record(tmp_path / "data", [4, 3], spec=ActionSpec("discrete", ("a", "b", "c")))
    change(tmp_path / "data", "action", values)
    with pytest.raises(ValueError, match=rf"{DATA}: episode 0: actions are -?\d to \d; they must be 0 to 2$"):
        Dataset.open(tmp_path / "data").actions(0)


@pytest.mark.parametrize("values", [np.zeros(7), [[1.0] * 9] * 7, [[1.0] * 11] * 7])
def test_actions_of_another_width_than_their_names(data, values):
    change(data, "action", values)
    with pytest.raises(ValueError, match=rf"{DATA}: action has \d+ numbers a row; meta/info.json says 10$"):
        Dataset.open(data).actions(0)


def change(root: Path, name: str, values: object) -> None:
    table = pq.read_table(root / DATA)
    pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(values)), root / DATA)
