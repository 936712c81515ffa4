"""Diffusion against closed forms: data whose best denoiser is known, and what sampling must make of it."""

import math

import pytest
import torch

from oneiros.policy.nn.diffusion import (
    SIGMA_DATA,
    SIGMA_MAX,
    SIGMA_MIN,
    Preconditioning,
    ddim,
    exponential_schedule,
    network_target,
    training_sigmas,
)

LEVELS = torch.tensor([SIGMA_MIN, 0.1, 0.5, 3.0, SIGMA_MAX])


def test_inputs_and_targets_have_unit_variance_at_every_level():
    """Of data with deviation SIGMA_DATA: what the preconditioning is for (EDM, appendix B.6)."""
    generator = torch.Generator().manual_seed(0)
    clean = SIGMA_DATA * torch.randn(200_000, generator=generator)
    noise = torch.randn(200_000, generator=generator)
    for sigma in LEVELS:
        at, noisy = Preconditioning.of(sigma), clean + sigma * noise
        assert float((at.into * noisy).std()) == pytest.approx(1, abs=0.01)
        assert float(network_target(clean, noisy, at).std()) == pytest.approx(1, abs=0.01)
        assert float(at.level) == pytest.approx(math.log(float(sigma)) / 4)


def test_a_network_that_says_the_target_denoises_exactly():
    clean, noise = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    at = Preconditioning.of(LEVELS.double()[:, None])
    noisy = clean + LEVELS.double()[:, None] * noise
    torch.testing.assert_close(at.skip * noisy + at.out * network_target(clean, noisy, at), clean)


def test_a_silent_network_is_the_best_denoiser_of_normal_data():
    """E[clean | noisy] = noisy * s^2 / (s^2 + sigma^2)."""
    at = Preconditioning.of(LEVELS)
    torch.testing.assert_close(at.skip, SIGMA_DATA**2 / (SIGMA_DATA**2 + LEVELS**2))


def test_the_plain_error_of_the_target_is_the_weighted_error_of_the_data():
    at = Preconditioning.of(LEVELS)
    weight = (LEVELS**2 + SIGMA_DATA**2) / (LEVELS * SIGMA_DATA) ** 2  # lambda of EDM, table 1
    torch.testing.assert_close(1 / at.out**2, weight)


def test_training_levels_are_log_logistic():
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    sigmas = training_sigmas(uniform)
    assert bool((sigmas >= SIGMA_MIN).all())
    assert bool((sigmas <= SIGMA_MAX).all())
    assert bool((sigmas.diff() > 0).all())
    for share in (0.1, 0.5, 0.9):  # median SIGMA_DATA, and log(s / median) = scale * logit(share)
        expected = SIGMA_DATA * (share / (1 - share)) ** 0.5
        assert float(sigmas[int(share * 10_000)]) == pytest.approx(expected, rel=0.01)
    assert float(training_sigmas(torch.tensor(0.0))) == pytest.approx(SIGMA_MIN, rel=1e-3)


def test_the_schedule_falls_at_a_constant_ratio_and_ends_at_nothing():
    sigmas = exponential_schedule(10)
    assert float(sigmas[0]) == pytest.approx(SIGMA_MAX)
    assert float(sigmas[-2]) == pytest.approx(SIGMA_MIN)
    assert float(sigmas[-1]) == 0
    ratios = sigmas[1:-1] / sigmas[:-2]
    torch.testing.assert_close(ratios, ratios[0].expand(9))
    assert exponential_schedule(1).tolist() == pytest.approx([SIGMA_MAX, 0])
    with pytest.raises(ValueError, match="steps are 0"):
        exponential_schedule(0)


@pytest.mark.parametrize("steps", [1, 10])
def test_one_datum_is_reached_whatever_the_noise(steps):
    datum, sigmas = torch.tensor([0.3, -1.2]), exponential_schedule(steps)
    made = ddim(lambda noisy, index: datum.expand_as(noisy), torch.randn(64, 2), sigmas)
    torch.testing.assert_close(made, datum.expand(64, 2))


def test_normal_data_comes_out_with_its_deviation():
    sigmas, noise = exponential_schedule(200), torch.randn(1000, 1, dtype=torch.float64)
    at = Preconditioning.of(sigmas)
    made = ddim(lambda noisy, index: at.skip[index] * noisy, noise, sigmas)
    torch.testing.assert_close(made, SIGMA_DATA * noise, rtol=0.03, atol=0)


def test_two_modes_stay_apart_in_ten_steps():
    """Data at -0.5 and 0.5: the best denoiser is 0.5 tanh(0.5 x / sigma^2)."""
    sigmas = exponential_schedule(10)
    noise = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    made = ddim(lambda noisy, index: 0.5 * (0.5 * noisy / sigmas[index] ** 2).tanh(), noise, sigmas)
    assert float((made.abs() - 0.5).abs().max()) < 0.01
    assert torch.equal(made > 0, noise > 0)
