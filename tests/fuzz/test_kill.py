"""A dozen kills of recording, training and playing, by the clock and at renames (see `kill`)."""

import subprocess
import sys

from tests.places import ROOT


def test_a_dozen_kills_lose_nothing_and_leave_nothing():
    command = [sys.executable, "-m", "tests.fuzz.kill", "12"]
    killing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert killing.returncode == 0, killing.stdout + killing.stderr
