"""Columns as other writers have them: other names, shapes and orders; tasks by number; pictures in the rows."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.metadata import DATA, EPISODES
from oneiros.data.video import DamagedVideoError
from tests.data.episodes.test_dataset import KEY, VECTOR, edit_info, write_v2


def rewrite(path, edit) -> None:
    table = pq.read_table(path)
    pq.write_table(edit(table), path)


def data_file(root, index):
    return root / f"data/chunk-{index // 2:03d}/episode_{index:06d}.parquet"


@pytest.fixture
def v2(tmp_path, counting):
    write_v2(tmp_path / "v2", counting, [4, 3, 5], action=VECTOR, names=None)
    return tmp_path / "v2"


def test_rows_out_of_order_are_sorted(v2):
    rewrite(data_file(v2, 2), lambda table: table.take([3, 0, 4, 2, 1]))
    dataset = Dataset.open(v2)
    assert dataset.actions(2)[:, 0].tolist() == [7, 8, 9, 10, 11]
    assert dataset.column(2, "frame_index")[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_rows_of_episodes_mixed_in_one_file_are_sorted(tmp_path, counting):
    counting.record(tmp_path, [4, 3])
    rewrite(tmp_path / DATA.format(chunk_index=0, file_index=0), lambda table: table.take([6, 0, 5, 3, 1, 4, 2]))
    counting.check(Dataset.open(tmp_path), [4, 3])


def test_names_of_openpi_are_taken(v2, counting):
    def rename(info):
        features = info["features"]
        features["actions"], features["image"] = features.pop("action"), features.pop(KEY)
        features["state"] = {"dtype": "float32", "shape": [1], "names": None}

    edit_info(v2, rename)
    for index in range(3):
        rewrite(
            data_file(v2, index),
            lambda table: table.rename_columns(["actions", *table.column_names[1:]]).append_column(
                "state", table["timestamp"]
            ),
        )
    for folder in v2.glob("videos/*/" + KEY):
        folder.rename(folder.with_name("image"))
    dataset = Dataset.open(v2)
    assert [camera.name for camera in dataset.cameras] == ["image"]
    assert dataset.action_spec.names == ("shoulder", "elbow")
    assert dataset.actions(1).tolist() == [[4, 2], [5, 2.5], [6, 3]]
    np.testing.assert_allclose(dataset.states(1)[:, 0], np.arange(3) / 7, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([["left", "right"], ["x", "y", "z"]], ("left.x", "left.y", "left.z", "right.x", "right.y", "right.z")),
        ({"b": 1, "a": 0, "f": 5, "e": 4, "d": 3, "c": 2}, ("a", "b", "c", "d", "e", "f")),
        (None, tuple(f"action_{i}" for i in range(6))),
    ],
)
def test_actions_of_several_axes_are_flattened(tmp_path, counting, names, expected):
    action = {"dtype": "float32", "shape": [2, 3], "names": names}
    write_v2(tmp_path, counting, [4], action=action, names=None, actions=lambda n: [[n, 1, 2], [3, 4, n / 2]])
    dataset = Dataset.open(tmp_path)
    assert dataset.action_spec.names == expected
    assert dataset.actions(0)[2].tolist() == [2, 1, 2, 3, 4, 1]


def test_what_is_not_read_may_have_any_shape(v2):
    def add(info):
        info["features"]["observation.target"] = {"dtype": "float32", "shape": [0], "names": None}
        info["features"]["next.reward"] = {"dtype": "float32", "shape": [], "names": None}
        info["features"]["language"] = {"shape": "none"}

    edit_info(v2, add)
    assert len(Dataset.open(v2).episodes) == 3
    edit_info(v2, lambda info: info["features"]["action"].update(shape=[0]))
    with pytest.raises(ValueError, match=r"info\.json: feature action has shape \[0\]; it must be whole numbers above"):
        Dataset.open(v2)


def test_statistics_that_cannot_be_of_the_rows_are_counted_anew(v2):
    saved = {"max": [0, 0], "mean": [0, 0], "std": [1e-8, 1e-8]}
    (v2 / "meta/stats.json").write_text(json.dumps({"action": saved}))
    np.testing.assert_allclose(Dataset.open(v2).action_spec.mean, [5.5, 2.75])
    right = {"max": [11, 5.5], "mean": [5, 2.5], "std": [3, 1.5]}
    (v2 / "meta/stats.json").write_text(json.dumps({"action": right}))
    assert Dataset.open(v2).action_spec.mean == (5.0, 2.5)


def test_the_rows_say_what_an_episode_without_tasks_is_about(tmp_path, counting):
    counting.record(tmp_path, [4, 3, 2])
    rewrite(tmp_path / EPISODES.format(chunk_index=0, file_index=0), lambda table: table.drop_columns("tasks"))
    assert [episode.task for episode in Dataset.open(tmp_path).episodes] == ["task 0", "task 1", "task 0"]


def test_a_task_may_be_one_text(v2):
    rows = [{"episode_index": i, "length": n, "tasks": "pick it up"} for i, n in enumerate([4, 3, 5])]
    (v2 / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert {episode.task for episode in Dataset.open(v2).episodes} == {"pick it up"}


def stills(root, counting, lengths, *, shape=(32, 40, 3)):
    """The dataset's films become PNG in its rows."""
    first = 0
    for index, length in enumerate(lengths):
        cells = []
        for number in range(first, first + length):
            content = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(counting.draw(number))).save(content, "PNG")
            cells.append({"bytes": content.getvalue(), "path": f"{number}.png"})
        rewrite(data_file(root, index), lambda table, cells=cells: table.append_column(KEY, pa.array(cells)))
        first += length
    edit_info(root, lambda info: info["features"][KEY].update(dtype="image", shape=list(shape)))
    edit_info(root, lambda info: info.update(video_path=None))


def test_pictures_in_the_rows_are_read(v2, counting):
    stills(v2, counting, [4, 3, 5])
    rewrite(data_file(v2, 1), lambda table: table.take([2, 0, 1]))
    dataset = Dataset.open(v2)
    assert [camera.name for camera in dataset.cameras] == [KEY]
    assert [counting.numbers(dataset, index) for index in range(3)] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10, 11]]
    assert counting.numbers(dataset, 2, start=3, stop=4) == [10]


def test_channels_may_come_first(v2, counting):
    stills(v2, counting, [4, 3, 5], shape=(3, 32, 40))
    edit_info(v2, lambda info: info["features"][KEY].update(names=None))
    assert Dataset.open(v2).frames(0).shape == (4, 32, 40, 3)


def test_pictures_of_another_size_or_none_are_named(v2, counting):
    stills(v2, counting, [4, 3, 5], shape=(40, 32, 3))
    with pytest.raises(ValueError, match=r"episode 0, row 0: .* is 32 x 40; meta/info\.json says 40 x 32"):
        Dataset.open(v2).frames(0)
    damaged = pa.array([{"bytes": None}, {"bytes": b"no picture"}, {"bytes": b"\x89PNG\r\n\x1a\n"}])
    rewrite(data_file(v2, 1), lambda table: table.set_column(table.column_names.index(KEY), KEY, damaged))
    for row, told in enumerate(("has no bytes of a picture", "cannot be decoded", "cannot be decoded")):
        with pytest.raises(DamagedVideoError, match=rf"episode 1, row {row}: .*{told}"):
            Dataset.open(v2).frames(1, start=row)
