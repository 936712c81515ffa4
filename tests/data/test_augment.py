import pytest
import torch

from oneiros.data.augment import augment


def ramp(channels: int) -> torch.Tensor:
    """(1, 2, C, 20, 20): two equal frames, each channel the column's number scaled to [-0.5, 0.5]."""
    return torch.linspace(-0.5, 0.5, 20).expand(1, 2, channels, 20, 20).clone()


def test_a_clip_is_changed_as_one_by_its_own_seed():
    frames, seeds = torch.rand(3, 4, 3, 16, 16) * 2 - 1, torch.tensor([5, 6, 7])
    together = augment(frames, seeds)
    assert torch.equal(together[1:2], augment(frames[1:2], seeds[1:2]))
    assert not torch.equal(together[:1], augment(frames[:1], seeds[1:2]))
    still = augment(ramp(3), torch.tensor([3]))
    assert torch.equal(still[:, 0], still[:, 1])
    assert together.abs().max() <= 1


@pytest.mark.parametrize("seed", range(8))
def test_depth_is_shifted_as_the_colours_are_and_keeps_its_values(seed):
    before = ramp(4)
    after = augment(before, torch.tensor([seed]))
    row = after[0, 0, 3, 0]
    shift = (row[10] - before[0, 0, 3, 0, 10]) * 19
    assert abs(shift) <= 2.01  # a tenth of 20 columns
    assert shift == pytest.approx(round(float(shift)), abs=1e-4)
    inside = slice(2, 18)
    colours = after[0, 0, :3, 0, inside]
    gain = torch.diff(colours).mean(1) / torch.diff(row[inside]).mean()
    torch.testing.assert_close(torch.diff(colours), gain[:, None] * torch.diff(row[inside]), atol=1e-5, rtol=0)
    assert ((gain > 0.7) & (gain < 1.45)).all()


def test_seeds_shift_in_every_direction():
    shifts = [augment(ramp(4), torch.tensor([seed]))[0, 0, 3, 0, 10] - ramp(4)[0, 0, 3, 0, 10] for seed in range(30)]
    assert min(shifts) < -0.04
    assert max(shifts) > 0.04
