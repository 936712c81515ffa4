"""Demonstrations and a world in, a policy in a run folder out."""

from pathlib import Path

import pytest

from oneiros.models.checkpoint import load
from oneiros.recipes import policy, tokenizer, world
from oneiros.recipes.policy_settings import PolicySettings
from oneiros.records import ActionSpec
from oneiros.train.log import read_metrics
from tests.recipes.conftest import record, tokenizer_settings, world_settings

XY = ActionSpec("continuous", ("x", "y"))


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demonstrations") / "data"
    return record(folder, spec=XY, depth=True, labels=True, states=True, num_episodes=4, tasks=("left", "right"))


@pytest.fixture(scope="session")
def acting_world(demonstrations, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("acting")
    tokenizer.run(tokenizer_settings(demonstrations, out / "tokenizer", steps=60))
    settings = world_settings(out / "world", data=demonstrations, tokenizer=out / "tokenizer", frame_stride=2)
    world.run(settings)
    return out / "world"


def policy_settings(data: Path, world: Path, out: Path, **options) -> PolicySettings:
    defaults = {"preset": "tiny", "steps": 12, "precision": "float32", "save_every": 4, "imagined_frames": 2}
    return PolicySettings(data=data, world=world, out=out, **{**defaults, **options})


@pytest.fixture(scope="session")
def policy_run(demonstrations, acting_world, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "policy"
    policy.run(policy_settings(demonstrations, acting_world, out))
    return out


def test_a_run_holds_a_policy_with_its_world(policy_run):
    model = load(policy_run)
    assert model.config.tasks == ("left", "right")
    rates = [row["learning_rate"] for row in read_metrics(policy_run / "metrics.jsonl")]
    assert len(set(rates)) == len(rates) > 1
