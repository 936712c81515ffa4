import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from oneiros.cli import main
from oneiros.data.episodes.dataset import Dataset
from oneiros.envs.record import record_episode


def record(*arguments):
    main(["record", *map(str, arguments)])


def test_doom_is_recorded_appended_to_and_summed_up(tmp_path, capsys):
    arguments = ("doom:basic", "--episodes", 2, "--max-steps", 20, "--depth", "--labels", "--out", tmp_path / "data")
    record(*arguments)
    summary = capsys.readouterr().out
    for words in ("2 episodes", "frames/s", "steps of 0.22 m", "32 map units a metre", "5 Monster"):
        assert words in summary
    record(*arguments)
    dataset = Dataset.open(tmp_path / "data")
    assert len(dataset.episodes) == 4
    assert dataset.problems == []
    assert dataset.action_spec.names == ("MOVE_LEFT", "MOVE_RIGHT", "ATTACK")
    assert {episode.task for episode in dataset.episodes} == {"explore basic"}
    assert (dataset.actions(0)[:15] != dataset.actions(2)[:15]).any()


def test_the_same_seed_records_the_same(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        record("gym:CartPole-v1", "--episodes", 2, "--seed", seed, "--out", tmp_path / name)
    a, b, c = (Dataset.open(tmp_path / name) for name in "abc")
    for episode in range(2):
        np.testing.assert_array_equal(a.frames(episode), b.frames(episode))
        np.testing.assert_array_equal(a.actions(episode), b.actions(episode))
    assert a.states(0).shape != c.states(0).shape or (a.states(0) != c.states(0)).any()


def test_a_policy_of_ones_own_plays(tmp_path, monkeypatch):
    (tmp_path / "my_policy.py").write_text("def right(observation, spec, rng): return spec.names.index('action_1')")
    monkeypatch.chdir(tmp_path)
    record("gym:CartPole-v1", "--episodes", 1, "--policy", "my_policy:right", "--out", "data")
    assert (Dataset.open("data").actions(0)[:-1] == 1).all()


def test_experts_of_meta_world_are_recorded_and_appended_to(tmp_path, capsys):
    pytest.importorskip("metaworld")
    arguments = (
        *("metaworld:button-press-v3,faucet-open-v3", "--policy", "expert", "--depth", "--labels"),
        *("--height", 32, "--width", 32, "--camera", "ray", "--out", tmp_path / "data"),
    )
    record(*arguments, "--episodes", 1)
    summary = capsys.readouterr().out
    for words in ("1 episodes", "camera   rays", "0.2 to 6.0 m", "3 Gripper"):
        assert words in summary
    record(*arguments, "--episodes", 1, "--task", "turn it")
    dataset = Dataset.open(tmp_path / "data", strict=True)
    assert [episode.task for episode in dataset.episodes] == ["button press", "turn it"]
    assert all(30 < episode.length < 201 for episode in dataset.episodes)
    assert dataset.action_spec.low == (-1.0,) * 4
    assert dataset.states(0).shape[1] == 4
    assert {camera.kind for camera in dataset.cameras} == {"rgb", "depth", "labels"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metaworld:door-opn-v3"], "did you mean door-open-v3"),
        (["doom:basic", "--policy", "expert"], "has no expert"),
        (["metaworld:reach-v3", "--expert-noise", "0.1"], "only with --policy expert"),
        (["metaworld:reach-v3", "--policy", "expert", "--expert-noise", "-1"], "at least 0"),
        (["doom:basic", "--camera", "ray"], "metaworld:TASK only"),
        (["doom:health_gatherin"], "did you mean health_gathering"),
        (["gym:CartPol-v1"], "did you mean CartPole-v1"),
        (["gym:Blackjack-v1", "--depth"], "no depth"),
        (["doom:basic", "--policy", "nowhere:f"], "nowhere"),
        (["doom:basic", "--episodes", "0"], "0 episodes"),
        (["doom:basic", "--workers", "0"], "--workers is 0"),
        (["pong"], "doom:SCENARIO, metaworld:TASK or gym:ENV_ID"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        record(*arguments, "--out", tmp_path / "data")
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_another_environment_is_not_appended(tmp_path, capsys):
    record("gym:CartPole-v1", "--episodes", 1, "--out", tmp_path)
    with pytest.raises(SystemExit) as stop:
        record("gym:Pendulum-v1", "--episodes", 1, "--out", tmp_path)
    assert stop.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert len(Dataset.open(tmp_path).episodes) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopping_at_any_moment_leaves_a_dataset_that_can_be_read_and_appended_to(tmp_path, number, code):
    out = tmp_path / "data"
    command = [sys.executable, "-m", "oneiros", "record", "doom:basic", "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--episodes", "10000"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,  # a terminal's Ctrl-C reaches the engine too, and so must this
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background inherits "ignore"
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_episodes(out, 3)
    os.killpg(process.pid, number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in stderr
    complete = len(Dataset.open(out, strict=True).episodes)
    assert complete >= 3
    if number == signal.SIGINT:
        # The signal may come between the newest episode's last file and its being counted.
        assert f"{complete} episodes" in stdout or f"{complete - 1} episodes" in stdout
    subprocess.run([*command, "--episodes", "1"], check=True, capture_output=True)
    dataset = Dataset.open(out, strict=True)
    assert [len(dataset.frames(e.index)) for e in dataset.episodes] == [e.length for e in dataset.episodes]
    assert len(dataset.episodes) == complete + 1


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def the_other_way_round(work, jobs, **_):
    return ((job, work(job)) for job in reversed(jobs))


def test_episodes_that_come_in_another_order_make_the_same_dataset(tmp_path, monkeypatch):
    arguments = ("gym:CartPole-v1", "--episodes", 3)
    for _ in range(2):  # the second time, it appends
        record(*arguments, "--out", tmp_path / "one")
    monkeypatch.setattr("oneiros.cluster.work_through", the_other_way_round)
    for _ in range(2):
        record(*arguments, "--workers", 2, "--out", tmp_path / "many")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_an_episode_that_fails_elsewhere_leaves_those_before_it(tmp_path, monkeypatch, capsys):
    real = record_episode

    def fails_at_two(env, writer, *arguments, **options):
        if writer.num_episodes == 2:
            raise OSError("the disk is full")
        return real(env, writer, *arguments, **options)

    monkeypatch.setattr("oneiros.cluster.work_through", the_other_way_round)
    monkeypatch.setattr("oneiros.envs.record.record_episode", fails_at_two)
    with pytest.raises(SystemExit) as stop:
        record("gym:CartPole-v1", "--episodes", 4, "--workers", 2, "--out", tmp_path / "data")
    assert stop.value.code == 2
    assert "the disk is full" in capsys.readouterr().err
    assert len(Dataset.open(tmp_path / "data", strict=True).episodes) == 2


def test_a_worker_that_is_killed_loses_no_episode(tmp_path, monkeypatch):
    (tmp_path / "mortal_policy.py").write_text(
        "import os, pathlib, signal\n"
        "def play(observation, spec, rng):\n"
        "    if not pathlib.Path('killed').exists() and os.environ.get('KILL_ONE'):\n"
        "        pathlib.Path('killed').touch()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return rng.integers(spec.size)\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ("gym:CartPole-v1", "--episodes", 3, "--policy", "mortal_policy:play")
    record(*arguments, "--out", "one")
    monkeypatch.setenv("KILL_ONE", "1")
    record(*arguments, "--out", "two", "--workers", 2)
    assert Path("killed").exists()
    assert contents(Path("two")) == contents(Path("one"))


def wait_for_episodes(path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    info = path / "meta" / "info.json"
    while not (info.exists() and json.loads(info.read_text())["total_episodes"] >= count):
        assert time.monotonic() < deadline, f"no {count} episodes after a minute"
        time.sleep(0.05)
