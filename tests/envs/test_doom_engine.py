"""The engine is a process of its own: it must not outlive ours, nor leave anything behind."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vizdoom")

from oneiros.envs import doom_engine
from oneiros.envs.doom import DoomEnv
from oneiros.envs.doom_engine import Scratch

OPEN = """
import threading, time
from oneiros.envs.doom import DoomEnv
envs = []
thread = threading.Thread(target=lambda: envs.append(DoomEnv("basic")))  # gone long before the engine may go
thread.start()
thread.join()
envs[0].reset(seed=0)
print("open", flush=True)
time.sleep(30)
"""


def engines(parent: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(parent), "vizdoom"], capture_output=True, text=True).stdout
    return [int(pid) for pid in found.split()]


def step(env: DoomEnv, times: int) -> None:
    for _ in range(times):
        env.step(np.zeros(env.action_spec.size))


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_kill_takes_the_engine_along_and_the_next_start_sweeps(tmp_path, monkeypatch):
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    (engine,) = engines(process.pid)
    maps = Path(f"/proc/{engine}/maps").read_text().split()
    shared = {Path(word) for word in maps if word.startswith("/dev/shm/ViZDoom")}
    (folder,) = tmp_path.glob("oneiros-doom-*")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(doom_engine, "_YOUNG", -1.0)
    assert shared
    doom_engine._sweep.__wrapped__()
    assert folder.exists()  # all of it is still in use
    assert all(path.exists() for path in shared)

    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while runs(engine) and time.monotonic() < end:
        time.sleep(0.02)
    assert not runs(engine)
    doom_engine._sweep.__wrapped__()
    assert not folder.exists()
    assert not any(path.exists() for path in shared)


def test_only_what_is_old_and_our_own_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(doom_engine, "_SHARED_MEMORY", tmp_path)
    victim = tmp_path / "victim"
    (victim / "inside").mkdir(parents=True)
    (tmp_path / "oneiros-doom-link").symlink_to(victim)
    (tmp_path / "oneiros-doom-young").mkdir()
    (tmp_path / "ViZDoomSMyoung").touch()
    doom_engine._sweep.__wrapped__()
    monkeypatch.setattr(doom_engine, "_YOUNG", -1.0)
    held = os.open(tmp_path / "oneiros-doom-young", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    monkeypatch.setattr(doom_engine, "_mapped_files", lambda: f"7f00-7f01 rw-s {tmp_path}/ViZDoomSMyoung")
    doom_engine._sweep.__wrapped__()
    os.close(held)
    assert (victim / "inside").exists()
    assert (tmp_path / "oneiros-doom-young").exists()
    assert (tmp_path / "ViZDoomSMyoung").exists()
    monkeypatch.setattr(doom_engine, "_mapped_files", lambda: "")
    doom_engine._sweep.__wrapped__()
    assert {path.name for path in tmp_path.iterdir()} == {"victim", "oneiros-doom-link"}


def test_a_folder_goes_with_its_owner():
    scratch = Scratch()
    path = scratch.path
    assert path.is_dir()
    del scratch
    assert not path.exists()


def test_an_engine_that_died_is_started_anew():
    others = {*engines(os.getpid())}  # of environments that tests before left to the collector
    env = DoomEnv("basic", seed=0)
    try:
        first, _ = env.reset(seed=3)
        for killed_before in ("a step", "a reset"):
            (engine,) = {*engines(os.getpid())} - others
            os.kill(engine, signal.SIGKILL)
            if killed_before == "a step":
                with pytest.raises(OSError, match="the next reset starts it anew"):
                    step(env, times=100)
            again, _ = env.reset(seed=3)
            np.testing.assert_array_equal(again["observation.images.front"], first["observation.images.front"])
        assert len({*engines(os.getpid())} - others) == 1
    finally:
        env.close()
    assert not {*engines(os.getpid())} - others
