"""From run folders to metrics.json and a page, in processes that may be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from oneiros.cli import main
from oneiros.policy.cloning import Cloning, CloningConfig
from oneiros.policy.config import PolicyConfig
from oneiros.policy.evaluation import jobs
from oneiros.policy.evaluation.config import PolicyEvalConfig
from oneiros.policy.evaluation.report import result_lines, result_table
from oneiros.policy.evaluation.run import EPISODES, evaluate_policy
from oneiros.policy.model import Policy
from oneiros.records import ActionSpec, Camera
from oneiros.run_folder import Origin
from oneiros.world.config import WorldConfig
from oneiros.world.model import World
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from tests.policy.push_env import CAMERA, SIZE
from tests.world.evaluation.test_run import Fetches

ENV = "gym:tests.policy.push_env:Push-v0"
SPEC = ActionSpec("continuous", ("action_0",), mean=(0.0,), std=(1.0,), low=(-1.0,), high=(1.0,))
STATE = {"state_mean": (0.0,), "state_std": (1.0,)}
ORIGIN = Origin(fps=10, camera=Camera(CAMERA, SIZE, SIZE))
CONFIG = PolicyEvalConfig(episodes=4, max_steps=12, batch_size=2, videos=1, decisions=2)


def save_policy(folder: Path, *, seed: int = 0, origin: Origin = ORIGIN) -> Path:
    """An untrained policy with a tiny world; what it does follows from its seed."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer(
        TokenizerConfig(height=SIZE, width=SIZE, codebook_size=16, code_dim=8, codec_width=8, codec_depth=1)
    )
    world = WorldConfig(
        action_spec=SPEC, frame_stride=2, fps=5.0, dim=32, depth=1, head_dim=16, tokens_per_step=2, window=6
    )
    config = PolicyConfig(
        action_spec=SPEC,
        tasks=("push",),
        feature_mean=(0.0,) * 32,
        feature_std=(1.0,) * 32,
        imagined_frames=2,
        dim=16,
        heads=2,
        latents_per_frame=1,
        former_depth=1,
        encoder_depth=1,
        decoder_depth=1,
        grid=tokenizer.grid,
        **STATE,
    )
    Policy(config, World(world, tokenizer)).save(folder, data=origin)
    return folder


def save_cloning(folder: Path, *, seed: int = 0, origin: Origin = ORIGIN, **changes) -> Path:
    torch.manual_seed(seed)
    values = {"action_spec": SPEC, "tasks": ("push",), "height": SIZE, "width": SIZE, "frame_stride": 2, **STATE}
    config = CloningConfig(**{**values, "image_width": 8, "dim": 16, "depth": 1, **changes})
    Cloning(config).save(folder, data=origin)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    save_policy(folder / "acts")
    save_cloning(folder / "copies")
    return folder


@pytest.fixture(scope="module")
def measured(runs) -> dict:
    return evaluate_policy(runs / "acts", ENV, out=runs / "out", beside=(runs / "copies",), config=CONFIG)


def rows_of(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / EPISODES).read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def in_order(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: (row["contender"], row["start"]))


def test_everyone_plays_every_start_once(runs, measured):
    rows = rows_of(runs / "out")
    assert [(each["name"], each["kind"]) for each in measured["contenders"]] == [
        ("acts", "policy"),
        ("copies", "cloning"),
        ("random", "random"),
    ]
    wanted = [(name, start) for name in ("acts", "copies", "random") for start in range(4)]
    assert [(row["contender"], row["start"]) for row in in_order(rows)] == wanted
    assert all(1 <= row["steps"] <= 12 for row in rows)


