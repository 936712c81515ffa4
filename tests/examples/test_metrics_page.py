"""docs/metrics.md explains whatever is reported."""

import re

import pytest

from oneiros.points.evaluation.confusion import Confusion
from oneiros.world.evaluation.config import DriftConfig, EvalConfig
from oneiros.world.evaluation.fidelity import evaluate
from tests.dot_world import DotWorld
from tests.places import ROOT
from tests.world.evaluation.test_fidelity import dot_clips

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
