"""The hand-made norm: values and gradients of the formula, in every precision it meets."""

import pytest
import torch

from oneiros.world.nn.norm import EPSILON, RMSNorm, rms_norm


def formula(x):
    return x * (x.square().mean(-1, keepdim=True) + EPSILON).rsqrt()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_gradients_pass_gradcheck_in_float64(scale):
    x = (torch.randn(3, 2, 5, dtype=torch.float64) * scale).requires_grad_()
    assert torch.autograd.gradcheck(rms_norm, (x,), eps=1e-6 * scale, atol=1e-5 / scale)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_values_and_gradients_are_the_formulas(dtype, tolerance):
    x = torch.randn(7, 33, dtype=torch.float64)
    slope = torch.randn(7, 33, dtype=torch.float64)
    exact = x.clone().requires_grad_()
    formula(exact).backward(slope)
    rounded = x.to(dtype).requires_grad_()
    normed = rms_norm(rounded)
    normed.backward(slope.to(dtype))
    assert normed.dtype == dtype
    torch.testing.assert_close(normed.double(), formula(x), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(rounded.grad.double(), exact.grad, atol=2 * tolerance, rtol=2 * tolerance)


def test_zeros_stay_zero_with_a_finite_slope():
    """Meta tokens start there."""
    x = torch.zeros(2, 4, requires_grad=True)
    rms_norm(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2, 4), EPSILON**-0.5))


def test_the_gain_has_one_entry_a_channel():
    norm, x = RMSNorm(6), torch.randn(2, 6)
    torch.testing.assert_close(norm(x), formula(x))
    torch.nn.init.normal_(norm.weight)
    torch.testing.assert_close(norm(x), formula(x) * norm.weight)
    assert norm(x.bfloat16()).dtype == torch.bfloat16
