"""What is asked of the machine, and what is set on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from oneiros import machine


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_processor_has_its_own_name():
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    assert machine.processor()
    assert not names or names[0].endswith(machine.processor())


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    if hasattr(os, "sched_getaffinity"):
        assert machine.cores() == len(os.sched_getaffinity(0))
        monkeypatch.delattr(os, "sched_getaffinity")
    assert machine.cores() == os.cpu_count()


def test_reports_and_runs_tell_the_same_machine():
    report, run = machine.describe(), machine.environment("cpu", "32-true")
    assert report["processor"] == run["machine"]["cpu"]
    assert report["torch"] == torch.__version__ == run["versions"]["torch"]
    assert (report["cores"], report["threads"]) == (run["machine"]["cores"], run["machine"]["threads"])
    assert (run["device"], run["precision"]) == ("cpu", "32-true")


def test_all_cores_for_a_while(threads):
    with machine.all_cores():
        assert torch.get_num_threads() == machine.cores()
    assert torch.get_num_threads() == 2


def test_the_much_faster_number_of_threads_is_chosen(threads, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(machine.time, "perf_counter", lambda: now[0])
    for of_two, chosen in ((0.05, 2), (0.09, 1), (0.2, 1)):  # what is hardly faster is not worth the risk
        torch.set_num_threads(2)

        def step(of_two=of_two) -> None:
            now[0] += of_two if torch.get_num_threads() == 2 else 0.1

        machine.choose_threads(step)
        assert torch.get_num_threads() == chosen
    machine.choose_threads(lambda: None, 2)
    assert torch.get_num_threads() == 2


COUNTING = """
import ctypes
calls = []
class Counting(ctypes.CDLL):
    def __getattr__(self, name):
        return (lambda *arguments: calls.append(arguments)) if name == "mallopt" else super().__getattr__(name)
ctypes.CDLL = Counting
"""


def settings_made(code: str) -> int:
    """How often malloc was set by the code, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"{COUNTING}\n{code}\nprint(len(calls))"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def test_only_programs_prepare_the_process(tmp_path):
    assert settings_made("from oneiros.machine import prepare; prepare()") == 4
    library = f"from pathlib import Path; from tests.train import toy; toy.train(Path({str(tmp_path)!r}))"
    assert settings_made(library) == 0
    assert (tmp_path / "state.pt").exists()
    verb = (
        "from oneiros.cli import main\nfrom oneiros.world.training import tokenizer as recipe\n"
        "from types import SimpleNamespace\n"
        "recipe.run = lambda settings: SimpleNamespace(step=1, loss=0.0, seconds=0.0)\n"
        "main(['train', 'tokenizer', 'data', '--out', 'run'])"
    )
    assert settings_made(verb) == 4


def test_a_thousand_episodes_may_lie_open():
    lines = (
        "import resource; most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, most), most))",
        "from oneiros.machine import prepare; prepare()",
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)",
    )
    assert subprocess.run([sys.executable, "-c", "\n".join(lines)]).returncode == 0
