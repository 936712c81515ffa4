"""`oneiros train` on the command line."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from oneiros.cli import main
from oneiros.world.settings import WorldSettings
from oneiros.world.training import world


def test_help_teaches_and_needs_no_torch(capsys):
    script = (
        "import sys\nfrom oneiros.cli import main\n"
        "try: main(['train', 'world', '--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for option in ("--tokenizer", "--frame-stride", "--context", "--resume", "--from", "--codes"):
        assert option in done.stdout
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = capsys.readouterr().out
    assert "oneiros train world data --tokenizer runs/tokenizer" in told
    assert "oneiros train policy demonstrations --world runs/world" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tokenizer", "nowhere", "--out", "run"], "nowhere"),
        (["world", "nowhere", "--out", "run"], "a world needs a tokenizer"),
        (["world", "--out", "run", "--resume"], "holds no run to resume: state.pt is missing"),
        (["policy", "nowhere", "--out", "run"], "a policy needs a world"),
        (["policy", "nowhere", "--world", "gone", "--out", "run"], "gone is no run folder"),
        (["policy", "x", "--former", "3d", "--alignment", "--out", "run"], "--alignment is of --former geometry"),
        (["cloning", "nowhere", "--out", "run"], "nowhere"),
        (["tokenizer", "nowhere", "--out", "run", "--steps", "0"], "steps is 0; it must be at least 1"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        main(["train", *arguments])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """(arguments) -> the settings that `train world` trains with; of a run that began with others than the defaults."""
    before = WorldSettings(out=tmp_path, data=Path("data"), accumulate=4, augment=True, seed=7, lr=1e-3)
    (tmp_path / "config.json").write_text(json.dumps({"kind": "world", "model": {}, "recipe": before.to_json()}))
    runs = []

    def run(settings):
        runs.append(settings.completed())
        return SimpleNamespace(step=1, loss=0.0, seconds=0.0)

    def train(*arguments):
        main(["train", "world", *arguments, "--out", str(tmp_path)])
        return runs[-1]

    monkeypatch.setattr(world, "run", run)
    monkeypatch.setattr("oneiros.machine.prepare", lambda: None)
    return train


def test_resume_takes_what_was_not_typed_from_the_run(trained, tmp_path):
    again = trained("--resume")
    assert again == WorldSettings(
        out=tmp_path, data=Path("data"), accumulate=4, augment=True, seed=7, lr=1e-3, resume=True
    )


def test_resume_keeps_what_was_typed_at_its_default(trained):
    again = trained("--accumulate", "1", "--resume", "--seed", "0")
    assert (again.accumulate, again.seed, again.lr) == (1, 0, 1e-3)


def test_the_same_command_with_resume_goes_on(trained):
    again = trained("elsewhere", "--augment", "--accumulate", "4", "--resume")
    assert again.data == Path("elsewhere")
    assert again.augment
    assert again.resume


def test_without_resume_the_run_that_is_there_says_nothing(trained):
    assert trained("data").accumulate == 1
