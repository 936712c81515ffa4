"""How every verb ends before its time: signals, a terminal that closes, a reader that has gone."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from oneiros import cli

# A verb that says when it begins, is slow, and saves at the end.
SLOW = """
import sys, time, types
import oneiros.cli
verb = types.ModuleType("oneiros.cli.slow")
def run(arguments):
    try:
        {begin}
        print("begun", flush=True)
        time.sleep(30)
    finally:
        print("saving")
        open(arguments[0], "w").write("saved")
verb.main = run
sys.modules[verb.__name__] = verb
oneiros.cli.VERBS["slow"] = ("slow", "")
oneiros.cli.main(["slow", *sys.argv[1:]])
"""


def start(path, *, begin: str = "pass", **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW.format(begin=begin), str(path)],
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_signals_end_every_verb_in_order(tmp_path, number, code):
    process = start(tmp_path / "file", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, complaints = process.communicate(timeout=20)
    assert (process.returncode, complaints) == (code, "stopped\n")
    assert (tmp_path / "file").read_text() == "saved"


STARTING = """
import os, runpy, signal, sys
class Interrupt:
    def find_spec(name, path=None, target=None):
        if name == "oneiros.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt)
if sys.argv[1] == "background":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.argv[1:] = ["--version"]
runpy.run_module("oneiros", run_name="__main__")
"""


@pytest.mark.parametrize(("where", "code"), [("shell", -signal.SIGINT), ("background", 0)])
def test_ctrl_c_before_anything_is_imported_ends_without_a_word(where, code):
    ended = subprocess.run(
        [sys.executable, "-c", STARTING, where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (code, b"")


def test_a_terminal_that_closes_costs_nothing(tmp_path):
    """What is printed while saving cannot be written any more."""
    ours, terminal = pty.openpty()
    process = start(tmp_path / "file", stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    assert os.read(ours, 100).strip() == b"begun"
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == 143
    assert (tmp_path / "file").read_text() == "saved"


def test_a_second_signal_while_it_ends_changes_nothing(monkeypatch, capsys):
    def again(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)

    monkeypatch.setattr(cli, "import_module", lambda name: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5))
    monkeypatch.setattr("builtins.print", again)
    with pytest.raises((SystemExit, KeyboardInterrupt)) as ended:  # the latter would end the tests, too
        cli.main(["play"])
    assert isinstance(ended.value, SystemExit)
    assert ended.value.code == 143


def test_nohup_stays_in_force(tmp_path):
    ignoring = "import signal; assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN; sys.exit(7)"
    script = SLOW.format(begin=ignoring).replace("import oneiros", "import signal; signal.signal(1, 1); import oneiros")
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")], check=False).returncode == 7


def test_what_a_package_makes_of_ctrl_c_while_it_is_imported_is_still_a_stop(monkeypatch, capsys):
    def interrupted(name):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise ImportError("numpy.core.multiarray failed to import") from None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(cli, "import_module", interrupted)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main(["play"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


WARNING = """
import sys, types, warnings
import oneiros.cli
verb = types.ModuleType("oneiros.cli.slow")
verb.main = lambda arguments: warnings.warn("\\x1b[33ma\\x1b[0m\\x1b[2J\\nb: episode 3")
sys.modules[verb.__name__] = verb
oneiros.cli.VERBS["slow"] = ("slow", "")
oneiros.cli.main(["slow"])
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["play", "--help"]])
def test_a_reader_that_has_gone_is_no_error(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "oneiros", *arguments], stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (ended.returncode, ended.stderr) == (1, "")


def test_names_in_warnings_do_not_steer_the_terminal():
    said = subprocess.run([sys.executable, "-c", WARNING], stderr=subprocess.PIPE, text=True, check=True).stderr
    assert said == r"warning: a\x1b[2J b: episode 3" + "\n"  # colours are left out


def test_other_threads_leave_signals_alone(capsys):
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=cli.main, args=(["--version"],))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
