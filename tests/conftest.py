"""Small datasets and runs that several systems test on, made once a session, by imports that wait for their use."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors here are tiny: threads would only wait for one another

from tests.recorded import (
    XY,
    policy_settings,
    record,
    segmenter_settings,
    tokenizer_settings,
    world_settings,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a seed of its own is the same in every run, so that none fails once in a hundred."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def recording(tmp_path_factory) -> Path:
    return record(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="session")
def tokenizer_run(recording, tmp_path_factory) -> Path:
    from oneiros.world.training import tokenizer

    out = tmp_path_factory.mktemp("runs") / "tokenizer"
    tokenizer.run(tokenizer_settings(recording, out, steps=150))
    return out


@pytest.fixture(scope="session")
def world_run(recording, tokenizer_run, tmp_path_factory) -> Path:
    from oneiros.world.training import world

    out = tmp_path_factory.mktemp("runs") / "world"
    world.run(world_settings(out, data=recording, tokenizer=tokenizer_run))
    return out


@pytest.fixture(scope="session")
def towns(tmp_path_factory) -> list[Path]:
    from tests.towns import write_town

    folder = tmp_path_factory.mktemp("towns")
    return [write_town(folder / f"{seed}.{ending}", seed) for seed, ending in enumerate(("laz", "ply", "npy"))]


@pytest.fixture(scope="session")
def segmenter_run(towns, tmp_path_factory) -> Path:
    from oneiros.points import training

    out = tmp_path_factory.mktemp("runs") / "segmenter"
    training.run(segmenter_settings(towns, out))
    return out


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory) -> Path:
    """With continuous actions, of which one never changes, states, depth and labels; two tasks."""
    folder = tmp_path_factory.mktemp("demonstrations") / "data"
    return record(folder, spec=XY, depth=True, labels=True, states=True, num_episodes=4, tasks=("left", "right"))


@pytest.fixture(scope="session")
def acting_world(demonstrations, tmp_path_factory) -> Path:
    """Of the demonstrations, a frame every two rows; its tokenizer's run, with the codes, is beside it."""
    from oneiros.world.training import tokenizer, world

    out = tmp_path_factory.mktemp("acting")
    tokenizer.run(tokenizer_settings(demonstrations, out / "tokenizer", steps=60))
    world.run(world_settings(out / "world", data=demonstrations, tokenizer=out / "tokenizer", frame_stride=2))
    return out / "world"


@pytest.fixture(scope="session")
def policy_run(demonstrations, acting_world, tmp_path_factory) -> Path:
    from oneiros.policy.training import policy

    out = tmp_path_factory.mktemp("runs") / "policy"
    policy.run(policy_settings(demonstrations, acting_world, out))
    return out


@pytest.fixture(autouse=True)
def _terminal_that_may_close() -> Iterator[None]:
    """A hangup ends what tests start, also where nohup started the tests, which children would inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
