import pytest
import torch

from oneiros.data.episodes.dataset import Dataset
from oneiros.loading import load
from oneiros.world.bundle import bundle
from oneiros.world.dream import Dream
from oneiros.world.recorded import held_out_episodes
from oneiros.world.starts import starts_from_data, starts_from_run


def test_a_bundled_world_is_half_as_large_and_plays_the_same(world_run, tmp_path):
    size = bundle(world_run, tmp_path / "bundled")
    whole = sum((world_run / name).stat().st_size for name in ("model.safetensors", "tokenizer/model.safetensors"))
    assert size < 0.6 * whole + (world_run / "starts.safetensors").stat().st_size + 20_000
    before, after = load(world_run), load(tmp_path / "bundled")
    for name, tensor in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], tensor, atol=2e-3, rtol=2e-3)
    assert str(tmp_path.parent) not in (tmp_path / "bundled" / "config.json").read_text()
    env = Dream.from_run(tmp_path / "bundled")
    assert env.reset(seed=0)[0].shape == env.observation_space.shape
    assert sorted(path.name for path in (tmp_path / "bundled").iterdir()) == [
        "config.json",
        "model.safetensors",
        "starts.safetensors",
        "tokenizer",
    ]


def test_dreams_begin_in_the_data_that_is_named(world_run, recording, tmp_path):
    world = load(world_run)
    bundle(world_run, tmp_path / "bundled", recording)
    starts = starts_from_run(world, tmp_path / "bundled")
    dataset = Dataset.open(recording)
    expected = starts_from_data(world, world_run, dataset, held_out_episodes(world_run, dataset), count=8)
    assert len(starts) == len(expected) == 8
    for start, other in zip(starts, expected, strict=True):
        torch.testing.assert_close(start.frames, other.frames, atol=1 / 255, rtol=0)
        assert torch.equal(start.actions, other.actions)


def test_only_worlds_are_bundled_and_nothing_is_overwritten(world_run, tokenizer_run, tmp_path):
    with pytest.raises(ValueError, match="holds a tokenizer; this needs a world"):
        bundle(tokenizer_run, tmp_path / "out")
    with pytest.raises(ValueError, match="exists"):
        bundle(world_run, tmp_path)
