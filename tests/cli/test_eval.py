"""`oneiros eval` from the command line."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from oneiros import console
from oneiros.cli import main
from oneiros.cli.eval import _config
from oneiros.data.episodes.dataset import Dataset
from oneiros.world.evaluation.config import DriftConfig, EvalConfig
from tests.dot_runs import save_world, save_world_for, write_dataset

QUICK = ["--clips", "4", "--context", "2", "--horizon", "2", "--drift", "0", "--speed-steps", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    write_dataset(folder / "data")
    save_world(folder / "run", folder / "data")
    return folder


def test_it_writes_both_files_and_prints_a_table(folder, capsys, monkeypatch):
    monkeypatch.setattr(console, "FIRST_LINE_AFTER", 0.0)  # as if it took long
    main(["eval", str(folder / "run"), str(folder / "data"), *QUICK])
    said = capsys.readouterr()
    assert "PSNR copy last frame" in said.out
    assert "delta-PSNR" in said.out
    assert "frames/s; a step takes" in said.out
    assert "dreaming held-out clips" in said.err
    assert (folder / "run" / "eval" / "report.html").stat().st_size > 50_000
    assert json.loads((folder / "run" / "eval" / "metrics.json").read_text())["clips"] == 4


def test_episodes_and_the_users_networks_can_be_named(folder, tmp_path, monkeypatch):
    (tmp_path / "brought_networks.py").write_text(
        "def lpips(a, b): return (a - b).abs().mean((1, 2, 3))\ndef features(clips): return clips.flatten(1)[:, ::99]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = ["--episodes", "0", "2", "--lpips", "brought_networks:lpips", "--fvd", "brought_networks:features"]
    main(["eval", str(folder / "run"), str(folder / "data"), *QUICK, *options, "--out", "out"])
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert measured["episodes"] == [0, 2]
    assert len(measured["lpips"]["model"]) == 2
    assert measured["fvd"]["model"] >= 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "LPIPS (lower is closer)" in page
    assert "FVD (lower is closer)" in page


def test_an_environment_answers_for_other_actions(tmp_path):
    pytest.importorskip("vizdoom")
    size = ["--height", "16", "--width", "16"]
    main(["record", "doom:basic", "--episodes", "2", "--max-steps", "24", *size, "--out", str(tmp_path / "data")])
    save_world_for(tmp_path / "run", Dataset.open(tmp_path / "data"))
    main(["eval", str(tmp_path / "run"), str(tmp_path / "data"), *QUICK, "--env", "doom:basic"])
    measured = json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text())
    assert measured["counterfactual"]["env"] == "doom:basic"
    assert len(measured["counterfactual"]["accuracy"]) == 2
    assert "The same start, another action" in (tmp_path / "run" / "eval" / "report.html").read_text()


def test_help_tells_of_each_kind_and_a_run_of_its_own(folder, capsys):
    main(["eval", "--help"])
    every = capsys.readouterr().out
    assert all(option in every for option in ("--drift-dreams", "--max-steps", "SEGMENTER", "--temperature"))
    with pytest.raises(SystemExit) as stopped:
        main(["eval", str(folder / "run"), "--help"])
    own = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "--drift-dreams" in own
    assert "--max-steps" not in own


def test_an_option_that_nothing_knows_is_told_with_those_that_come_near(folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["eval", str(folder / "run"), str(folder / "data"), "--horizn", "8"])
    assert stopped.value.code == 2
    assert "--horizon" in capsys.readouterr().err


def test_defaults_are_those_of_the_evaluation(folder, monkeypatch):
    asked = []
    monkeypatch.setattr("oneiros.cli.eval._evaluate_world", asked.append)
    main(["eval", str(folder / "run"), str(folder / "data")])
    assert _config(EvalConfig, asked[0]) == EvalConfig()
    assert asked[0].temperature == EvalConfig().sampling.temperature
    main(["eval", str(folder / "run"), str(folder / "data"), "--drift", "30", "--drift-dreams", "2", "--seed", "3"])
    assert _config(EvalConfig, asked[1]) == EvalConfig(drift=DriftConfig(frames=30, dreams=2), seed=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the run comes first"),
        (["--clips", "4", "{run}"], "the run comes first"),
        (["{run}", "{run}"], "dataset"),
        (["{run}", "{data}", "--drift", "-1"], "drift needs frames >= 0"),
        (["{run}/tokenizer", "{data}"], "holds a tokenizer; what can be measured is a world"),
        (
            ["{run}", "{data}", "--max-steps", "4"],
            "of a policy or a cloning; .* holds a world",
        ),
        (["{run}", "{data}", "--max_steps=4"], "--max-steps is an option of a policy or a cloning"),
        (["{data}", "{data}"], "is no run folder"),
        (["{run}", "{data}", "--horizon", "100"], "every episode is shorter than a clip"),
        (["{run}", "{data}", "--clips", "1"], "clips is 1; evaluation needs at least 2"),
        (["{run}", "{data}", "--lpips", "nothing"], "write module:function"),
        (["{run}", "{data}", "--env", "doom:basic", *QUICK], "the env's actions are MOVE_LEFT|recorded at 10 fps"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder, capsys, options, message):
    places = {"run": folder / "run", "data": folder / "data"}
    with pytest.raises(SystemExit) as stopped:
        main(["eval", *(option.format(**places) for option in options)])
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert stopped.value.code == 2
    assert re.search(message, error)
    assert error.startswith("oneiros: ")


def test_a_run_whose_evaluations_lead_elsewhere_replaces_nothing_there(folder, tmp_path, capsys):
    run = shutil.copytree(folder / "run", tmp_path / "run", ignore=shutil.ignore_patterns("eval"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "metrics.json").write_text("years of work")
    (run / "eval").symlink_to(tmp_path / "mine")
    with pytest.raises(SystemExit):
        main(["eval", str(run), str(folder / "data"), *QUICK])
    assert "leads out of" in capsys.readouterr().err
    assert (tmp_path / "mine" / "metrics.json").read_text() == "years of work"


def test_help_needs_no_torch():
    script = "import sys; from oneiros.cli import main; main(['eval', '--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
