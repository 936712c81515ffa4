"""Codes of several levels in the dynamics: what enters, what is scored, what is learned and what is drawn."""

import pytest
import torch
import torch.nn.functional as F

from oneiros.nn.per_sample import PerSample
from oneiros.world.nn.code_loss import distance_logits, neighbourly_targets
from oneiros.world.nn.codebooks import code_of, digits_of, vectors_of
from oneiros.world.nn.dynamics import Dynamics
from oneiros.world.nn.noise import corrupted_codes

LEVELS, SIZE, WIDTH, DIM = 3, 6, 5, 32


def make_dynamics(**options) -> Dynamics:
    torch.manual_seed(0)
    codebook = torch.cat([torch.randn(SIZE, WIDTH) * spread + 2 * spread for spread in (3.0, 1.0, 0.5)])
    dynamics = Dynamics(
        grid=(2, 4),
        codebook=codebook,
        codebook_levels=LEVELS,
        dim=DIM,
        depth=1,
        head_dim=16,
        tokens_per_step=2,
        **options,
    )
    with torch.no_grad():
        for name, parameter in dynamics.named_parameters():
            if not name.endswith("log_scale"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return dynamics.eval()


def some_codes(*shape: int) -> torch.Tensor:
    return torch.randint(SIZE**LEVELS, shape, generator=torch.Generator().manual_seed(1))


def scores(dynamics: Dynamics, outputs: torch.Tensor, digits: list[torch.Tensor]) -> list[torch.Tensor]:
    """Logits (..., K) of each level where the levels before it are `digits`, written out."""
    normed, levels = dynamics.output_norm(outputs), dynamics.levels
    logits = [distance_logits(dynamics.leave(normed), levels[0], dynamics.log_scale.exp())]
    for level, finer in enumerate(dynamics.finer, 1):
        above = sum(levels[before][digits[before]] for before in range(level))
        hidden = F.silu(normed @ finer.read.weight.T + finer.read.bias + above @ finer.above.weight.T)
        query = hidden @ finer.leave.weight.T + finer.leave.bias
        logits.append(distance_logits(query, levels[level], finer.log_scale.exp()))
    return logits


def test_the_sum_of_normalised_entries_is_the_normalised_sum():
    torch.manual_seed(2)
    codebook = torch.randn(LEVELS * SIZE, WIDTH) + 4
    dynamics = make_dynamics()
    dynamics.set_codebook(codebook)
    codes = some_codes(20)
    whole = vectors_of(codes, codebook.unflatten(0, (LEVELS, SIZE)))
    expected = (whole - dynamics.codebook_mean) / dynamics.codebook_spread
    torch.testing.assert_close(vectors_of(codes, dynamics.levels), expected, atol=1e-4, rtol=1e-4)


def test_what_enters_is_the_sum_of_a_codes_entries():
    dynamics, codes = make_dynamics(), some_codes(2, 3, 8)
    layout = dynamics.layout
    positions = dynamics.own_position(layout.own) + dynamics.target_position(layout.target)
    content = dynamics.elements(codes, torch.zeros(2, 3, DIM)) - positions
    expected = dynamics.enter(vectors_of(codes[..., layout.order], dynamics.levels))
    torch.testing.assert_close(content[..., layout.tokens_per_step :, :], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_the_loss_is_the_sum_over_levels_each_given_those_before(spread):
    dynamics, codes, outputs = make_dynamics(target_spread=spread), some_codes(4, 7), torch.randn(4, 7, DIM)
    digits = digits_of(codes, SIZE, LEVELS)
    logits = scores(dynamics, outputs, digits)
    expected = torch.zeros(4, 7)
    for level, (of_level, digit) in enumerate(zip(logits, digits, strict=True)):
        entries = dynamics.levels[level]
        width = spread * (1.0 if level == 0 else float(entries.std()))
        expected -= (neighbourly_targets(entries, width)[digit] * of_level.log_softmax(-1)).sum(-1)
    losses, hits = dynamics.code_losses(outputs, codes)
    torch.testing.assert_close(losses, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(hits, logits[0].argmax(-1) == digits[0])


def test_gradients_reach_every_level():
    dynamics = make_dynamics()
    dynamics.code_losses(torch.randn(4, 7, DIM), some_codes(4, 7))[0].sum().backward()
    for finer in dynamics.finer:
        assert all(parameter.grad.abs().amax() > 0 for parameter in finer.parameters())


def test_each_level_is_drawn_given_those_before():
    dynamics, outputs = make_dynamics(), torch.randn(2, 3, DIM)
    seen = []

    def second_best(logits: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        seen.append((logits, entries))
        return logits.topk(2, dim=-1).indices[..., 1]

    with torch.no_grad():
        codes = dynamics.draw(outputs, second_best)
        digits = digits_of(codes, SIZE, LEVELS)
        for level, expected in enumerate(scores(dynamics, outputs, digits)):
            logits, entries = seen[level]
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
            assert torch.equal(entries, dynamics.levels[level])
            assert torch.equal(digits[level], logits.topk(2, dim=-1).indices[..., 1])


def test_both_branches_of_guidance_are_given_what_was_drawn():
    dynamics, outputs = make_dynamics(), torch.randn(4, 3, DIM)
    seen = []

    def choose(logits: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        seen.append(logits)
        return logits[:2].argmax(-1)

    with torch.no_grad():
        digits = digits_of(dynamics.draw(outputs, choose), SIZE, LEVELS)
        expected = scores(dynamics, outputs, [digit.repeat(2, 1) for digit in digits])
    for ours, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_corrupted_codes_are_random_in_every_level():
    codes = torch.zeros(1, 1, 4000, dtype=torch.int64)
    corrupted = corrupted_codes(codes, 1.0, SIZE, LEVELS, PerSample(torch.tensor([3])))
    for digit in digits_of(corrupted[corrupted > 0], SIZE, LEVELS):
        assert (torch.bincount(digit, minlength=SIZE) > 0.1 * digit.numel() / SIZE).all()
    assert corrupted.max() < SIZE**LEVELS
    assert torch.equal(code_of(digits_of(corrupted, SIZE, LEVELS), SIZE), corrupted)
