"""Guidance, min-p and draws against golden vectors and against their definitions."""

import pytest
import torch
from safetensors.torch import load_file

from oneiros.sampling import Sampling
from oneiros.world.nn.sampling import draw, guide, min_p_mask
from tests import places

GOLDEN = places.GOLDEN / "genie2_sampling.safetensors"
CODEBOOK = torch.zeros(9, 2)  # which only the mean looks at


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_guidance_equals_golden(scale, keep):
    golden = load_file(GOLDEN)
    conditional, unconditional = golden["guidance.conditional"], golden["guidance.unconditional"]
    guided = guide(conditional, unconditional, scale=scale, parallel_keep_fraction=keep)
    torch.testing.assert_close(guided, golden[f"guidance.output.scale{scale}.keep{keep}"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("min_p", [0.05, 0.1, 0.3])
def test_min_p_equals_golden(min_p):
    golden = load_file(GOLDEN)
    assert torch.equal(min_p_mask(golden["min_p.logits"], min_p), golden[f"min_p.kept.{min_p}"])


def test_guidance_splits_over_all_entries_of_a_batch_element_in_float64():
    generator = torch.Generator().manual_seed(0)
    conditional, unconditional = (torch.randn(3, 4, 7, generator=generator) for _ in range(2))
    guided = guide(conditional, unconditional, scale=2.5, parallel_keep_fraction=0.25)
    for sample in range(3):
        c, u = conditional[sample].double().flatten(), (conditional - unconditional)[sample].double().flatten()
        parallel = (u @ c) / (c @ c) * c
        expected = c + 1.5 * (0.25 * parallel + (u - parallel))
        torch.testing.assert_close(guided[sample].double().flatten(), expected, atol=1e-6, rtol=1e-6)
    assert guided.dtype == conditional.dtype
    # A far larger second sample changes nothing for the first, and large offsets lose nothing.
    shifted = guide(conditional * torch.tensor([1.0, 1e6, 1.0]).view(3, 1, 1), unconditional, scale=2.5)
    torch.testing.assert_close(shifted[0], guide(conditional[:1], unconditional[:1], scale=2.5)[0])


def test_guidance_edges():
    conditional, unconditional = torch.randn(2, 5), torch.randn(2, 5)
    assert torch.equal(guide(conditional, unconditional, scale=1.0), conditional)
    kept_whole = guide(conditional, unconditional, scale=3.0, parallel_keep_fraction=1.0)
    torch.testing.assert_close(kept_whole, conditional + 2 * (conditional - unconditional))
    assert guide(torch.zeros(1, 4), torch.ones(1, 4), scale=2.0).isfinite().all()
    with pytest.raises(ValueError, match="equal shapes"):
        guide(conditional, unconditional[:, :4], scale=2.0)


def test_min_p_keeps_by_ratio_to_the_most_probable():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log() + 40.0  # an offset means nothing
    assert min_p_mask(logits, 0.4).tolist() == [[True, True, False, False]]
    assert min_p_mask(logits, 0.0).all()
    assert min_p_mask(logits, 1.0).tolist() == [[True, False, False, False]]


def frequencies(logits: torch.Tensor, sampling: Sampling, draws: int = 20_000) -> torch.Tensor:
    codes = draw(logits.expand(draws, -1), sampling, torch.Generator().manual_seed(0), CODEBOOK)
    return codes.bincount(minlength=logits.shape[-1]) / draws


def test_draws_follow_the_tempered_distribution_of_what_untempered_min_p_kept():
    probabilities = torch.tensor([0.5, 0.3, 0.12, 0.05, 0.03])
    sampled = frequencies(probabilities.log(), Sampling(temperature=2.0, min_p=0.2))
    expected = torch.tensor([0.5, 0.3, 0.12, 0, 0]).sqrt()  # at temperature 2, min-p would have kept 0.05 too
    torch.testing.assert_close(sampled, expected / expected.sum(), atol=0.015, rtol=0)
    assert sampled[3:].eq(0).all()


def test_top_k_keeps_the_k_likeliest():
    logits = torch.tensor([0.1, 3.0, 2.9, 2.8, 0.2])
    sampled = frequencies(logits, Sampling(temperature=1.0, min_p=0.0, top_k=2))
    torch.testing.assert_close(sampled[[1, 2]], logits[[1, 2]].softmax(0), atol=0.015, rtol=0)
    assert sampled[[0, 3, 4]].eq(0).all()
    assert (frequencies(logits, Sampling(temperature=1.0, min_p=0.0, top_k=99)) > 0).all()


def test_temperature_zero_takes_the_likeliest_and_draws_nothing():
    logits, before = torch.randn(3, 4, 9), torch.random.get_rng_state()
    assert torch.equal(draw(logits, Sampling(temperature=0.0), None, CODEBOOK), logits.argmax(-1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_mean_finds_the_middle_where_near_codes_share_what_a_far_one_has_alone():
    logits, codebook = torch.tensor([[0.3, 0.3, 0.4]]).log(), torch.tensor([[0.0], [0.1], [1.0]])
    assert draw(logits, Sampling(temperature=0.0), None, codebook).tolist() == [2]
    assert draw(logits, Sampling(temperature=0.0, estimate="mean"), None, codebook).tolist() == [1]


def test_randomness_comes_from_the_generator_alone():
    logits, before = torch.zeros(100, 9), torch.random.get_rng_state()
    first, second, other = (
        draw(logits, Sampling(), torch.Generator().manual_seed(seed), CODEBOOK) for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "wrong", [{"temperature": -0.1}, {"min_p": 1.5}, {"min_p": -0.1}, {"top_k": 0}, {"estimate": "x"}]
)
def test_impossible_sampling_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)
