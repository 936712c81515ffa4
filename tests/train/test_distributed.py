"""Two processes under torchrun train the model that one trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from oneiros.train.log import read_metrics
from tests.train import toy

ROOT = Path(toy.__file__).parents[2]


def torchrun(processes: int, *command: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=localhost"]
    command = (*launcher, f"--nproc-per-node={processes}", *command)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_two_processes_of_two_micro_batches_give_the_loss_curve_of_one(tmp_path):
    toy.train(tmp_path / "one")
    torchrun(2, str(toy.__file__), str(tmp_path / "two"), "--config", '{"accumulate": 2}')
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert [row["step"] for row in two] == [row["step"] for row in one]
    for name in ("loss", "toy/error", "gradient_norm"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=1e-5)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)
