"""A disk that takes no more loses nothing."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from oneiros.train.log import Metrics
from oneiros.train.state import load_state, save_checkpoint
from tests.train import toy

# Runs with a limit on the size of single files, which the kernel enforces like a full disk.
LIMITED = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from tests.train import toy
config = replace(toy.CONFIG, **eval(sys.argv[3]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    toy.train(Path(sys.argv[1]), config, resume=True)
except OSError as error:
    print("OSError:", error)
"""


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".pt", ".safetensors")}


def test_a_full_disk_while_saving_leaves_the_last_checkpoint(tmp_path):
    toy.train(tmp_path)
    before = files(tmp_path)
    limit = len(before["state.pt"]) // 2
    environment = os.environ | {"PYTHONPATH": str(Path(toy.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(limit), "{'steps': 20}"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "OSError: could not save step 16" in told
    assert "make room and use --resume" in told
    assert len(told.strip().splitlines()) == 1
    assert files(tmp_path) == before
    assert not (tmp_path / ".saving").exists()
    assert toy.train(tmp_path, replace(toy.CONFIG, steps=20), resume=True).step == 20


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 576"), ValueError("a bug")]
)
def test_what_was_saved_stays_whatever_the_model_raises(tmp_path, error):
    parts = {"config": {}, "ema": {}, "optimizer": {"state": {}}, "averages": {"sums": {}, "count": 0}}
    state = {"step": 3, "seconds": 1.0, "model": {"a": torch.ones(2)}, **parts}
    save_checkpoint(tmp_path, state, lambda folder: (folder / "config.json").write_text("{}"))

    def write_half(folder: Path) -> None:
        (folder / "config.json").write_text("{")
        raise error

    with pytest.raises(ValueError if isinstance(error, ValueError) else OSError):
        save_checkpoint(tmp_path, state | {"step": 4}, write_half)
    assert load_state(tmp_path)["step"] == 3
    assert (tmp_path / "config.json").read_text() == "{}"
    assert not (tmp_path / ".saving").exists()


def test_files_in_folders_replace_older_ones(tmp_path):
    state = {"step": 3, "config": {}, "model": {}, "optimizer": {}, "ema": {}}

    def write(text: str):
        def write_model(folder: Path) -> None:
            (folder / "tokenizer").mkdir()
            (folder / "tokenizer" / "config.json").write_text(text)

        return write_model

    save_checkpoint(tmp_path, state, write("old"))
    save_checkpoint(tmp_path, state, write("new"))
    assert (tmp_path / "tokenizer" / "config.json").read_text() == "new"


def test_too_little_room_is_said_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(OSError, match=r"a checkpoint takes .* MB, only 0 MB are free"):
        toy.train(tmp_path)
    assert not (tmp_path / "state.pt").exists()


def test_a_full_disk_while_logging_is_one_clear_line(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl", last_step=0)
    metrics._path = Path("/dev/full")
    with pytest.raises(OSError, match=r"takes no more rows \(No space left on device\)\. .* use --resume"):
        metrics.write({"step": 1})