def test_metrics_say_what_the_episodes_say(runs, measured):
    written = json.loads((runs / "out" / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert written["paired"] == measured["paired"]
    for each in written["contenders"]:
        told = [row["success"] for row in rows_of(runs / "out") if row["contender"] == each["name"]]
        assert (each["mean"]["successes"], each["mean"]["episodes"]) == (sum(told), 4)
        assert each["mean"]["low"] <= each["mean"]["rate"] <= each["mean"]["high"]
    pair = written["paired"][0]
    assert (pair["first"], pair["second"], pair["pairs"]) == ("acts", "copies", 4)
    assert set(written["latency"]["acts"]["decision_ms"]) == {"total", "imagine", "condition", "denoise"}
    assert set(written["latency"]["copies"]["decision_ms"]) == {"total"}
    assert (runs / "out" / written["videos"][0]).stat().st_size > 1000


def test_the_page_is_self_contained_and_well_formed(runs, measured):
    text = (runs / "out" / "report.html").read_text()
    parser = Fetches()
    parser.feed(text)
    assert parser.open == []
    assert all(url.startswith("data:") for url in parser.urls)
    for words in ("acts (world policy)", "Over the same starts", "what happened", "imagined", "Wilson"):
        assert words in text


def test_the_terminal_says_it_in_a_table_and_lines(measured):
    table = result_table(measured)
    assert table.row_count == 3
    lines = result_lines(measured)
    assert lines[0].startswith("acts - copies: ")
    assert "of it imagine" in lines[1]


def test_one_worker_plays_the_same_and_leaves_nothing_open(runs, measured, tmp_path):
    config = replace(CONFIG, videos=0, decisions=0, workers=1)
    evaluate_policy(runs / "acts", ENV, out=tmp_path, beside=(runs / "copies",), config=config)
    assert in_order(rows_of(tmp_path)) == in_order(rows_of(runs / "out"))
    assert jobs._players == []


def test_what_is_played_already_is_not_played_again(runs, measured, monkeypatch):
    before = (runs / "out" / EPISODES).read_bytes()
    monkeypatch.setattr("oneiros.policy.evaluation.jobs.make_actor", lambda *_: pytest.fail("played again"))
    config = replace(CONFIG, videos=0, decisions=0, workers=1)
    again = evaluate_policy(runs / "acts", ENV, out=runs / "out", beside=(runs / "copies",), config=config)
    assert again["contenders"] == measured["contenders"]
    assert (runs / "out" / EPISODES).read_bytes() == before


def test_a_changed_run_starts_anew_and_others_are_kept(runs, measured, tmp_path, monkeypatch):
    jobs: list = []

    def remember(work, given, **options):
        jobs.extend((job.plan.contenders[job.contender].name, job.starts) for job in given)
        raise InterruptedError

    monkeypatch.setattr("oneiros.policy.evaluation.run.work_through", remember)
    save_policy(tmp_path / "acts", seed=1)
    config = replace(CONFIG, videos=0)
    with pytest.raises(InterruptedError):
        evaluate_policy(tmp_path / "acts", ENV, out=runs / "out", beside=(runs / "copies",), config=config)
    assert jobs == [("acts", (0, 1)), ("acts", (2, 3))]
    jobs.clear()
    with pytest.raises(InterruptedError):  # another length of episodes is another evaluation
        evaluate_policy(runs / "acts", ENV, out=runs / "out", config=replace(config, max_steps=13))
    assert {name for name, _ in jobs} == {"acts", "random"}


def test_half_a_line_is_played_again(runs, measured, tmp_path, monkeypatch):
    lines = (runs / "out" / EPISODES).read_text().splitlines(keepends=True)
    (tmp_path / EPISODES).write_text("".join(lines[:-1]) + lines[-1][:20])
    evaluate_policy(
        runs / "acts", ENV, out=tmp_path, beside=(runs / "copies",), config=replace(CONFIG, videos=0, decisions=0)
    )
    kept = [line for line in (tmp_path / EPISODES).read_text().splitlines() if line.endswith("}")]
    rows = {(row["contender"], row["start"]): row for row in map(json.loads, kept)}
    whole = {(row["contender"], row["start"]): row for row in map(json.loads, lines)}
    for row in (*rows.values(), *whole.values()):
        row.pop("seconds")
    assert rows == whole


def test_killed_and_run_again_gives_the_same(runs, tmp_path):
    options = ["--episodes", "24", "--batch-size", "2", "--max-steps", "40", "--videos", "0", "--decisions", "0"]
    command = [sys.executable, "-m", "oneiros", "eval", str(runs / "acts"), "--env", ENV, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run_at(out: Path) -> subprocess.Popen:
        return subprocess.Popen([*command, "--out", str(out)], env=environment, stderr=subprocess.DEVNULL)

    killed = run_at(tmp_path / "killed")
    path, deadline = tmp_path / "killed" / EPISODES, time.monotonic() + 300
    while not (path.is_file() and path.read_text().count("\n") >= 6):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.005)
    children = children_of(killed.pid)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = len(rows_of(tmp_path / "killed"))
    assert 6 <= done < 48
    wait_until_gone(children)
    again, whole = run_at(tmp_path / "killed"), run_at(tmp_path / "whole")
    assert again.wait(300) == whole.wait(300) == 0
    assert rows_of(tmp_path / "killed")[:done]
    assert in_order(rows_of(tmp_path / "killed")) == in_order(rows_of(tmp_path / "whole"))
    figures = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("killed", "whole")]
    assert figures[0]["contenders"] == figures[1]["contenders"]


def children_of(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in text.split()]


def wait_until_gone(processes: list[int]) -> None:
    assert processes
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{each}/status").is_file() and not _zombie(each) for each in processes):
        assert time.monotonic() < deadline, "processes outlive the evaluation that started them"
        time.sleep(0.05)


def _zombie(process: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{acts}"], "it is measured in an environment; add --env"),
        (["{acts}", "data"], "it is measured in an environment, not on data; add --env"),
        (["{acts}", "--env", "gym:tests.policy.push_env:Pish-v0"], "did you mean Push-v0"),
        (["{acts}", "--env", "nothing"], "'nothing' is no environment"),
        (
            ["{acts}", "--env", "gym:CartPole-v1"],
            r"has discrete actions \(.*\); the policy knows continuous actions \(action_0\)",
        ),
        (["{acts}", "--env", ENV, "--beside", "{world}"], "--beside .* holds a world; what acts is a policy"),
        (
            ["{world}", "data", "--beside", "{acts}"],
            "--beside is an option of an agent or a policy or a cloning; .* holds a world",
        ),
        (["{acts}", "--env", ENV, "--clips", "4"], "--clips is an option of a world; .* holds a policy"),
        (["{acts}", "--env", ENV, "--episodes", "0"], "episodes is 0; it must be at least 1"),
        (
            ["{acts}", "--env", ENV, "--episodes", "1", "2"],
            "'2' is a word too many: --episodes is how many starts of each task",
        ),
        (["{stateless}", "--env", ENV], "has 1 .state_0. numbers of state; the policy was trained with 3"),
        (["{quick}", "--env", ENV], "runs at 10 steps a second; the policy learned from 300"),
        (["{aside}", "--env", ENV], "has the cameras observation.images.front; the policy was trained on .*wrist"),
        (["{many}", "--env", ENV], "does not say what is to be done, and .* knows several: push, pull"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(bad_runs, capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        main(["eval", *(option.format(**bad_runs) for option in options)])
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert stopped.value.code == 2
    assert error.startswith("oneiros: ")
    assert __import__("re").search(message, error), error


@pytest.fixture(scope="module")
def bad_runs(runs, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bad")
    return {
        "acts": runs / "acts",
        "world": runs / "acts" / "world",
        "stateless": save_cloning(folder / "a", state_mean=(0.0,) * 3, state_std=(1.0,) * 3),
        "quick": save_cloning(folder / "b", origin=replace(ORIGIN, fps=300)),
        "aside": save_cloning(folder / "c", origin=replace(ORIGIN, camera=Camera("observation.images.wrist", 16, 16))),
        "many": save_cloning(folder / "d", tasks=("push", "pull")),
    }


def test_tasks_of_meta_world_it_was_never_taught_are_named(tmp_path, runs):
    pytest.importorskip("metaworld")
    spec = ActionSpec("continuous", ("move_x", "move_y", "move_z", "grip"))
    origin = Origin(fps=80, camera=Camera("observation.images.corner4", SIZE, SIZE))
    run = save_cloning(
        tmp_path / "robot", action_spec=spec, tasks=("drawer open",), state_mean=(0.0,) * 4, state_std=(1.0,) * 4,
        origin=origin,
    )  # fmt: skip
    with pytest.raises(ValueError, match="was never taught 'door open'; it knows drawer open"):
        evaluate_policy(run, "metaworld:drawer-open-v3,door-open-v3", out=tmp_path)
    with pytest.raises(ValueError, match="drawer-open-v3"):
        evaluate_policy(run, "metaworld:drawer-opens-v3", out=tmp_path)
