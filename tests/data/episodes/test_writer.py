import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oneiros import disk
from oneiros.data.episodes import writer
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.inspection.checks import run_checks
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.records import ActionSpec
from tests.places import ROOT


def reopen(path) -> Dataset:
    """Open, treating any warning as a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Dataset.open(path, strict=True)


@pytest.mark.parametrize(
    "spec",
    [
        ActionSpec("discrete", ("a", "b", "c")),
        ActionSpec("keys", ("left", "right", "fire")),
        ActionSpec("continuous", ("x", "y"), low=(-1.0, -1.0), high=(1.0, 1.0)),
        ActionSpec("continuous", ("throttle",)),
    ],
    ids=["discrete", "keys", "continuous", "one number"],
)
def test_running_numbers_come_back_in_order(tmp_path, counting, spec):
    lengths = [5, 1, 12, 3]
    counting.record(tmp_path / "data", lengths, cameras=counting.cameras, spec=spec)
    dataset = reopen(tmp_path / "data")
    assert dataset.fps == counting.fps
    assert dataset.cameras == counting.cameras
    assert dataset.action_spec.matches(spec)
    assert dataset.action_spec.low == spec.low
    assert dataset.state_names == counting.state_names
    counting.check(dataset, lengths)


def test_continuous_actions_bring_their_mean_and_deviation(tmp_path, counting):
    spec = ActionSpec("continuous", ("x", "y"))
    counting.record(tmp_path, [5, 8], spec=spec)
    dataset = reopen(tmp_path)
    actions = np.concatenate([dataset.actions(0), dataset.actions(1)])
    np.testing.assert_allclose(dataset.action_spec.mean, actions.mean(axis=0))
    np.testing.assert_allclose(dataset.action_spec.std, actions.std(axis=0))


def test_actions_and_states_may_be_absent(tmp_path, counting):
    counting.record(tmp_path, [3], spec=None, states=False)
    dataset = reopen(tmp_path)
    assert dataset.action_spec is None
    assert dataset.actions(0) is None
    assert dataset.states(0) is None
    assert dataset.state_names == ()
    assert counting.numbers(dataset, 0) == [0, 1, 2]


def test_a_second_session_appends(tmp_path, counting):
    counting.record(tmp_path, [4, 6], cameras=counting.cameras)
    counting.record(tmp_path, [2, 5, 3], first=10, cameras=counting.cameras)
    counting.check(reopen(tmp_path), [4, 6, 2, 5, 3])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=8)
@given(sessions=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3))
def test_any_run_of_sessions_counts_on(tmp_path_factory, counting, sessions):
    path = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "EPISODES_PER_FILE", 2)
        first = 0
        for lengths in sessions:
            counting.record(path, lengths, first=first)
            first += sum(lengths)
    counting.check(reopen(path), [length for lengths in sessions for length in lengths])


def test_files_are_begun_anew_when_full(tmp_path, counting, monkeypatch):
    monkeypatch.setattr(writer, "EPISODES_PER_FILE", 2)
    monkeypatch.setattr(writer, "CHUNKS_SIZE", 2)
    counting.record(tmp_path, [2, 3, 4, 5, 6])
    names = sorted(str(file.relative_to(tmp_path / "data")) for file in (tmp_path / "data").rglob("*.parquet"))
    assert names == ["chunk-000/file-000.parquet", "chunk-000/file-001.parquet", "chunk-001/file-000.parquet"]
    counting.check(reopen(tmp_path), [2, 3, 4, 5, 6])


def test_a_cut_off_video_costs_only_the_episodes_behind_the_cut(tmp_path, counting):
    counting.record(tmp_path, [5, 5, 5])
    video = next(tmp_path.glob("videos/*/*/*.mp4"))
    video.write_bytes(video.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="1 of 3 episodes cannot be read: 2"):
        counting.check(Dataset.open(tmp_path), [5, 5])


@pytest.mark.parametrize("limit", ["VIDEO_FILE_MB", "DATA_FILE_MB"])
def test_files_are_begun_anew_at_their_size(tmp_path, counting, monkeypatch, limit):
    monkeypatch.setattr(writer, limit, 0.0001)
    counting.record(tmp_path, [2, 3])
    assert len(list(tmp_path.glob("videos/*/*/*.mp4"))) == 2
    counting.check(reopen(tmp_path), [2, 3])


def test_an_exception_drops_that_episode_only(tmp_path, counting):
    with DatasetWriter(tmp_path, fps=7, cameras=counting.cameras, action_spec=None) as recorder:
        for numbers in (range(3), range(100, 105), range(3, 8)):
            try:
                with recorder.episode(task=f"task {recorder.num_episodes}") as episode:
                    counting.fill(
                        episode, iter(numbers), len(numbers), cameras=counting.cameras, spec=None, states=False
                    )
                    if numbers[0] == 100:
                        raise KeyboardInterrupt
            except KeyboardInterrupt:
                pass
    dataset = reopen(tmp_path)
    assert [counting.numbers(dataset, index) for index in (0, 1)] == [[0, 1, 2], [3, 4, 5, 6, 7]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "meta", "videos"]


def record_rows(recorder: DatasetWriter, *rows: dict) -> None:
    with recorder.episode(task="task 0") as episode:
        for row in rows:
            episode.add(**row)


def test_the_last_row_needs_no_action_and_ends_the_episode(tmp_path, counting):
    images = {counting.rgb.name: counting.draw(0)}
    acting, ending = {"images": images, "action": 1}, {"images": images, "action": None}
    spec = ActionSpec("discrete", ("a", "b"))
    with DatasetWriter(tmp_path, fps=7, cameras=[counting.rgb], action_spec=spec) as recorder:
        record_rows(recorder, acting, ending)
        with pytest.raises(ValueError, match="row 1: has no action, so the episode ended there"):
            record_rows(recorder, acting, ending, acting)
    dataset = reopen(tmp_path)
    assert dataset.actions(0).tolist() == [1, 0]
    assert len(dataset.episodes) == 1


RECORDER = """
    import os, signal, sys
    sys.path.insert(0, {folder!r})
    from tests.data.conftest import Counting
    from oneiros.data.episodes.writer import DatasetWriter
    writer = DatasetWriter({path!r}, fps=Counting.fps, cameras=Counting.cameras, action_spec=Counting.keys,
                           state_names=Counting.state_names)
    numbers = iter(range(1000))
    {limit}
    for length in (4, 6, 1, 50):
        with writer.episode(task=f"task {{writer.num_episodes % 2}}") as episode:
            if length == 50:
                Counting.fill(episode, numbers, 20, cameras=Counting.cameras)
                {end}
            Counting.fill(episode, numbers, length, cameras=Counting.cameras)
