"""The examples, run once for all tests: each goes on from what those before it left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("[0-9]*.py"))


@pytest.fixture(scope="package")
def examples(tmp_path_factory) -> tuple[dict[str, subprocess.CompletedProcess], Path]:
    """What each example printed, by name, and the folder with data/, tokenizer/, world/, ..."""
    folder = tmp_path_factory.mktemp("examples") / "made"
    one_core = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = {
        path.stem: subprocess.run(
            [sys.executable, path, folder], cwd=folder.parent, env=one_core, capture_output=True, text=True, timeout=600
        )
        for path in EXAMPLES
    }
    return finished, folder
