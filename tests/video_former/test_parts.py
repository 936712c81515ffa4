"""The Video Former's parts by themselves: attention, masks of frames, alignment with a teacher."""

import json
import math

import pytest
import torch
from safetensors import safe_open

from oneiros.video_former import alignment_loss
from oneiros.video_former.frame_masks import draw_frame_mask
from oneiros.video_former.layers import PerceiverAttention, SelfAttention, TemporalAttention
from tests.places import GOLDEN
from tests.video_former import oracle as oracle


def randomised(module, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in module.to(dtype).state_dict().values():
            tensor.add_(torch.randn_like(tensor) * 0.3)
    return module.eval()


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- attention -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("cross", SelfAttention), ("temporal", TemporalAttention)])
@torch.no_grad()
def test_golden(name, kind):
    path = GOLDEN / f"attention_{name}.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    attention = kind(**config)
    attention.load_reference_weights(
        {key: value for key, value in tensors.items() if key.startswith("weights.")}, prefix="weights.", config=config
    )
    context = {"context": tensors["input.y"]} if kind is SelfAttention else {}
    got = attention(tensors["input.x"], **context)
    torch.testing.assert_close(got, tensors["output.x"], atol=1e-5, rtol=0)


def self_attention_oracle(attention, x, context=None, mask=None):
    """One sample (N, D), one head at a time."""
    w, heads = attention.state_dict(), attention.heads

    def norm(z, name):
        return oracle.layer_norm(z, w, name) if f"{name}.weight" in w else z

    read = []
    for h, (q, k, v) in enumerate(
        zip(*(part.chunk(heads, -1) for part in oracle.linear(x, w, "qkv").chunk(3, -1)), strict=True)
    ):
        q, k = norm(q, "q_norm"), norm(k, "k_norm")
        scores = q @ k.T / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask[h], -math.inf) if mask.dtype == torch.bool else scores + mask[h]
        read.append(torch.softmax(scores, -1) @ v)
        if context is not None:
            k, v = (part.chunk(heads, -1)[h] for part in oracle.linear(context, w, "y_kv").chunk(2, -1))
            read[-1] = read[-1] + math.tanh(w["gate"][h]) * oracle.attend(q, norm(k, "y_k_norm"), v)
    return oracle.linear(torch.cat(read, -1), w, "proj")


