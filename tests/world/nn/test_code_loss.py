"""The chunked cross-entropy over distances: values and gradients of the plain formula, under autocast too."""

import pytest
import torch
import torch.nn.functional as F

from oneiros.world.nn.code_loss import ROWS_PER_CHUNK, distance_cross_entropy, distance_logits, neighbourly_targets


def case(rows, spread=0.0):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(rows, 6, generator=generator, requires_grad=True)
    codebook = torch.randn(20, 6, generator=generator)
    log_scale = torch.tensor(0.7, requires_grad=True)
    codes = torch.randint(20, (rows,), generator=generator)
    return query, codebook, log_scale, codes, neighbourly_targets(codebook, spread)


def plain(query, codebook, log_scale, codes, spread):
    """In float64, with autograd's own slopes."""
    q, scale = query.detach().double().requires_grad_(), log_scale.detach().double().requires_grad_()
    logits = -scale.exp() * (q[:, None] - codebook.double()).norm(dim=-1)
    between = (codebook[codes][:, None].double() - codebook.double()).norm(dim=-1)
    wanted = (-(between**2) / (2 * spread**2)).softmax(-1) if spread else F.one_hot(codes, 20).double()
    return q, scale, logits, -(wanted * logits.log_softmax(-1)).sum(-1)


@pytest.mark.parametrize("spread", [0.0, 1.5])
@pytest.mark.parametrize("rows", [1, ROWS_PER_CHUNK - 1, ROWS_PER_CHUNK, 2 * ROWS_PER_CHUNK + 3])
def test_values_and_gradients_are_those_of_the_plain_formula(rows, spread):
    query, codebook, log_scale, codes, targets = case(rows, spread)
    q, scale, logits, expected = plain(query, codebook, log_scale, codes, spread)
    losses, hits = distance_cross_entropy(query, codebook, log_scale, codes, targets)
    torch.testing.assert_close(losses.double(), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(hits, logits.argmax(-1) == codes)
    weights = torch.linspace(-1, 2, rows)
    (losses * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(query.grad.double(), q.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(log_scale.grad.double(), scale.grad, atol=1e-3, rtol=1e-4)


def test_nothing_to_predict_gives_nothing():
    losses, hits = distance_cross_entropy(*case(0))
    assert losses.shape == hits.shape == (0,)
    losses.sum().backward()


def test_logits_agree_with_the_loss():
    query, codebook, log_scale, codes, targets = case(50)
    logits = distance_logits(query.view(5, 10, 6), codebook, log_scale.exp())
    losses, _ = distance_cross_entropy(query, codebook, log_scale, codes, targets)
    torch.testing.assert_close(F.cross_entropy(logits.flatten(0, 1), codes, reduction="none"), losses)


def test_a_query_on_its_code_is_sure_and_has_a_finite_slope():
    _, codebook, log_scale, codes, targets = case(5)
    query = codebook[codes].clone().requires_grad_()
    losses, hits = distance_cross_entropy(query, codebook, log_scale + 3, codes, targets)
    losses.sum().backward()
    assert hits.all()
    assert losses.max() < 0.1
    assert query.grad.isfinite().all()


def test_autocast_around_it_does_not_reach_the_distances():
    """Squared distances in bf16 would cancel to noise."""
    query, codebook, log_scale, codes, targets = case(300)
    expected, _ = distance_cross_entropy(query, codebook, log_scale, codes, targets)
    logits = distance_logits(query, codebook, log_scale.exp())
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = distance_cross_entropy(query, codebook, log_scale, codes, targets)
        torch.testing.assert_close(distance_logits(query, codebook, log_scale.exp()), logits)
    torch.testing.assert_close(losses, expected)
    losses.sum().backward()
    assert query.grad.dtype == torch.float32


def test_near_codes_share_a_target_and_none_is_plain():
    codebook = torch.tensor([[0.0], [1.0], [50.0]])
    assert torch.equal(neighbourly_targets(codebook, 0.0), torch.eye(3))
    shared = neighbourly_targets(codebook, 1.0)
    torch.testing.assert_close(shared.sum(-1), torch.ones(3))
    assert float(shared[0, 1] / shared[0, 0]) == pytest.approx(2.718281828**-0.5, rel=1e-5)
    assert shared[2].tolist() == [0.0, 0.0, 1.0]
