"""What we write, field by field, against the LeRobotDataset v3.0 format."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

LENGTHS = [3, 5, 4]
RGB, DEPTH = "observation.images.front", "observation.depth.front"


@pytest.fixture(scope="module")
def root(tmp_path_factory, counting):
    path = tmp_path_factory.mktemp("data")
    counting.record(path, LENGTHS, cameras=counting.cameras)
    return path


@pytest.fixture(scope="module")
def info(root):
    return json.loads((root / "meta/info.json").read_text())


@pytest.fixture(scope="module")
def episodes(root):
    return pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet")


def test_tree(root):
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        f"videos/{DEPTH}/chunk-000/file-000.mp4",
        f"videos/{RGB}/chunk-000/file-000.mp4",
        "videos/observation.labels.front/chunk-000/file-000.mp4",
    ]


def test_info(info):
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "unknown",
        "total_episodes": 3,
        "total_frames": 12,
        "total_tasks": 2,
        "splits": {"train": "0:3"},
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 7,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    info["features"] = features


def test_vector_features(info):
    features = info["features"]
    state = {"dtype": "float32", "shape": [2], "names": ["number", "half"]}
    assert features["observation.state"] == state
    action = features["action"]
    assert (action["dtype"], action["shape"], action["names"][:2]) == ("float32", [10], ["KEY_0", "KEY_1"])
    assert action["info"]["action_spec"]["kind"] == "keys"
    for name, dtype in {
        "timestamp": "float32",
        "frame_index": "int64",
        "episode_index": "int64",
        "index": "int64",
        "task_index": "int64",
    }.items():
        assert features[name] == {"dtype": dtype, "shape": [1], "names": None}


def test_camera_features(info):
    rgb, depth = info["features"][RGB], info["features"][DEPTH]
    intrinsics = rgb["info"].pop("camera")
    assert intrinsics == {"kind": "rgb", "fx": 30.0, "fy": 31.0, "cx": 20.0, "cy": 16.0}
    assert rgb == {
        "dtype": "video",
        "shape": [32, 40, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": 32,
            "video.width": 40,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.fps": 7,
            "video.channels": 3,
            "has_audio": False,
            "is_depth_map": False,
        },
    }
    assert depth["shape"] == [32, 40, 1]
    expected = {
        "video.codec": "hevc",
        "video.pix_fmt": "gray12le",
        "video.channels": 1,
        "is_depth_map": True,
        "video.depth_min": 0.01,
        "video.depth_max": 30.0,
        "video.shift": 3.5,
        "video.use_log": True,
        "depth_unit": "mm",
    }
    assert depth["info"].items() >= expected.items()


def test_data_has_a_row_group_an_episode_and_fixed_size_lists(root):
    file = pq.ParquetFile(root / "data/chunk-000/file-000.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == LENGTHS
    assert file.metadata.row_group(0).column(0).compression == "SNAPPY"
    schema = {field.name: field.type for field in file.schema_arrow}
    assert schema == {
        "observation.state": pa.list_(pa.float32(), 2),
        "action": pa.list_(pa.float32(), 10),
        "timestamp": pa.float32(),
        "frame_index": pa.int64(),
        "episode_index": pa.int64(),
        "index": pa.int64(),
        "task_index": pa.int64(),
    }


def test_data_rows(root):
    table = pq.read_table(root / "data/chunk-000/file-000.parquet").to_pydict()
    assert table["index"] == list(range(12))
    assert table["episode_index"] == [0] * 3 + [1] * 5 + [2] * 4
    assert table["frame_index"] == [*range(3), *range(5), *range(4)]
    assert table["task_index"] == [0] * 3 + [1] * 5 + [0] * 4
    np.testing.assert_array_equal(table["timestamp"], (np.array(table["frame_index"]) / 7).astype(np.float32))


def test_tasks_are_the_index_of_a_pandas_table(root):
    table = pq.read_table(root / "meta/tasks.parquet")
    assert table.to_pydict() == {"task_index": [0, 1], "task": ["task 0", "task 1"]}
    assert json.loads(table.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    frame = pytest.importorskip("pandas").read_parquet(root / "meta/tasks.parquet")
    assert list(frame.index) == ["task 0", "task 1"]
    assert frame.index.name == "task"
    assert list(frame.columns) == ["task_index"]


def test_episodes_table(episodes):
    rows = episodes.to_pydict()
    assert rows["episode_index"] == [0, 1, 2]
    assert rows["tasks"] == [["task 0"], ["task 1"], ["task 0"]]
    assert rows["length"] == LENGTHS
    assert rows["dataset_from_index"] == [0, 3, 8]
    assert rows["dataset_to_index"] == [3, 8, 12]
    for kind in ("data", "meta/episodes", f"videos/{RGB}", f"videos/{DEPTH}"):
        assert rows[f"{kind}/chunk_index"] == rows[f"{kind}/file_index"] == [0, 0, 0]
    assert rows[f"videos/{RGB}/from_timestamp"] == [0 / 7, 3 / 7, 8 / 7]
    assert rows[f"videos/{RGB}/to_timestamp"] == [3 / 7, 8 / 7, 12 / 7]
    assert episodes.schema.field(f"videos/{DEPTH}/from_timestamp").type == pa.float64()


STATISTICS = {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}


def test_statistics_of_episodes(episodes, info):
    for feature in info["features"]:
        assert {name.split("/")[-1] for name in episodes.column_names if name.startswith(f"stats/{feature}/")} == (
            STATISTICS
        )
    rows = episodes.to_pydict()
    assert rows["stats/observation.state/min"] == [[0, 0], [3, 1.5], [8, 4]]
    assert rows["stats/observation.state/q50"] == [[1, 0.5], [5, 2.5], [9.5, 4.75]]
    assert rows["stats/action/count"] == [[3], [5], [4]]


def test_statistics_of_the_dataset(root):
    stats = json.loads((root / "meta/stats.json").read_text())
    assert all(set(values) == STATISTICS for values in stats.values())
    numbers = np.arange(12)
    state = stats["observation.state"]
    np.testing.assert_allclose(state["mean"], [numbers.mean(), numbers.mean() / 2])
    np.testing.assert_allclose(state["std"], [numbers.std(), numbers.std() / 2])
    assert (state["min"], state["max"], state["count"]) == ([0, 0], [11, 5.5], [12])
    assert stats["index"]["max"] == [11]


def test_image_statistics_are_per_channel_between_0_and_1(root):
    stats = json.loads((root / "meta/stats.json").read_text())[RGB]
    assert all(np.shape(values) == (3, 1, 1) for name, values in stats.items() if name != "count")
    assert np.ravel(stats["min"]).tolist() == [0, 0, 0]
    assert np.ravel(stats["max"]).tolist() == [1, 1, 1]
    white = np.mean([number.bit_count() / 10 for number in range(12)])
    np.testing.assert_allclose(np.ravel(stats["mean"]), [white] * 3)
    np.testing.assert_allclose(np.ravel(stats["std"]), [np.sqrt(white * (1 - white))] * 3)


def test_depth_statistics_are_in_millimetres(root):
    stats = json.loads((root / "meta/stats.json").read_text())[DEPTH]
    assert np.shape(stats["mean"]) == (1, 1, 1)
    np.testing.assert_allclose(np.ravel(stats["mean"]), 1000 * (1 + np.arange(12) / 100).mean(), atol=5)
