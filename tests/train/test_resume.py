"""A run that was stopped or killed and resumed is, bit for bit, the run that was not."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from oneiros.train.log import Metrics, read_metrics
from oneiros.train.state import load_state
from tests.train import toy

SCRIPT = Path(toy.__file__)
ROOT = SCRIPT.parents[2]


def numbers(out: Path) -> list[dict[str, float]]:
    """The rows of a run without what a clock measured."""
    clock = {"seconds", "frames_per_second"}
    return [
        {name: value for name, value in row.items() if name not in clock} for row in read_metrics(out / "metrics.jsonl")
    ]


def assert_same_run(one: Path, other: Path) -> None:
    ours, theirs = load_state(one), load_state(other)
    assert ours["step"] == theirs["step"]
    for part in ("model", "ema"):
        assert ours[part].keys() == theirs[part].keys()
        assert all(torch.equal(ours[part][name], theirs[part][name]) for name in ours[part])
    moments, others = ours["optimizer"]["state"], theirs["optimizer"]["state"]
    assert all(torch.equal(moments[i][name], others[i][name]) for i in moments for name in moments[i])
    weights, other_weights = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert numbers(one) == numbers(other)


def interrupting(config, at_step: int, number: int = signal.SIGINT):
    """Batches that press Ctrl-C, or send another signal, while step `at_step` is being made."""
    make_batch = toy.batches(config)

    def interrupt(step, samples):
        if step == at_step:
            os.kill(os.getpid(), number)
        return make_batch(step, samples)

    return interrupt


def process(out: Path, *options: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(out), *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_rows(out: Path, running: subprocess.Popen, count: int) -> None:
    deadline = time.monotonic() + 600
    while len(read_metrics(out / "metrics.jsonl")) < count:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline, "the run wrote no rows"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    toy.train(out)
    return out


@pytest.mark.parametrize("after", [2, 4, 7])  # inside a row's average, at a save, between both
def test_steps_then_resume_are_the_run_that_never_stopped(tmp_path, whole, capsys, after):
    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path, make_batch=interrupting(toy.CONFIG, at_step=after - 1))
    assert load_state(tmp_path)["step"] == after
    assert "--resume" in capsys.readouterr().err
    toy.train(tmp_path, resume=True)
    assert_same_run(tmp_path, whole)


def test_kill_9_then_resume_is_the_run_that_never_stopped(tmp_path, whole):
    running = process(tmp_path, "--slow", "0.05")
    wait_for_rows(tmp_path, running, 2)  # rows up to step 6, the last checkpoint is of step 4
    running.kill()
    running.communicate()
    assert 0 < load_state(tmp_path)["step"] < toy.CONFIG.steps
    assert len(read_metrics(tmp_path / "metrics.jsonl")) >= 2
    toy.train(tmp_path, resume=True)
    assert_same_run(tmp_path, whole)


def test_sigterm_stops_like_ctrl_c(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path, make_batch=interrupting(toy.CONFIG, at_step=4, number=signal.SIGTERM))
    assert load_state(tmp_path)["step"] == 5
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_ctrl_c_in_a_real_process_saves_and_says_how_to_go_on(tmp_path):
    running = process(tmp_path, "--slow", "0.05", "--config", '{"steps": 100000, "save_every": 0}')
    wait_for_rows(tmp_path, running, 1)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=600)
    assert running.returncode != 0
    assert f"in {tmp_path}; the same command with --resume goes on" in told
    assert load_state(tmp_path)["step"] >= 3


def test_a_row_cut_short_by_a_kill_is_dropped(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path, make_batch=interrupting(toy.CONFIG, at_step=4))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 0.1}\n{"step": 9, "lo')
    toy.train(tmp_path, resume=True)
    assert_same_run(tmp_path, whole)


def test_a_finished_run_may_be_made_longer(tmp_path):
    toy.train(tmp_path)
    result = toy.train(tmp_path, replace(toy.CONFIG, steps=15), resume=True)
    assert result.step == load_state(tmp_path)["step"] == 15
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [3, 6, 9, 12, 15]


def test_what_a_killed_training_left_half_written_is_gone_even_where_nothing_is_left_to_do(tmp_path):
    toy.train(tmp_path)
    (tmp_path / ".saving").mkdir()
    (tmp_path / ".saving" / "state.pt").write_bytes(b"half")
    toy.train(tmp_path, resume=True)
    assert not (tmp_path / ".saving").exists()


def test_a_second_run_does_not_write_over_the_first(tmp_path):
    toy.train(tmp_path)
    with pytest.raises(ValueError, match="already holds a run; add --resume"):
        toy.train(tmp_path)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(ValueError, match=r"state\.pt is missing"):
        toy.train(tmp_path, resume=True)


def test_resume_with_another_setting_names_it(tmp_path):
    toy.train(tmp_path)
    with pytest.raises(ValueError, match=r"learning_rate 0\.01, not 0\.02"):
        toy.train(tmp_path, replace(toy.CONFIG, learning_rate=0.02), resume=True)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_state_is_one_clear_line(tmp_path, damage):
    toy.train(tmp_path)
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:1000] if damage is None else damage)
    with pytest.raises(ValueError, match=r"state\.pt is damaged"):
        toy.train(tmp_path, resume=True)


def test_a_state_that_would_run_code_is_refused(tmp_path):
    toy.train(tmp_path)
    torch.save({"step": 1, "model": Path("x"), "optimizer": {}}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt is damaged"):
        toy.train(tmp_path, resume=True)


def changed(out, change):
    """The run's state with a change in it."""
    state = torch.load(out / "state.pt", weights_only=True)
    change(state)
    torch.save(state, out / "state.pt")


