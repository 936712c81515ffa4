"""The order in which a frame's codes are generated, and the one mask rule."""

import pytest
import torch

from oneiros.world.nn.layout import TokenLayout, bit_reversed, code_order, lattice, visible

GRIDS = [(8, 8, 1), (8, 8, 4), (8, 8, 16), (8, 8, 64), (4, 8, 4), (4, 8, 32), (6, 4, 2), (3, 5, 1), (3, 5, 15)]


def test_one_code_a_step_is_raster_order():
    assert code_order(3, 5, 1).tolist() == [[i] for i in range(15)]


@pytest.mark.parametrize(
    ("height", "width", "tokens_per_step", "split"),
    [
        (8, 8, 16, (2, 2)),
        (8, 8, 4, (4, 4)),
        (8, 8, 32, (1, 2)),  # a tie of 1 x 2 and 2 x 1: p < q
        (8, 8, 8, (2, 4)),
        (8, 8, 64, (1, 1)),
        (4, 8, 4, (2, 4)),
        (8, 4, 4, (2, 4)),  # both fit: p < q although the grid is tall
        (3, 4, 4, (3, 1)),  # 1 x 3 does not divide the width
        (12, 2, 4, (3, 2)),  # 2 x 3 does not, 1 x 6 is less square
        (3, 5, 5, (3, 1)),
        (3, 5, 3, (1, 5)),
    ],
)
def test_lattice_is_as_square_as_the_grid_allows(height, width, tokens_per_step, split):
    assert lattice(height, width, tokens_per_step) == split


@pytest.mark.parametrize(
    ("height", "width", "tokens_per_step"),
    [(8, 8, 0), (8, 8, -4), (8, 8, 3), (8, 8, 128), (5, 5, 2), (4, 6, 5)],
)
def test_impossible_tokens_per_step_is_refused(height, width, tokens_per_step):
    with pytest.raises(ValueError, match=r"tokens_per_step is .*\d"):
        TokenLayout.of(height, width, tokens_per_step)


def test_every_divisor_of_a_grid_tiles_it():
    """g | h * w means that gcd(g, h) by g / gcd(g, h) fits, so only numbers that do not divide are refused."""
    for height, width in [(1, 7), (2, 18), (5, 6), (9, 12)]:
        for tokens_per_step in range(1, height * width + 1):
            if height * width % tokens_per_step == 0:
                p, q = lattice(height, width, tokens_per_step)
                assert (height % p, width % q, p * q * tokens_per_step) == (0, 0, height * width)


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_bit_reversed_reverses_bits(count):
    bits = count.bit_length() - 1
    assert bit_reversed(count) == [sum(((i >> b) & 1) << (bits - 1 - b) for b in range(bits)) for i in range(count)]


@pytest.mark.parametrize("count", [3, 5, 6, 12, 100])
def test_bit_reversed_of_any_count_is_a_spreading_permutation(count):
    order = bit_reversed(count)
    assert sorted(order) == list(range(count))
    assert order[0] == 0
    assert abs(order[1] - count / 2) <= count / 4 + 1  # the second lands near the middle


@pytest.mark.parametrize(("height", "width", "tokens_per_step"), GRIDS)
def test_groups_are_residue_classes_in_bit_reversed_order(height, width, tokens_per_step):
    groups = code_order(height, width, tokens_per_step).tolist()
    assert sorted(code for group in groups for code in group) == list(range(height * width))
    if tokens_per_step == 1:
        return
    p, q = lattice(height, width, tokens_per_step)
    for group, number in zip(groups, bit_reversed(p * q), strict=True):
        cells = [y * width + x for y in range(height) for x in range(width) if (y % p, x % q) == divmod(number, q)]
        assert group == cells  # raster order of the coarse cell


@pytest.mark.parametrize(("height", "width", "tokens_per_step"), GRIDS)
def test_layout_says_what_each_element_holds_and_predicts(height, width, tokens_per_step):
    layout = TokenLayout.of(height, width, tokens_per_step)
    codes, m = height * width, tokens_per_step
    groups = code_order(height, width, m)
    assert (layout.num_steps, layout.num_elements) == (codes // m + 1, codes + m)
    assert layout.step.tolist() == [element // m for element in range(codes + m)]
    for step in range(layout.num_steps):
        span = slice(step * m, (step + 1) * m)
        own = groups[step - 1].tolist() if step else [codes] * m
        target = groups[step].tolist() if step < len(groups) else [codes] * m
        place = own if step else target  # an action element sits at its target's place
        assert layout.own[span].tolist() == own
        assert layout.target[span].tolist() == target
        assert (layout.row[span] * width + layout.column[span]).tolist() == place


@pytest.mark.parametrize(("height", "width", "tokens_per_step"), GRIDS)
def test_inverse_brings_generated_codes_back_to_raster_order(height, width, tokens_per_step):
    layout = TokenLayout.of(height, width, tokens_per_step)
    frame = torch.randperm(height * width)
    assert torch.equal(frame[layout.order][layout.inverse], frame)


def test_mask_rule_by_definition():
    window, frames, steps = 3, 6, 3
    times = torch.arange(frames).repeat_interleave(steps)
    step = torch.arange(steps).repeat(frames)
    mask = visible(times, step, times, step, window)
    for q in range(frames * steps):
        for k in range(frames * steps):
            t_q, t_k, s_q, s_k = q // steps, k // steps, q % steps, k % steps
            assert mask[q, k] == (0 <= t_q - t_k < window and (t_k < t_q or s_k <= s_q))
