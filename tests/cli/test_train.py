"""`oneiros train` on the command line."""

import subprocess
import sys

import pytest

from oneiros.cli import main


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
