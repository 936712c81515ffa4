"""docs/metrics.md explains whatever is reported."""

import re
from pathlib import Path

import pytest

from oneiros.eval.drift import DriftConfig
from oneiros.eval.segmentation import Confusion
from oneiros.eval.world import EvalConfig, evaluate
from tests.dot_world import DotWorld
from tests.eval.test_world import dot_clips

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "metrics.md").read_text()
SOURCES = sorted((ROOT / "src" / "oneiros").rglob("*.py"))
PART = re.compile(r'"((?:tokenizer|world|segmenter|policy|cloning|sampled)/[a-z_]+)"')
PARTS = sorted({part for path in SOURCES for part in PART.findall(path.read_text())})


@pytest.mark.parametrize("part", PARTS)
def test_every_loss_part_is_explained(part):
    assert f"| `{part}` |" in TEXT


def test_every_entry_of_metrics_json_is_explained():
    config = EvalConfig(clips=4, context=2, horizon=2, drift=DriftConfig(frames=12, dreams=2), speed_steps=2)
    measured = evaluate(DotWorld(), dot_clips(length=4), config=config).metrics
    settings = {"clips", "context", "horizon", "seed"}
    for name in measured.keys() - settings:
        assert f"`{name}`" in TEXT, name
    for group in ("psnr", "drift", "speed"):
        for name in measured[group].keys() - {"dreams", "window", "steps"}:
            assert f"`{name}`" in TEXT, f"{group}.{name}"


def test_every_figure_of_a_segmentation_is_explained():
    scores = Confusion(1).scores(("ground",))
    for name in (*scores.keys() - {"classes"}, *scores["classes"]["ground"], "clouds"):
        assert f"`{name}`" in TEXT, name
