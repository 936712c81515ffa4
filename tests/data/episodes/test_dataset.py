"""Reading datasets as the wild has them: both layouts, odd metadata, damage."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.inspection.checks import run_checks
from oneiros.data.video import VideoEncoder
from tests.places import SHARED

G1 = SHARED / "data" / "g1_pick_bottle"
OFFICIAL = Path(__file__).parent / "lerobot_0_6_1"
KEY = "observation.images.front"


def write_v2(root, counting, lengths, *, action: dict, names, actions=None, video_fps=7, stamps="float64"):
    """A v2.1 dataset by hand, as other tools write them: a file per episode, float64 time stamps."""
    (root / "meta").mkdir(parents=True)
    shape = [counting.rgb.height, counting.rgb.width, 3]
    video = {"dtype": "video", "shape": shape, "names": names, "info": {"video.fps": 7, "video.is_depth_map": False}}
    info = {
        "codebase_version": "v2.1",
        "robot_type": "hand made",
        "fps": 7,
        "chunks_size": 2,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {"action": action, KEY: video, "timestamp": {"dtype": stamps, "shape": [1]}},
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/tasks.jsonl").write_text("")
    rows, number = [], 0
    for index, length in enumerate(lengths):
        place = {"episode_chunk": index // 2, "episode_index": index, "video_key": KEY}
        numbers = range(number, number + length)
        number += length
        rows.append(json.dumps({"episode_index": index, "tasks": [f"task {index % 2}"], "length": length}))
        file = root / info["video_path"].format(**place)
        file.parent.mkdir(parents=True, exist_ok=True)
        encoder = VideoEncoder(file, height=shape[0], width=shape[1], fps=video_fps)
        for shown in numbers:
            encoder.add(counting.draw(shown))
        encoder.close()
        file = root / info["data_path"].format(**place)
        file.parent.mkdir(parents=True, exist_ok=True)
        table = {
            "action": [actions(shown) if actions else [shown, shown / 2] for shown in numbers],
            "timestamp": pa.array(np.arange(length) / 7, stamps),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, index),
        }
        pq.write_table(pa.table(table), file)
    (root / "meta/episodes.jsonl").write_text("\n".join(rows))


VECTOR = {"dtype": "float64", "shape": [2], "names": [["shoulder", "elbow"]]}


@pytest.mark.parametrize(
    ("video_names", "action_names"),
    [
        (["height", "width", "channel"], [["shoulder", "elbow"]]),
        (["height", "width", "channels"], {"motors": ["shoulder", "elbow"]}),
        (None, ["shoulder", "elbow"]),
    ],
)
def test_v2_1_with_every_way_of_naming(tmp_path, counting, video_names, action_names):
    write_v2(tmp_path, counting, [4, 3, 5], action={**VECTOR, "names": action_names}, names=video_names)
    dataset = Dataset.open(tmp_path, strict=True)
    assert [camera.name for camera in dataset.cameras] == [KEY]
    assert (dataset.cameras[0].height, dataset.cameras[0].width) == (32, 40)
    assert [episode.task for episode in dataset.episodes] == ["task 0", "task 1", "task 0"]
    assert [counting.numbers(dataset, index) for index in range(3)] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10, 11]]
    spec = dataset.action_spec
    assert (spec.kind, spec.names) == ("continuous", ("shoulder", "elbow"))
    np.testing.assert_allclose(spec.mean, [5.5, 2.75])  # there were no statistics: counted from the rows
    assert dataset.actions(1).tolist() == [[4, 2], [5, 2.5], [6, 3]]
    assert dataset.actions(1).dtype == np.float32


@pytest.mark.parametrize(
    ("action", "value", "kind", "names"),
    [
        ({"dtype": "int64", "shape": [1], "names": None}, lambda n: n % 3, "discrete", ("0", "1", "2")),
        ({"dtype": "bool", "shape": [2], "names": ["a", "b"]}, lambda n: [n % 2 == 0, True], "keys", ("a", "b")),
        ({"dtype": "float32", "shape": [1], "names": None}, lambda n: n / 4, "continuous", ("action_0",)),
        ({"dtype": "float32", "shape": [2], "names": ["x", "x"]}, None, "continuous", ("action_0", "action_1")),
    ],
    ids=["whole number", "bools", "one number", "names repeat"],
)
def test_the_kind_of_action_follows_from_its_type(tmp_path, counting, action, value, kind, names):
    write_v2(tmp_path, counting, [4], action=action, names=None, actions=value)
    dataset = Dataset.open(tmp_path)
    assert (dataset.action_spec.kind, dataset.action_spec.names) == (kind, names)
    expected = [value(n) if value else [n, n / 2] for n in range(4)]
    assert dataset.actions(0).reshape(4, -1).tolist() == np.reshape(expected, (4, -1)).tolist()


def test_any_rows_can_be_read_alone(tmp_path, counting):
    counting.record(tmp_path, [6, 9], cameras=counting.cameras)
    dataset = Dataset.open(tmp_path)
    assert counting.numbers(dataset, 1, start=3, stop=7) == [9, 10, 11, 12]
    assert counting.numbers(dataset, 1, start=8) == [14]
    assert dataset.labels(1, start=2, stop=4)[:, 0, 0].tolist() == [8, 9]
    assert dataset.depth(1, start=2, stop=3).shape == (1, 32, 40)
    assert dataset.frames(0, start=2, stop=2).shape == (0, 32, 40, 3)
    with pytest.raises(ValueError, match="episode 0 has rows 0 to 5, not 3:7"):
        dataset.frames(0, start=3, stop=7)
    with pytest.raises(ValueError, match="has no readable episode 2"):
        dataset.frames(2)
    with pytest.raises(ValueError, match=r"has no rgb camera top; it has observation\.images\.front"):
        dataset.frames(0, camera="top")


def test_the_fingerprint_follows_the_content_not_the_place(tmp_path, counting):
    counting.record(tmp_path / "a", [3, 4])
    first = Dataset.open(tmp_path / "a").fingerprint()
    (tmp_path / "a").rename(tmp_path / "b")
    assert Dataset.open(tmp_path / "b").fingerprint() == first
    tasks = tmp_path / "b/meta/tasks.parquet"
    content = tasks.read_bytes()
    tasks.write_bytes(content.replace(b"task 1", b"task 2"))  # of the same size
    changed = Dataset.open(tmp_path / "b").fingerprint()
    assert changed != first
    assert changed[:16] == first[:16]  # all that runs of older versions know
    tasks.write_bytes(content)
    counting.record(tmp_path / "b", [2])
    assert Dataset.open(tmp_path / "b").fingerprint()[:16] != first[:16]


def edit_info(root, edit) -> None:
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    edit(info)
    path.write_text(json.dumps(info))


@pytest.fixture
def v2(tmp_path, counting):
    """Five episodes, a file each."""
    write_v2(tmp_path / "v2", counting, [4, 3, 5, 2, 6], action=VECTOR, names=None)
    return tmp_path / "v2"


def video(root, index) -> Path:
    return root / f"videos/chunk-{index // 2:03d}/{KEY}/episode_{index:06d}.mp4"


def test_missing_and_cut_off_episodes_are_left_out_with_one_warning(v2, counting):
    video(v2, 1).unlink()
    video(v2, 2).write_bytes(video(v2, 2).read_bytes()[:-100])
    rows = v2 / "data/chunk-002/episode_000004.parquet"
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"3 of 5 episodes cannot be read: 1-2, 4 \(videos/.*missing") as caught:
        dataset = Dataset.open(v2)
    assert len(caught) == 1
    assert [episode.index for episode in dataset.episodes] == [0, 3]
    assert [problem.split(": ")[0] for problem in dataset.problems] == ["episode 1", "episode 2", "episode 4"]
    assert "is missing" in dataset.problems[0]
    assert "is cut off" in dataset.problems[1]
    assert "is cut off" in dataset.problems[2]
    assert counting.numbers(dataset, 3) == [12, 13]


def test_episodes_before_the_cut_of_a_shared_file_are_kept(tmp_path):
    """The official writer puts the index of a video first, so what lies before a cut can still be read."""
    shutil.copytree(OFFICIAL, tmp_path / "data")
    path = tmp_path / "data/videos/observation.images.front/chunk-000/file-000.mp4"
    content = path.read_bytes()
    whole = Dataset.open(tmp_path / "data").frames(0)
    for share, kept in ((0.99, 2), (0.8, 1)):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.warns(UserWarning, match=f"{3 - kept} of 3 episodes cannot be read.*mp4 is cut off"):
            dataset = Dataset.open(tmp_path / "data")
        assert len(dataset.episodes) == kept
        assert all(len(dataset.frames(episode.index)) == episode.length for episode in dataset.episodes)
        assert np.array_equal(dataset.frames(0), whole)


def test_strict_stops_at_a_missing_episode(v2):
    video(v2, 1).unlink()
    with pytest.raises(ValueError, match="1 of 5 episodes cannot be read: 1 "):
        Dataset.open(v2, strict=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nothing_readable_is_an_error(v2):
    for index in range(5):
        video(v2, index).unlink()
    with pytest.raises(ValueError, match="has no readable episode; all 5"):
        Dataset.open(v2)


def test_a_wrong_rate_names_the_file(tmp_path, counting):
    write_v2(tmp_path, counting, [4], action=VECTOR, names=None, video_fps=14)
    with pytest.raises(ValueError, match=r"episode_000000\.mp4: runs at 14 fps; meta/info\.json says 7"):
        Dataset.open(tmp_path).frames(0)


def test_a_wrong_shape_names_the_file(v2):
    edit_info(v2, lambda info: info["features"][KEY].update(shape=[40, 32, 3]))
    with pytest.raises(ValueError, match=r"episode_000001\.mp4: frames are 32 x 40; meta/info\.json says 40 x 32"):
        Dataset.open(v2).frames(1)


@pytest.mark.parametrize("value", [np.nan, np.inf, None])
def test_an_action_that_is_no_number_names_episode_row_and_dimension(tmp_path, counting, value):
    write_v2(
        tmp_path,
        counting,
        [4, 3],
        action=VECTOR,
        names=None,
        actions=lambda shown: [0.0, value] if shown == 5 else [0.0, 1.0],
    )
    dataset = Dataset.open(tmp_path)
    assert dataset.actions(0).tolist() == [[0, 1]] * 4
    with pytest.raises(ValueError, match=r"episode_000001\.parquet: episode 1, row 1: action elbow is (nan|inf)"):
        dataset.actions(1)


def test_rows_that_are_not_there_are_named(v2):
    path = v2 / "data/chunk-000/episode_000001.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(ValueError, match=r"episode_000001\.parquet: episode 1 has 2 rows; the metadata says 3"):
        Dataset.open(v2).actions(1)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda info: info.pop("fps"), "has no 'fps'"),
        (lambda info: info.update(fps=29.97), r"fps is 29\.97; it must be a whole number"),
        (lambda info: info.update(codebase_version="v1.6"), r"is of version v1\.6; v2\.0, v2\.1 and v3\.0 can be read"),
        (lambda info: info.update(video_path=None), "has cameras but no 'video_path'"),
    ],
)
def test_metadata_that_cannot_be_used_is_named(v2, edit, message):
    edit_info(v2, edit)
    with pytest.raises(ValueError, match=r"info\.json: " + message):
        Dataset.open(v2)


def test_what_is_no_dataset_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        Dataset.open(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is no LeRobot dataset; it has no meta/info\.json"):
        Dataset.open(tmp_path)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text("{")
    with pytest.raises(ValueError, match=r"info\.json: is no valid JSON"):
        Dataset.open(tmp_path)


def test_depth_of_older_files_is_recognised(tmp_path, counting):
    """Before lerobot 0.6 the mark was `video.is_depth_map`."""
    counting.record(tmp_path, [3], cameras=[counting.depth])

    def age(info):
        extra = info["features"][counting.depth.name]["info"]
        extra["video.is_depth_map"] = extra.pop("is_depth_map")

    edit_info(tmp_path, age)
    dataset = Dataset.open(tmp_path)
    assert dataset.cameras[0].kind == "depth"
    np.testing.assert_allclose(dataset.depth(0)[:, 0, 0], [1, 1.01, 1.02], atol=0.005)


@pytest.mark.skipif(not G1.exists(), reason="needs the robot dataset in ../shared")
def test_a_real_robot_dataset():
    dataset = Dataset.open(G1, strict=True)
    assert len(dataset.episodes) == 20
    assert sum(episode.length for episode in dataset.episodes) == 7182
    assert dataset.fps == 30
    assert dataset.action_spec.size == 26
    assert dataset.action_spec.names[0] == "kLeftShoulderPitch"
    frames = dataset.frames(3, start=200, stop=203)
    assert frames.shape == (3, 480, 640, 3)
    assert frames.std() > 20
    actions = np.concatenate([dataset.actions(episode.index) for episode in dataset.episodes])
    np.testing.assert_allclose(actions.mean(axis=0), dataset.action_spec.mean, atol=1e-4)
    np.testing.assert_allclose(actions.std(axis=0), dataset.action_spec.std, atol=1e-4)


def test_a_dataset_of_the_official_writer(counting):
    """Three episodes of 5, 8 and 3 rows written by lerobot 0.6.1 (AV1 colour, HEVC depth, several in one file).

    Frames show the running number in twelve bars; depth is 0.5 m + number / 20, and the first action is the number.
    """
    dataset = Dataset.open(OFFICIAL, strict=True)
    assert [episode.task for episode in dataset.episodes] == ["t5", "t8", "t3"]
    assert [camera.kind for camera in dataset.cameras] == ["rgb", "depth"]
    assert dataset.action_spec.names == ("x", "y", "z")
    first = 0
    for episode in dataset.episodes:
        expected = np.arange(first, first + episode.length)
        bars = dataset.frames(episode.index)[:, 32, 4::8, 0] > 127
        assert (bars @ (1 << np.arange(12)) == expected).all()
        np.testing.assert_allclose(dataset.depth(episode.index)[:, 3, 3], 0.5 + expected / 20, atol=0.002)
        assert (dataset.actions(episode.index)[:, 0] == expected).all()
        assert dataset.states(episode.index).tolist() == [[number, 2 * number] for number in expected]
        first += episode.length


def test_v2_0_keeps_its_statistics_for_the_whole_dataset(tmp_path, counting):
    """codebase_version v2.0: meta/stats.json without counts, pictures' as (3, 1, 1), no episodes_stats.jsonl."""
    write_v2(tmp_path, counting, [4, 3, 5], action=VECTOR, names=["height", "width", "channel"])

    def as_v2_0(info):
        info |= {"codebase_version": "v2.0", "total_tasks": 2, "total_videos": 3, "total_chunks": 2}
        info |= {"splits": {"train": "0:3"}}
        feature = info["features"][KEY]
        feature["video_info"] = {"video.fps": 7.0, "video.codec": "av1", "has_audio": False, **feature.pop("info")}
        for name in ("frame_index", "episode_index", "index", "task_index"):
            info["features"][name] = {"dtype": "int64", "shape": [1], "names": None}

    edit_info(tmp_path, as_v2_0)
    tasks = [{"task_index": index, "task": f"task {index}"} for index in range(2)]
    (tmp_path / "meta/tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    of_action = {"max": [11.0, 9.0], "mean": [5.5, 2.5], "min": [0.0, 0.0], "std": [3.0, 2.0]}  # not what rows give
    of_pictures = {name: [[[value]]] * 3 for name, value in (("max", 1.0), ("mean", 0.5), ("min", 0.0), ("std", 0.2))}
    of_rows = {"max": [4.0], "mean": [1.5], "min": [0.0], "std": [1.0]}
    stats = {"action": of_action, KEY: of_pictures, "frame_index": of_rows}
    (tmp_path / "meta/stats.json").write_text(json.dumps(stats))
    assert not (tmp_path / "meta/episodes_stats.jsonl").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = Dataset.open(tmp_path, strict=True)
    assert [counting.numbers(dataset, index) for index in range(3)] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10, 11]]
    assert [episode.task for episode in dataset.episodes] == ["task 0", "task 1", "task 0"]
    assert dataset.actions(2)[:, 0].tolist() == [7, 8, 9, 10, 11]
    assert (dataset.action_spec.mean, dataset.action_spec.std) == ((5.5, 2.5), (3.0, 2.0))
    assert dataset.statistics[KEY]["mean"].shape == (3, 1, 1)
    assert not dataset.uncounted
    assert not [problem for check in run_checks(dataset) for problem in check.problems]
