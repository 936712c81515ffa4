"""`oneiros eval` from the command line."""

import json
import re

import pytest

from oneiros import console
from oneiros.cli import main
from oneiros.data.episodes.dataset import Dataset
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{run}", "{run}"], "dataset"),
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
