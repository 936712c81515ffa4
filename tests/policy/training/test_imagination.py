"""What a world imagines at the moments of a dataset, kept on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.frames import to_model
from oneiros.loading import load
from oneiros.policy.config import PolicyConfig
from oneiros.policy.model import Policy
from oneiros.policy.training import imagination as predictive
from oneiros.policy.training.demonstrations import frame_source, read_episodes
from oneiros.policy.training.imagination import FeatureSpec, cached_features, feature_statistics
from oneiros.policy.training.moments import Moments, read_demonstrations
from oneiros.records import Observation
from oneiros.world.model import World
from tests.recorded import XY

SPEC = FeatureSpec(2, 2, (), quick=False)


def read(data: Path, run: Path, *, every: int = 1):
    dataset, world = Dataset.open(data), load(run)
    assert isinstance(world, World)
    source = frame_source(dataset, world, run, None, run / "cache")
    episodes = read_episodes(source, world, [run.parent / "tokenizer" / "cache"])
    return world, episodes, Moments(read_demonstrations(dataset, episodes), XY, horizon=4, every=every)


def acting(world: World, execute: int) -> Policy:
    width = world.config.dim
    config = PolicyConfig(
        XY,
        tasks=("left", "right"),
        grid=world.tokenizer.grid,
        feature_mean=(0.0,) * width,
        feature_std=(1.0,) * width,
        imagined_frames=2,
        dim=16,
        heads=2,
        action_horizon=4,
        execute=execute,
    )
    return Policy(config, world).eval()


def test_training_sees_what_acting_sees(demonstrations, acting_world, tmp_path):
    """Row by row of an episode, the actions done forced to be those of the recording."""
    world, episodes, moments = read(demonstrations, acting_world)
    kept = cached_features(tmp_path, world, episodes, moments, SPEC, data="data")
    policy, place = acting(world, execute=1), 1
    frames = to_model(Dataset.open(demonstrations).frames(episodes[place].index))
    carry, first = policy.init(1), next(m for m in range(len(moments)) if moments.where(m) == (place, 0))
    for row in range(7):  # more than the span of two frames two rows apart
        seen = Observation(frames[row][None])
        carry = carry.with_observation(seen)
        torch.testing.assert_close(
            policy.imagine(carry, seen)[0], torch.from_numpy(kept[first + row].astype(np.float32)), rtol=2e-3, atol=2e-3
        )
        done = torch.from_numpy(moments.demonstrations[place].actions[row])
        carry, _ = replace(carry, chunk=done.expand(1, 4, 2)).next_action()
    assert not np.array_equal(kept[first], kept[first + 6])  # or the comparison would show nothing


def test_features_are_made_once_and_appear_whole(demonstrations, acting_world, tmp_path, monkeypatch):
    world, episodes, moments = read(demonstrations, acting_world, every=8)
    kept = cached_features(tmp_path, world, episodes, moments, SPEC, data="data")
    assert (kept.dtype, kept.shape) == (np.float16, (len(moments), 4, world.tokenizer.num_codes, world.config.dim))
    other = cached_features(tmp_path / "other", world, episodes, moments, SPEC, data="data")
    assert np.array_equal(kept, other)
    with monkeypatch.context() as patch:
        patch.setattr(World, "imagine", lambda *_, **__: pytest.fail("imagined again"))
        cached_features(tmp_path, world, episodes, moments, SPEC, data="data")
    calls, imagine = [], World.imagine

    def interrupted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return imagine(self, *arguments, **options)

    monkeypatch.setattr(World, "imagine", interrupted)
    monkeypatch.setattr(predictive, "_AT_ONCE", 4)
    with pytest.raises(KeyboardInterrupt):
        cached_features(tmp_path / "killed", world, episodes, moments, SPEC, data="data")
    assert not list((tmp_path / "killed").glob("features-*"))
    assert not list((tmp_path / "killed").glob(".partial-*"))


@pytest.mark.parametrize(
    "change",
    [{"imagined_frames": 1}, {"observed_frames": 1}, {"layers": (0,)}, {"every": 7}, {"data": "other"}, {"world": 0}],
)
def test_other_features_are_kept_apart(change, demonstrations, acting_world, tmp_path):
    world, episodes, moments = read(demonstrations, acting_world, every=8)
    cached_features(tmp_path, world, episodes, moments, SPEC, data="data")
    if "every" in change:
        moments = Moments(moments.demonstrations, XY, horizon=4, every=change["every"])
    if "world" in change:
        with torch.no_grad():
            next(world.dynamics.parameters()).add_(0.1)
    known = {name: value for name, value in change.items() if hasattr(SPEC, name)}
    data = change.get("data", "data")
    cached_features(tmp_path, world, episodes, moments, replace(SPEC, **known), data=data)
    assert len(list(tmp_path.glob("features-*"))) == 2


def test_damaged_features_are_one_clear_line(demonstrations, acting_world, tmp_path):
    world, episodes, moments = read(demonstrations, acting_world, every=8)
    cached_features(tmp_path, world, episodes, moments, SPEC, data="data")
    (folder,) = tmp_path.glob("features-*")
    (folder / "features.npy").write_bytes((folder / "features.npy").read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"^{folder} is damaged: .*; delete it and train again$"):
        cached_features(tmp_path, world, episodes, moments, SPEC, data="data")


def test_statistics_are_of_every_channel():
    features = np.zeros((300, 2, 3, 2), np.float16)
    features[..., 0] = np.arange(300)[:, None, None] % 2
    mean, std = feature_statistics(features)
    assert mean[0] == pytest.approx(0.5, abs=0.05)
    assert std[0] == pytest.approx(0.5, abs=0.05)
    assert (mean[1], std[1]) == (0.0, 1.0)
