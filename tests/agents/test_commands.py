"""`oneiros train agent` and `oneiros eval AGENT` on the command line, from a world to a report."""

import json
import shutil

import pytest

from oneiros.agents.refining import Rounds
from oneiros.cli import main
from oneiros.data.episodes.dataset import Dataset
from oneiros.train.log import read_metrics
from tests.agents.conftest import GAME, save_world

QUICK = ["--dreams", "4", "--horizon", "4", "--steps", "32", "--max-steps", "6", "--width", "8", "--epochs", "1"]


def fails(arguments, capsys) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.fixture(scope="module")
def agent(echo_world, tmp_path_factory):
    out = tmp_path_factory.mktemp("agents") / "agent"
    main(["train", "agent", str(echo_world), "--env", GAME, "--out", str(out), *QUICK])
    return out


def test_training_leaves_curves_films_and_the_world(agent):
    assert [row["step"] for row in read_metrics(agent / "metrics.jsonl")] == [16, 32]
    for name in (
        "model.safetensors",
        "report.html",
        "films/dream.mp4",
        "films/game.mp4",
        "world/tokenizer/config.json",
    ):
        assert (agent / name).stat().st_size > 0
    page = (agent / "report.html").read_text()
    assert "48 steps of the real game" in page
    assert "films/game.mp4" in page


def test_a_run_goes_on(agent, echo_world, tmp_path, capsys):
    out = tmp_path / "agent"
    shutil.copytree(agent, out)
    assert "already holds a run" in fails(["train", "agent", str(echo_world), "--out", str(out)], capsys)
    main(["train", "agent", str(echo_world), "--out", str(out), "--steps", "64", "--resume"])
    assert [row["step"] for row in read_metrics(out / "metrics.jsonl")] == [16, 32, 48, 64]
    recipe = json.loads((out / "config.json").read_text())["recipe"]
    assert (recipe["dreams"], recipe["learning"]["horizon"], recipe["steps"]) == (4, 4, 64)


def test_evaluation_sets_game_dream_chance_and_planner_side_by_side(agent, tmp_path, capsys):
    out = tmp_path / "eval"
    quick = ["--episodes", "3", "--games", "2", "--dreams", "2", "--dream-steps", "5"]
    planner = ["--planner", "cem", "--candidates", "4", "--ahead", "2"]
    main(["eval", str(agent), "--env", GAME, "--beside", str(agent), "--out", str(out), *quick, *planner])
    measured = json.loads((out / "metrics.json").read_text())
    assert [(each["name"], each["where"]) for each in measured["players"]] == [
        ("agent", GAME),
        ("cem", GAME),
        ("agent", GAME),
        ("random actions", GAME),
        ("agent", "dreamed"),
        ("random actions", "dreamed"),
    ]
    real = measured["players"][0]
    assert (real["episodes"], real["ended"], real["return"]["mean"], real["length"]["mean"]) == (3, 3, 12.0, 12.0)
    assert "random actions, dreamed" in (out / "report.html").read_text()
    assert "12 to 12" in capsys.readouterr().out


def test_a_world_plans_without_an_agent(echo_world, tmp_path):
    arguments = ["--planner", "shooting", "--candidates", "4", "--ahead", "2", "--episodes", "1", "--games", "1"]
    main(["eval", str(echo_world), "--env", GAME, "--dreams", "0", "--out", str(tmp_path / "eval"), *arguments])
    measured = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert measured["players"][0]["name"] == "shooting"


@pytest.mark.slow
def test_rounds_record_the_agent_and_train_the_world_on(echo_world, tmp_path, capsys, monkeypatch):
    """Though the first is interrupted between the recording and the world."""
    out = tmp_path / "agent"
    rounds = ["--rounds", "1", "--episodes", "2", "--world-steps", "3"]
    with monkeypatch.context() as patch:
        patch.setattr(Rounds, "_train_world", lambda self, number: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit) as exit:
            main(["train", "agent", str(echo_world), "--env", GAME, "--out", str(out), *QUICK, *rounds])
    assert exit.value.code == 130
    main(["train", "agent", str(echo_world), "--out", str(out), "--resume"])
    assert len(Dataset.open(out / "data").episodes) == 6
    assert [row["round"] for row in read_metrics(out / "metrics.jsonl")] == [0, 0, 1, 1]
    assert "round 1: 72 real steps" in capsys.readouterr().err
    assert (out / "round-1" / "model.safetensors").is_file()


def test_learning_in_the_real_game_is_the_same_command(echo_world, tmp_path):
    out = tmp_path / "real"
    main(["train", "agent", str(echo_world), "--env", GAME, "--real", "--games", "2", "--out", str(out), *QUICK])
    assert "32 steps of the real game" in (out / "report.html").read_text()


def test_bad_input_is_one_line(echo_data, echo_world, agent, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    mute = save_world(echo_data, tmp_path / "mute")
    assert "without rewards and ends" in fails(["train", "agent", str(mute), *out], capsys)
    assert "--env" in fails(["train", "agent", str(echo_world), "--rounds", "1", *out], capsys)
    assert "--steps is 0" in fails(["train", "agent", str(echo_world), "--steps", "0", *out], capsys)
    wrong = ["--env", "gym:EchoKeys-v0"]
    assert "actions" in fails(["train", "agent", str(echo_world), *wrong, "--real", *out], capsys)
    assert "actions" in fails(["eval", str(agent), *wrong], capsys)
    assert "nowhere to play" in fails(["eval", str(agent), "--dreams", "0"], capsys)
    assert "holds no run to resume" in fails(["train", "agent", str(echo_world), "--resume", *out], capsys)
    assert "is no folder" in fails(["train", "agent", str(moved(echo_world, tmp_path)), *out], capsys)
    assert "data" in fails(["train", "agent", str(echo_world), "--data", str(tmp_path / "gone"), *out], capsys)


def moved(world, tmp_path):
    """The same world, whose dataset is no longer where it was."""
    run = tmp_path / "moved"
    shutil.copytree(world, run)
    config = json.loads((run / "config.json").read_text())
    config["data"]["path"] = str(tmp_path / "away")
    (run / "config.json").write_text(json.dumps(config))
    return run