"""


def run_recorder(path, *, limit: str = "", end: str = "") -> subprocess.CompletedProcess:
    """Three whole episodes of 11 rows in all, and a fourth that does not end well."""
    script = textwrap.dedent(RECORDER).format(path=str(path), folder=str(ROOT), limit=limit, end=end)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)


def test_a_killed_recorder_loses_only_the_episode_under_way(tmp_path, counting):
    result = run_recorder(tmp_path, end="os.kill(os.getpid(), signal.SIGKILL)")
    assert result.returncode == -signal.SIGKILL
    counting.check(reopen(tmp_path), [4, 6, 1])
    counting.record(tmp_path, [5], first=11, cameras=counting.cameras)
    counting.check(reopen(tmp_path), [4, 6, 1, 5])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "meta", "videos"]


def test_a_full_disk_is_one_line_and_loses_only_the_episode_under_way(tmp_path, counting):
    fill_disk = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    result = run_recorder(tmp_path, end=fill_disk)
    assert "episode 3 could not be saved (File too large); every episode before it" in result.stderr.splitlines()[-1]
    counting.check(reopen(tmp_path), [4, 6, 1])
    counting.record(tmp_path, [5], first=11, cameras=counting.cameras)
    counting.check(reopen(tmp_path), [4, 6, 1, 5])


def save_episode(recorder: DatasetWriter, counting, *, first: int, length: int) -> None:
    with recorder.episode(task=f"task {recorder.num_episodes % 2}") as episode:
        counting.fill(episode, iter(range(first, first + length)), length)


class Interrupt:
    """Stands in for os.replace: some renames go well, then comes Ctrl-C, once."""

    def __init__(self, renames: int) -> None:
        self.left, self.replace = renames, os.replace

    def __call__(self, source, target) -> None:
        self.left -= 1
        if self.left == -1:
            raise KeyboardInterrupt
        self.replace(source, target)


@pytest.mark.parametrize("renames", range(6))  # video, data, tasks, episodes, statistics, info
def test_an_end_between_any_two_renames_leaves_whole_episodes(tmp_path, counting, monkeypatch, renames):
    counting.record(tmp_path, [2, 3])
    same = {"fps": 7, "cameras": [counting.rgb], "action_spec": counting.keys, "state_names": counting.state_names}
    with DatasetWriter(tmp_path, **same) as recorder:
        save_episode(recorder, counting, first=5, length=2)
        monkeypatch.setattr(disk.os, "replace", Interrupt(renames))
        with pytest.raises(KeyboardInterrupt):
            save_episode(recorder, counting, first=7, length=4)
        monkeypatch.undo()
        lengths = [2, 3, 2] if renames <= 3 else [2, 3, 2, 4]
        counting.check(reopen(tmp_path), lengths)
        # What is counted is counted anew where needed; the film of an episode that never was is told of, and harmless.
        found = found_by_inspect(tmp_path)
        assert [each.partition(" has ")[2] for each in found] == (
            ["4 frames at its end that are no episode's"] if 1 <= renames <= 3 else []
        )
        save_episode(recorder, counting, first=sum(lengths), length=3)
    counting.record(tmp_path, [2], first=sum(lengths) + 3)
    dataset = reopen(tmp_path)
    counting.check(dataset, [*lengths, 3, 2])
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert {name: info[name] for name in dataset.totals} == dataset.totals
    rows = sum(pq.ParquetFile(file).metadata.num_rows for file in tmp_path.glob("data/*/*.parquet"))
    assert rows == dataset.totals["total_frames"]  # the official reader loads every row of every file
    assert found_by_inspect(tmp_path) == found


def found_by_inspect(path: Path) -> list[str]:
    return [problem.text for check in run_checks(Dataset.open(path)) for problem in check.problems]


@pytest.mark.parametrize("renames", [4, 5])  # the table of episodes is there; statistics and info are not, or not all
def test_a_kill_after_the_table_of_episodes_is_seen_and_mended(tmp_path, counting, renames):
    counting.record(tmp_path / "whole", [2, 3, 2])
    counting.record(tmp_path / "killed", [2, 3])
    before = {name: (tmp_path / "killed" / name).read_bytes() for name in ("meta/stats.json", "meta/info.json")}
    counting.record(tmp_path / "killed", [2], first=5)
    for name in list(before)[renames - 4 :]:
        (tmp_path / "killed" / name).write_bytes(before[name])
    found = found_by_inspect(tmp_path / "killed")
    assert any("info.json says total_frames is 5; there are 7" in text for text in found)
    assert any("stats.json counts 5 of 7 rows of" in text for text in found) == (renames == 4)
    counting.record(tmp_path / "killed", [])
    assert not found_by_inspect(tmp_path / "killed")
    assert json.loads((tmp_path / "killed/meta/info.json").read_text())["total_episodes"] == 3
    whole, mended = (json.loads((tmp_path / name / "meta/stats.json").read_text()) for name in ("whole", "killed"))
    assert whole.keys() == mended.keys()
    for name in ("action", "index", counting.rgb.name):
        for kind, values in whole[name].items():
            np.testing.assert_allclose(mended[name][kind], values, rtol=1e-12, err_msg=f"{name} {kind}")


def test_a_disk_too_full_to_mend_what_was_killed_is_one_line(tmp_path, counting, monkeypatch):
    counting.record(tmp_path, [2, 3])
    before = (tmp_path / "meta/stats.json").read_bytes()
    counting.record(tmp_path, [2], first=5)
    (tmp_path / "meta/stats.json").write_bytes(before)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(OSError, match=rf"^{tmp_path}: what .* could not be saved \(No space left on device\)"):
        counting.record(tmp_path, [2], first=7)
    monkeypatch.undo()
    counting.check(reopen(tmp_path), [2, 3, 2])
    assert (tmp_path / "meta/stats.json").read_bytes() == before


def test_two_recorders_do_not_share_a_folder(tmp_path, counting):
    first = DatasetWriter(tmp_path, fps=7, cameras=[counting.rgb], action_spec=None)
    with pytest.raises(OSError, match="another recorder is writing there"):
        DatasetWriter(tmp_path, fps=7, cameras=[counting.rgb], action_spec=None)
    first.close()
    DatasetWriter(tmp_path, fps=7, cameras=[counting.rgb], action_spec=None).close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": 8}, "was recorded at 7 fps, this recording runs at 8"),
        ({"cameras": []}, "only one has observation.images.front"),
        ({"action_spec": None}, "only one has action"),
        ({"action_spec": ActionSpec("keys", ("a", "b"))}, "this recording keys ones"),
        ({"state_names": ("a",)}, r"states of shape \[2\], this recording 1"),
    ],
)
def test_a_recording_that_does_not_fit_is_not_appended(tmp_path, counting, change, message):
    counting.record(tmp_path, [3])
    before = Dataset.open(tmp_path).fingerprint()
    same = {
        "fps": 7,
        "cameras": [counting.rgb],
        "action_spec": counting.keys,
        "state_names": counting.state_names,
    }
    with pytest.raises(ValueError, match=message):
        DatasetWriter(tmp_path, **{**same, **change})
    assert reopen(tmp_path).fingerprint() == before


def test_another_camera_size_is_not_appended(tmp_path, counting):
    counting.record(tmp_path, [3])
    camera = replace(counting.rgb, height=48)
    with pytest.raises(ValueError, match=r"front was recorded with height 32; this recording has height 48$"):
        DatasetWriter(tmp_path, fps=7, cameras=[camera], action_spec=counting.keys, state_names=counting.state_names)


def test_a_dataset_of_another_tool_is_not_appended(tmp_path, counting):
    shutil.copytree(Path(__file__).parent / "lerobot_0_6_1", tmp_path / "data")
    dataset = Dataset.open(tmp_path / "data")
    with pytest.raises(ValueError, match="was not recorded by Oneiros; record into a new folder"):
        DatasetWriter(
            dataset.path,
            fps=dataset.fps,
            cameras=dataset.cameras,
            action_spec=dataset.action_spec,
            state_names=dataset.state_names,
        )


def test_statistics_that_lack_a_number_are_not_appended_to(tmp_path, counting):
    counting.record(tmp_path, [3])
    path = tmp_path / "meta/stats.json"
    statistics = json.loads(path.read_text())
    del statistics["action"]["min"]
    path.write_text(json.dumps(statistics))
    with pytest.raises(ValueError, match=r"stats\.json: the statistics of action lack min; nothing is appended"):
        counting.record(tmp_path, [3])


def test_a_dataset_of_an_older_version_is_not_appended(tmp_path, counting):
    counting.record(tmp_path, [3])
    path = tmp_path / "meta/info.json"
    path.write_text(path.read_text().replace("v3.0", "v2.1"))
    with pytest.raises(ValueError, match=r"is a v2\.1 dataset; only v3\.0 can be appended to"):
        counting.record(tmp_path, [3])


def test_a_recorder_killed_before_its_first_file_is_begun_anew(tmp_path, counting):
    (tmp_path / "meta").mkdir()
    (tmp_path / ".partial").mkdir()
    counting.record(tmp_path, [4], cameras=counting.cameras)
    counting.check(reopen(tmp_path), [4])


def test_a_folder_of_something_else_is_left_alone(tmp_path, counting):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.tex; name a new or empty folder"):
        DatasetWriter(tmp_path, fps=7, cameras=[counting.rgb], action_spec=None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="is a file; name a folder"):
        DatasetWriter(tmp_path / "thesis.tex", fps=7, cameras=[counting.rgb], action_spec=None)


FRAME, DEPTH, LABELS = np.zeros((32, 40, 3), np.uint8), np.ones((32, 40)), np.zeros((32, 40), int)
GOOD = {"observation.images.front": FRAME, "observation.depth.front": DEPTH, "observation.labels.front": LABELS}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation.images.front": FRAME[:16]}, r"is uint8 \(16, 40, 3\); it must be uint8 \(32, 40, 3\)"),
        ({"observation.images.front": FRAME.astype(float)}, "is float64"),
        ({"observation.depth.front": LABELS}, r"must be float \(32, 40\) in metres"),
        ({"observation.labels.front": LABELS + 4096}, "labels 4096 to 4096; they must be 0 to 4095"),
        ({"observation.images.back": FRAME}, "it needs"),
    ],
)
def test_images_that_do_not_fit_name_episode_and_row(tmp_path, counting, change, message):
    recorder = DatasetWriter(tmp_path, fps=7, cameras=counting.cameras, action_spec=None)
    with pytest.raises(ValueError, match=f"episode 0, row 1: .*{message}"):
        record_rows(recorder, {"images": GOOD}, {"images": {**GOOD, **change}})
    recorder.close()


@pytest.mark.parametrize(
    ("spec", "action", "message"),
    [
        (ActionSpec("discrete", ("a", "b")), 2, r"action is 2; it must be 0 to 1 \(a, b\)"),
        (ActionSpec("discrete", ("a", "b")), 0.5, "action is 0.5"),
        (ActionSpec("keys", ("a", "b")), [0, 2], "action b is 2.0; it must be 0 or 1"),
        (ActionSpec("keys", ("a", "b")), [1], r"action has shape \(1,\); it must be \(2,\): a, b"),
        (ActionSpec("continuous", ("a", "b")), [0, np.nan], "action b is nan; it must be a finite number"),
    ],
)
def test_actions_that_do_not_fit_name_episode_and_row(tmp_path, spec, action, message):
    recorder = DatasetWriter(tmp_path, fps=7, cameras=[], action_spec=spec)
    with pytest.raises(ValueError, match=f"episode 0, row 0: {message}"):
        record_rows(recorder, {"images": {}, "action": action})
    recorder.close()


def test_an_empty_episode_is_refused(tmp_path, counting):
    recorder = DatasetWriter(tmp_path, fps=7, cameras=[counting.rgb], action_spec=None)
    with pytest.raises(ValueError, match="episode 0 has no frames"):
        record_rows(recorder)
    recorder.close()
    with pytest.raises(ValueError, match="has no episodes yet"):
        Dataset.open(tmp_path)


def test_fps_must_be_whole(tmp_path):
    with pytest.raises(ValueError, match=r"fps is 8\.75"):
        DatasetWriter(tmp_path, fps=8.75, cameras=[], action_spec=None)
