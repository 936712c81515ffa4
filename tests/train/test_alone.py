"""Two trainings never write into one folder, and none writes through a link in it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oneiros.train.log import read_metrics
from oneiros.train.recipe import train
from oneiros.train.state import load_state, only_training
from oneiros.world.settings import TokenizerSettings
from tests.train import toy

ROOT = Path(toy.__file__).parents[2]


def start(out: Path, *options: str, **variables: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, str(toy.__file__), str(out), *options]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    ends = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_second_is_refused_until_the_first_has_ended_whatever_ended_it(tmp_path, end):
    out = tmp_path / "run"
    first = start(out, "--slow", "0.2", "--config", '{"steps": 1000}')
    wait_for(out / "state.pt")
    for resume in (False, True):
        with pytest.raises(OSError, match="another training writes there; wait for its end"):
            toy.train(out, resume=resume)
    first.send_signal(end)
    first.communicate(timeout=60)
    assert toy.train(out, toy.replace(toy.CONFIG, steps=load_state(out)["step"] + 3), resume=True).step >= 3


def test_of_several_that_begin_at_once_one_trains(tmp_path):
    out = tmp_path / "run"
    processes = [start(out, "--slow", "0.3") for _ in range(3)]
    told = [process.communicate(timeout=120)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1]
    losers = [text for text, process in zip(told, processes, strict=True) if process.returncode]
    assert all("another training writes there" in text or "already holds a run" in text for text in losers), losers
    toy.train(tmp_path / "alone")
    one, other = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "alone"))
    assert [row["loss"] for row in one] == [row["loss"] for row in other]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "alone").iterdir())


def test_of_processes_that_train_together_the_first_holds_the_folder(tmp_path, monkeypatch):
    with only_training(tmp_path):
        monkeypatch.setenv("RANK", "1")
        with only_training(tmp_path):
            pass
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(OSError, match="another training"), only_training(tmp_path):
            pass


def test_the_folder_is_held_while_the_data_are_read(tmp_path):
    settings = TokenizerSettings(data=tmp_path / "data", out=tmp_path / "run", preset="tiny")

    def prepare(settings: TokenizerSettings):
        with pytest.raises(OSError, match="another training"):
            train(settings, prepare)
        raise ValueError("the data are no good")

    with pytest.raises(ValueError, match="no good"):
        train(settings, prepare)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["pictures", "environment.json", "metrics.jsonl", "cache", "tokenizer"])
def test_a_link_in_a_run_is_not_written_through(tmp_path, name):
    toy.train(tmp_path / "run")
    path = tmp_path / "run" / name
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("years of work")
    with pytest.raises(ValueError, match="through a symbolic link; nothing is written there"):
        toy.train(tmp_path / "run", toy.replace(toy.CONFIG, steps=20), resume=True)
    assert (tmp_path / "precious").read_text() == "years of work"