@pytest.mark.parametrize("options", [{}, {"qkv_bias": True}, {"qk_norm": True}, {"qkv_bias": True, "qk_norm": True}])
@pytest.mark.parametrize("cross_dim", [None, 5])
@pytest.mark.parametrize("masked", [None, "boolean", "additive"])
@torch.no_grad()
def test_self_attention_equals_the_oracle(options, cross_dim, masked):
    attention = randomised(SelfAttention(dim=12, heads=3, cross_dim=cross_dim, **options))
    x, context = randn(2, 6, 12), None if cross_dim is None else randn(2, 4, cross_dim, seed=2)
    mask = {"boolean": randn(2, 3, 6, 6) > -0.3, "additive": randn(2, 3, 6, 6), None: None}[masked]
    got = attention(x, mask=mask, context=context)
    for b in range(2):
        expected = self_attention_oracle(
            attention, x[b], None if context is None else context[b], None if mask is None else mask[b]
        )
        torch.testing.assert_close(got[b], expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("shape", [(6,), (6, 6), (3, 1, 6), (2, 1, 1, 6), (1, 1, 6, 6), (2, 3, 6, 6), ()])
@torch.no_grad()
def test_masks_broadcast(shape):
    attention, x = randomised(SelfAttention(dim=12, heads=3)), randn(2, 6, 12)
    mask = randn(*shape, seed=3) if shape else torch.tensor(0.5).double()
    full = mask.expand(2, 3, 6, 6).clone()
    torch.testing.assert_close(attention(x, mask=mask), attention(x, mask=full))
    for dtype in (torch.float32, torch.bfloat16):  # of any precision
        rounded = full.to(dtype).double()
        torch.testing.assert_close(attention(x, mask=mask.to(dtype)), attention(x, mask=rounded))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_query_that_may_attend_to_nothing_reads_zeros(dtype):
    attention = randomised(SelfAttention(dim=12, heads=3), dtype=dtype)
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[2] = False
    x = randn(2, 6, 12).to(dtype).requires_grad_()
    for given in (mask, torch.zeros(6, 6).masked_fill(~mask, -math.inf)):
        out = attention(x, mask=given)
        torch.testing.assert_close(out[:, 2], attention.proj.bias.expand(2, -1))
        (slope,) = torch.autograd.grad(out.square().sum(), x)
        assert slope.isfinite().all()


@torch.no_grad()
def test_the_context_starts_behind_a_closed_gate():
    attention = SelfAttention(dim=12, heads=3, cross_dim=5).double()
    x, context = randn(2, 6, 12), randn(2, 4, 5)
    assert attention.gate.shape == (3,)
    plain = SelfAttention(dim=12, heads=3).double()
    plain.load_state_dict(attention.state_dict(), strict=False)
    without = plain(x)
    assert torch.equal(attention(x, context=context), without)
    attention.gate.fill_(1)
    assert not torch.allclose(attention(x, context=context), without)


def test_dropout_is_drawn_in_training_only():
    for name in ("attention_dropout", "output_dropout"):
        attention, x = SelfAttention(dim=64, heads=4, **{name: 0.5}), torch.randn(4, 32, 64)
        full = attention.eval()(x)
        assert torch.equal(full, attention(x))
        attention.train()
        assert not torch.allclose(attention(x), attention(x))
    dropped = attention(x)  # of the output
    zeros = dropped == 0
    assert 0.45 < zeros.float().mean() < 0.55
    torch.testing.assert_close(dropped[~zeros], 2 * full[~zeros])


@torch.no_grad()
def test_temporal_attention_equals_the_oracle():
    attention, x = randomised(TemporalAttention(dim=12, head_dim=5, heads=3)), randn(2, 6, 12)
    w = attention.state_dict()
    for b in range(2):
        normed = oracle.layer_norm(x[b], w, "norm_media")
        q, k, v = (oracle.linear(normed, w, name) for name in ("to_q", "to_k", "to_v"))
        expected = oracle.linear(oracle.by_head(q, k, v, 3), w, "to_out")
        torch.testing.assert_close(attention(x)[b], expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize(("count", "latents"), [(0, 2), (1, 1), (7, 2), (7, 9), (300, 3)])
def test_perceiver_attention_equals_the_oracle_in_either_order(monkeypatch, few, count, latents):
    monkeypatch.setattr(PerceiverAttention, "_few", lambda *_: few)
    attention = randomised(PerceiverAttention(dim=12, head_dim=5, heads=3))
    features, queries = randn(2, count, 12), randn(2, latents, 12, seed=2)
    expected = torch.stack([oracle.perceiver(features[b], queries[b], attention.state_dict(), "", 3) for b in range(2)])
    torch.testing.assert_close(attention(features, queries), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("few", [True, False])
def test_perceiver_attention_has_the_right_gradients_in_either_order(monkeypatch, few):
    monkeypatch.setattr(PerceiverAttention, "_few", lambda *_: few)
    attention = randomised(PerceiverAttention(dim=6, head_dim=3, heads=2))
    weights = dict(attention.named_parameters())

    def run(features, latents, *values):
        return torch.func.functional_call(attention, dict(zip(weights, values, strict=True)), (features, latents))

    inputs = randn(2, 5, 6).requires_grad_(), randn(2, 2, 6, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(run, (*inputs, *weights.values()), fast_mode=True)


def test_few_latents_read_unprojected_features():
    attention = PerceiverAttention(dim=384)
    sizes = {
        (latents, count): attention._few(torch.zeros(1, latents, 384), torch.zeros(1, count + latents, 384))
        for latents, count in [(14, 512), (4, 64), (14, 10), (64, 512), (80, 512)]
    }
    assert sizes == {(14, 512): True, (4, 64): True, (14, 10): True, (64, 512): False, (80, 512): False}


X = randn(2, 6, 12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: SelfAttention(dim=12, heads=5), "dim is 12, which heads, 5, does not divide; 10 or 15 would do"),
        (lambda: SelfAttention(dim=12, heads=3, cross_dim=0), "cross_dim is 0"),
        (lambda: SelfAttention(dim=12, heads=3, attention_dropout=1.5), "attention_dropout is 1.5"),
        (lambda: SelfAttention(dim=12, heads=3, output_dropout=-1), "output_dropout is -1"),
        (lambda: TemporalAttention(dim=12, head_dim=0), "head_dim is 0"),
        (lambda: PerceiverAttention(dim=12, heads=1.5), "heads is 1.5"),
        (lambda: SelfAttention(dim=8)(X), r"x has shape \(2, 6, 12\); \(batch, tokens, 8\) is needed"),
        (lambda: SelfAttention(dim=12, heads=3)(X[0]), r"x has shape \(6, 12\)"),
        (lambda: SelfAttention(dim=12, heads=3).double()(X, context=X), "cross_dim is not"),
        (
            lambda: SelfAttention(dim=12, heads=3, cross_dim=5).double()(X),
            r"no context is given; .*\(batch, tokens, 5\)",
        ),
        (lambda: SelfAttention(dim=12, heads=3, cross_dim=5).double()(X, context=X), r"context has shape \(2, 6, 12\)"),
        (
            lambda: SelfAttention(dim=12, heads=3, cross_dim=12).double()(X, context=X[:1]),
            "context has 1 samples and x 2",
        ),
        (lambda: SelfAttention(dim=12, heads=3).double()(X, mask=torch.ones(5).bool()), r"mask has shape \(5,\)"),
        (lambda: SelfAttention(dim=12, heads=3).double()(X, mask=torch.ones(6, 6).long()), "mask is torch.int64"),
        (lambda: TemporalAttention(dim=8)(X), r"x has shape \(2, 6, 12\)"),
        (lambda: PerceiverAttention(dim=12).double()(X, X[..., :8]), r"latents has shape \(2, 6, 8\)"),
        (lambda: PerceiverAttention(dim=12).double()(X, X[:1]), "features have 2 samples and latents 1"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# -- masks of frames -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_frames", "middle"), [(14, 6), (16, 8), (9, 4)])
def test_frames_are_dropped_as_often_as_the_bell_says(num_frames, middle):
    torch.manual_seed(0)
    dropped = (~draw_frame_mask(20_000, num_frames, probability=0.8)).double().mean(0)
    expected = [0.8 * math.exp(-(((i - middle) / 2) ** 2) / 2) for i in range(num_frames)]
    torch.testing.assert_close(dropped, torch.tensor(expected).double(), atol=0.015, rtol=0)


def test_a_sample_that_would_lose_every_frame_keeps_one_of_them():
    torch.manual_seed(0)
    kept = draw_frame_mask(1000, 1, probability=1.0)
    assert kept.all()
    both = draw_frame_mask(4000, 2, probability=1.0)  # the second is always drawn, the first with 0.88
    assert both.any(1).all()
    alone = both[both.sum(1) == 1]
    assert alone[:, 1].double().mean() == pytest.approx(0.88 / 2, abs=0.03)


# -- alignment -----------------------------------------------------------------------------------------------------


def test_alignment_is_the_masked_mean_of_one_minus_cosine():
    geometry, teacher = randn(2, 3, 6, 5), randn(2, 3, 4, 5, seed=2)  # two extra tokens are not aligned
    cosine = [
        [
            [
                torch.dot(geometry[b, t, n], teacher[b, t, n]) / geometry[b, t, n].norm() / teacher[b, t, n].norm()
                for n in range(4)
            ]
            for t in range(3)
        ]
        for b in range(2)
    ]
    distance = 1 - torch.tensor(cosine).double()
    torch.testing.assert_close(alignment_loss(geometry, teacher), 0.5 * distance.mean())
    torch.testing.assert_close(alignment_loss(geometry, teacher, weight=2.0), 2 * distance.mean())
    for mask in (randn(2, 3) > 0, randn(2, 3, 4) > 0):
        got = alignment_loss(geometry, teacher, mask=mask)
        torch.testing.assert_close(got, 0.5 * distance[mask].mean())
    assert alignment_loss(3 * teacher, teacher) == pytest.approx(0, abs=1e-12)
    assert alignment_loss(-teacher, teacher) == pytest.approx(1)


def test_gradients_of_alignment_reach_what_counts_and_never_the_teacher():
    geometry, teacher = randn(2, 3, 6, 5).requires_grad_(), randn(2, 3, 4, 5, seed=2)
    mask = randn(2, 3, 4) > 0
    teacher[~mask] = math.nan
    teacher.requires_grad_()
    assert torch.autograd.gradcheck(lambda g: alignment_loss(g, teacher, mask=mask), geometry)
    alignment_loss(geometry, teacher, mask=mask).backward()
    assert teacher.grad is None
    assert geometry.grad[:, :, :4][mask].abs().amax(-1).min() > 0
    assert geometry.grad[:, :, :4][~mask].abs().max() == 0
    assert geometry.grad[:, :, 4:].abs().max() == 0


def test_alignment_with_nothing_to_align_is_zero_and_harmless():
    geometry, teacher = randn(2, 3, 4, 5).requires_grad_(), randn(2, 3, 4, 5, seed=2)
    loss = alignment_loss(geometry, teacher, mask=torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert geometry.grad.abs().max() == 0
    blank = torch.zeros(2, 3, 4, 5, requires_grad=True)
    alignment_loss(blank, teacher).backward()
    assert blank.grad.isfinite().all()


def test_alignment_of_half_precision_sums_in_float32():
    geometry, teacher = randn(1, 2, 3, 2048), randn(1, 2, 3, 2048, seed=2)
    got = alignment_loss(geometry.bfloat16(), teacher.bfloat16())
    assert got.dtype == torch.float32
    exact = alignment_loss(geometry.bfloat16().double(), teacher.bfloat16().double())
    torch.testing.assert_close(got.double(), exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("geometry", "teacher", "mask", "words"),
    [
        (randn(2, 3, 4, 5), randn(2, 3, 5, 5), None, r"geometry has shape \(2, 3, 4, 5\) and teacher \(2, 3, 5, 5\)"),
        (randn(2, 3, 4, 5), randn(2, 3, 4, 6), None, r"teacher \(2, 3, 4, 6\)"),
        (randn(2, 3, 4, 5), randn(2, 4, 5), None, r"teacher \(2, 4, 5\)"),
        (randn(2, 3, 4, 5), randn(2, 3, 4, 5), torch.ones(2, 3), "mask is torch.float32"),
        (randn(2, 3, 4, 5), randn(2, 3, 4, 5), torch.ones(2, 4).bool(), r"bool \(2, 3\) or \(2, 3, 4\) is needed"),
    ],
)
def test_bad_alignments_are_named(geometry, teacher, mask, words):
    with pytest.raises(ValueError, match=words):
        alignment_loss(geometry, teacher, mask=mask)
