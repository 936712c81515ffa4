"""Rotary positions over time and the two axes of the grid."""

import pytest
import torch

from oneiros.world.nn.rope import channels_per_axis, rotary_table, rotate

PERIODS = (64.0, 32.0, 16.0)


@pytest.mark.parametrize("head_dim", [8, 16, 24, 32, 64, 128])
def test_an_eighth_of_each_head_stays_unrotated(head_dim):
    rotated = 3 * channels_per_axis(head_dim, 3)
    assert 0 < rotated <= head_dim * 7 / 8
    x = torch.randn(5, 2, head_dim)
    positions = torch.arange(1, 16).view(5, 3)  # a channel that turns once in 4 positions is back at its start at 4
    turned = rotate(x, rotary_table(positions, head_dim, PERIODS))
    assert torch.equal(turned[..., rotated:], x[..., rotated:])
    assert (turned[..., :rotated] != x[..., :rotated]).any(0).all()


def test_a_head_too_small_for_three_axes_is_refused():
    with pytest.raises(ValueError, match="head_dim is 4"):
        channels_per_axis(4, 3)


def test_lengths_are_kept_and_only_differences_of_positions_matter():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 1, 32, generator=generator) for _ in range(2))
    place_q, place_k = torch.tensor([[5, 2, 7]]), torch.tensor([[3, 6, 1]])

    def score(shift):
        turned = [rotate(x, rotary_table(p + shift, 32, PERIODS)) for x, p in ((query, place_q), (key, place_k))]
        torch.testing.assert_close(turned[0].norm(), query.norm())
        return (turned[0] * turned[1]).sum()

    here = score(torch.tensor([[0, 0, 0]]))
    for shift in ([[1, 0, 0]], [[0, 3, 0]], [[0, 0, 5]], [[10**9, 0, 0]]):
        torch.testing.assert_close(score(torch.tensor(shift)), here, atol=1e-4, rtol=0)


def test_every_axis_is_felt():
    x = torch.randn(1, 1, 32)
    origin = rotate(x, rotary_table(torch.zeros(1, 3), 32, PERIODS))
    torch.testing.assert_close(origin, x)
    turned = [rotate(x, rotary_table(torch.eye(3)[axis : axis + 1], 32, PERIODS)) for axis in range(3)]
    assert all((a - b).abs().max() > 1e-2 for a in turned for b in [x] if a is not b)
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 3