def scaled(state, scale=lambda tensor: tensor.new_zeros(())):
    moments = state["optimizer"]["state"][0]
    moments["exp_avg"] = scale(moments["exp_avg"])


WRONG_STATES = {
    "no step": lambda state: state.pop("step"),
    "a negative step": lambda state: state.update(step=-1),
    "a step of many digits": lambda state: state.update(step=10**400),
    "half a step": lambda state: state.update(step=1.5),
    "no averages": lambda state: state.pop("averages"),
    "averages that are words": lambda state: state.update(averages={"sums": {"loss": "low"}, "count": 1}),
    "no seconds": lambda state: state.update(seconds="many"),
    "a config of tensors": lambda state: state["config"].update(steps=torch.zeros(3)),
    "a config that is a list": lambda state: state.update(config=[1]),
    "a model that is a tensor": lambda state: state.update(model=torch.zeros(3)),
    "weights that are words": lambda state: state["model"].update(gain="high"),
    "weights of another shape": lambda state: state["model"].update(gain=torch.zeros(7)),
    "weights that are missing": lambda state: state["model"].pop("gain"),
    "an average of another shape": lambda state: state["ema"].update(gain=torch.zeros(())),
    "an average that is missing": lambda state: state["ema"].pop("gain"),
    "no moments": lambda state: state.update(optimizer={"param_groups": []}),
    "moments of another shape": scaled,
    "endless moments": lambda state: scaled(state, lambda tensor: torch.zeros(1).expand(2**40)),
    "moments of nothing": lambda state: state["optimizer"]["state"].update({99: state["optimizer"]["state"][0]}),
    "moments by a word": lambda state: state["optimizer"]["state"].update(a=state["optimizer"]["state"][0]),
}


@pytest.mark.parametrize("wrong", WRONG_STATES)
def test_a_state_of_wrong_parts_is_one_clear_line(tmp_path, whole, wrong):
    shutil.copytree(whole, tmp_path / "run")
    changed(tmp_path / "run", WRONG_STATES[wrong])
    with pytest.raises(ValueError, match=r"state\.pt is no training state: |trained another model than") as refused:
        toy.train(tmp_path / "run", replace(toy.CONFIG, steps=15), resume=True)
    assert "\n" not in str(refused.value)


def test_rates_are_the_configs_not_the_files(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    changed(tmp_path / "run", lambda state: state["optimizer"]["param_groups"][0].update(betas="none", lr="high"))
    toy.train(tmp_path / "run", replace(toy.CONFIG, steps=15), resume=True)


def test_a_state_that_grows_a_thousandfold_is_refused(tmp_path, whole):
    with (
        zipfile.ZipFile(whole / "state.pt") as source,
        zipfile.ZipFile(tmp_path / "state.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for each in source.infolist():
            bomb.writestr(each.filename, source.read(each))
    with pytest.raises(ValueError, match=r"state\.pt is damaged"):
        load_state(tmp_path)


def test_metrics_that_are_no_rows_are_left_out(tmp_path):
    lines = [
        '{"step": 3, "loss": 1.5}',
        "\0\0\0",
        '{"step": "4"}',
        '{"loss": 1}',
        "[5]",
        "6",
        '{"step": 7, "loss": []}',
    ]
    lines += ["[" * 100_000, '{"step": true}', '{"step": 8, "loss": NaN}', '{"step": 9, "lo']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [3, 8]
    Metrics(tmp_path / "metrics.jsonl", last_step=5)
    assert (tmp_path / "metrics.jsonl").read_text() == lines[0] + "\n"
