"""Every example runs from a clean clone, one after the other, as a reader runs them."""

import re

import pytest

from tests.places import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))

# What each prints and leaves, so that an example that does nothing fails.
PROMISES = {
    "01_record_and_inspect": (r"6 episodes at 9 frames/s.*frames \(61, 64, 64, 3\)", "data-sheet.png"),
    "02_train": (r"tokenizer: 40 steps, loss 0\.\d+\nworld: 40 steps", "world/model.safetensors"),
    "03_dream": (r"24 frames", "dream.gif"),
    "04_dream_as_env": (r"MultiBinary\(3\).*40 steps.*\(64, 64, 3\) uint8\nleft and right", "world"),
    "05_own_env_and_policy": (r"to column (2[5-9]|3[01]) in 41 frames", "ball/meta/info.json"),
    "06_own_codec": (
        r"patches: frames of 64 codes, 8 dreamed, .*\(64, 64, 3\)",
        "patches/world/model.safetensors",
    ),
    "07_points": (r"21 kernel points.*(9\d|100)% of a scene", "points/labelled.laz"),
    "08_policy": (r"policy: 30 steps.*button press: 40 steps.*\(1, 2, 4, 32, 32\)", "button/policy/model.safetensors"),
    "09_agent": (r"16 dreams.*reward .* a step", "world"),
}


def test_every_example_is_run():
    assert [path.stem for path in EXAMPLES] == list(PROMISES)


@pytest.mark.parametrize("name", PROMISES)
def test_it_keeps_its_promise(name, examples):
    finished, folder = examples
    expected, left = PROMISES[name]
    assert finished[name].returncode == 0, finished[name].stderr
    assert re.search(expected, finished[name].stdout, re.DOTALL), finished[name].stdout
    assert (folder / left).exists()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_says_how_to_run_it(path):
    assert f"python examples/{path.name}" in path.read_text()
