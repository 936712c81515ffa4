"""The tokenizer: codes and back, what its loss is made of, padding, and a codebook that learns once a step."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from oneiros.records import Clip
from oneiros.world.nn.codebooks import code_of, digits_of, nearest, vectors_of
from oneiros.world.nn.codec import IdentityCodec, ImageCodec
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from tests.world.test_codecs import PairCodec
from tests.world.worlds import make_tokenizer, scramble


def clip_of(tokenizer, batch=2, frames=5, seed=0) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    config = tokenizer.config
    pixels = torch.rand(batch, frames, config.channels, config.height, config.width, generator=generator) * 2 - 1
    return Clip(pixels, None, torch.ones(batch, frames, dtype=torch.bool))


def small(**options) -> Tokenizer:
    torch.manual_seed(0)
    config = TokenizerConfig(height=16, width=24, codebook_size=16, code_dim=4, codec_width=8, codec_depth=1, **options)
    tokenizer = Tokenizer(config, trainable=True)
    tokenizer.start_codebook(torch.randn(16, 4) * 0.3)
    return tokenizer


def test_codes_are_the_nearest_vectors():
    tokenizer = small().eval()
    clip = clip_of(tokenizer)
    codes = tokenizer.encode(clip.frames)
    with torch.no_grad():
        latents = tokenizer.codec.encode(clip.frames).double()
    distance = (latents.movedim(2, -1).flatten(2, 3)[..., None, :] - tokenizer.codebook.double()).norm(dim=-1)
    assert (codes.shape, codes.dtype) == ((2, 5, 6), torch.int64)
    assert torch.equal(codes, distance.argmin(-1))


@pytest.mark.parametrize("float32", [False, True])
def test_a_decoder_in_bf16_changes_pixels_by_rounding_alone(float32, monkeypatch):
    """Where it is faster, and not where float32 is asked for."""
    monkeypatch.setattr("oneiros.world.tokenizer.bf16_is_faster", lambda device: True)
    tokenizer, codes = small().eval(), torch.randint(16, (2, 4, 6))
    exact = tokenizer.decode(codes)
    seen = clip_of(tokenizer).frames
    known = tokenizer.encode(seen)
    tokenizer.prepare_for_inference(float32=float32)
    rounded = tokenizer.decode(codes)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, exact) is float32
    assert (rounded - exact).abs().max() < 0.02
    assert torch.equal(tokenizer.encode(seen), known)  # what is seen is encoded as before


def test_decode_stays_in_range_and_takes_frames_apart():
    tokenizer = small().eval()
    codes = torch.randint(16, (2, 4, 6))
    frames = tokenizer.decode(codes)
    assert frames.shape == (2, 4, 3, 16, 24)
    assert frames.abs().max() <= 1
    torch.testing.assert_close(tokenizer.decode(codes[1:, 2:]), frames[1:, 2:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("temporal_convs", [False, True])
def test_total_is_the_weighted_sum_of_its_parts(temporal_convs):
    weights = {"commitment_weight": 0.7, "latent_reconstruction_weight": 0.3}
    tokenizer = make_tokenizer(trainable=True, temporal_convs=temporal_convs, **weights)
    loss = tokenizer(clip_of(tokenizer))
    expected = loss.parts["tokenizer/reconstruction"] + 0.7 * loss.parts["tokenizer/commitment"]
    assert ("tokenizer/latent_reconstruction" in loss.parts) == temporal_convs
    if temporal_convs:
        expected = expected + 0.3 * loss.parts["tokenizer/latent_reconstruction"]
    torch.testing.assert_close(loss.total.detach(), expected)
    assert all(part > 0 and not part.requires_grad for part in loss.parts.values())


def test_parts_are_what_they_are_called():
    tokenizer = make_tokenizer(trainable=True, temporal_convs=True)
    clip = clip_of(tokenizer)
    latents = tokenizer.codec.encode(clip.frames)
    entered = tokenizer.before(latents)
    vectors = tokenizer.vectors(tokenizer.encode(clip.frames))
    restored = tokenizer.after(vectors)
    parts = tokenizer(clip).parts
    torch.testing.assert_close(parts["tokenizer/commitment"], (entered - vectors).square().mean())
    torch.testing.assert_close(parts["tokenizer/latent_reconstruction"], (restored - latents).square().mean())
    torch.testing.assert_close(parts["tokenizer/reconstruction"], (restored - clip.frames).square().mean())


def test_default_weights_are_the_specs():
    config = TokenizerConfig()
    assert (config.commitment_weight, config.latent_reconstruction_weight, config.temporal_kernel_size) == (1.0, 0.2, 5)
    assert not config.temporal_convs


def video_tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    config = TokenizerConfig(height=2, width=4, channels=2, code_dim=4, codebook_size=12, external_codec=True)
    tokenizer = Tokenizer(config, PairCodec(), trainable=True)
    tokenizer.start_codebook(tokenizer.codebook.clone())
    return tokenizer


@pytest.mark.parametrize(
    "make",
    [small, lambda: make_tokenizer(trainable=True, temporal_convs=True), video_tokenizer],
    ids=["image", "temporal convolutions", "video"],
)
def test_padding_changes_neither_loss_nor_gradient_nor_codebook(make):
    """A ragged batch is its valid frames alone: here 2 clips of 5 and 3 frames, in wildly padded 7."""
    seen = []
    for padded in (True, False):
        tokenizer = make()
        clip = clip_of(tokenizer, frames=5)
        if padded:
            garbage = torch.full_like(clip.frames[:, :2], 50.0)
            clip = Clip(torch.cat([clip.frames, garbage], 1), None, torch.ones(2, 7, dtype=torch.bool))
            clip.valid[:, 5:] = False
        clip.valid[1, 3:] = False
        clip.frames[1, 3:] = 50.0 if padded else -3.0
        loss = tokenizer(clip)
        if loss.total.requires_grad:  # the video codec has nothing to learn
            loss.total.backward()
        tokenizer.after_step()
        gradients = [p.grad for p in tokenizer.parameters() if p.grad is not None]
        seen.append((loss.total.detach(), loss.parts, gradients, tokenizer.codebook.clone()))
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=1e-4)


def test_a_ragged_batch_is_the_mean_over_its_frames():
    tokenizer = make_tokenizer(trainable=True)
    clip = clip_of(tokenizer)
    clip.valid[1, 2:] = False
    alone = [
        tokenizer(Clip(clip.frames[row : row + 1, :count], None, clip.valid[row : row + 1, :count])).total
        for row, count in ((0, 5), (1, 2))
    ]
    torch.testing.assert_close(tokenizer(clip).total, (5 * alone[0] + 2 * alone[1]) / 7)


def test_half_padded_video_latents_are_not_learned_from():
    tokenizer = video_tokenizer()
    clip = clip_of(tokenizer, frames=7)
    alone = tokenizer(Clip(clip.frames[:, :5], None, clip.valid[:, :5]))
    clip.valid[:, 6:] = False
    torch.testing.assert_close(tokenizer(clip).total, alone.total)


# -- the codebook --------------------------------------------------------------------------------------------------


def test_the_codebook_moves_once_a_step_over_all_micro_batches():
    whole, cut = (make_tokenizer(trainable=True) for _ in range(2))
    clip = clip_of(whole, batch=4)
    before = whole.codebook.clone()
    whole(clip)
    for row in range(4):
        cut(Clip(clip.frames[row : row + 1], None, clip.valid[row : row + 1]))
    assert torch.equal(whole.codebook, before)
    assert torch.equal(cut.codebook, before)
    for tokenizer in (whole, cut):
        tokenizer.after_step()
    assert not torch.equal(whole.codebook, before)
    torch.testing.assert_close(cut.codebook, whole.codebook)
    moved = whole.codebook.clone()
    whole.after_step()  # nothing seen since
    assert torch.equal(whole.codebook, moved)


def test_evaluation_leaves_the_codebook_alone():
    tokenizer = make_tokenizer(trainable=True)
    before = tokenizer.codebook.clone()
    with torch.no_grad():
        tokenizer(clip_of(tokenizer))
    tokenizer.eval()(clip_of(tokenizer))
    tokenizer.after_step()
    assert torch.equal(tokenizer.codebook, before)


def test_codes_in_use_move_towards_their_latents():
    tokenizer = make_tokenizer(trainable=True)
    clip = clip_of(tokenizer, batch=8)
    for _ in range(600):
        tokenizer(clip)
        tokenizer.after_step()
    codes = tokenizer.encode(clip.frames).flatten()
    latents = clip.frames.flatten(3).movedim(2, -1).flatten(0, 2)
    for code in codes.unique():
        torch.testing.assert_close(tokenizer.codebook[code], latents[codes == code].mean(0), atol=0.1, rtol=0)


def test_going_on_from_an_earlier_codebook_keeps_codes_the_first_batch_does_not_use():
    tokenizer = make_tokenizer(trainable=True, codebook_size=64)
    codebook = tokenizer.codebook.clone()
    clip = clip_of(tokenizer, batch=1, frames=1)
    used = tokenizer.encode(clip.frames).unique()
    assert len(used) < 64
    tokenizer(clip)
    tokenizer.after_step()
    unused = [code for code in range(64) if code not in used]
    torch.testing.assert_close(tokenizer.codebook[unused], codebook[unused], atol=1e-3, rtol=0)


def test_codes_nobody_uses_are_revived():
    tokenizer = make_tokenizer(trainable=True, codebook_size=16, codebook_decay=0.8)
    with torch.no_grad():
        tokenizer.codebook[10:] = 100.0
    tokenizer.start_codebook(tokenizer.codebook.clone())
    clip = clip_of(tokenizer, batch=4)
    for _ in range(60):
        tokenizer(clip)
        tokenizer.after_step()
    assert tokenizer.codebook.abs().max() < 2
    assert tokenizer(clip).parts["tokenizer/codebook_use"] > 0.9


def test_gradients_pass_the_quantiser_to_the_encoder():
    """By the rotation trick; without it or a straight-through estimate the encoder would feel the commitment alone."""
    tokenizer = small(commitment_weight=0.0)
    tokenizer(clip_of(tokenizer)).total.backward()
    assert tokenizer.codec.encoder[0].weight.grad.abs().amax() > 0


def test_gradients_are_turned_and_scaled_as_latents_are_to_their_vectors():
    """The rotation trick (arXiv 2410.06424), not the straight-through estimate, which leaves a gradient's length."""
    quantiser = make_tokenizer(trainable=True).quantiser
    latents = torch.randn(5, 4, requires_grad=True)
    vectors, _, _ = quantiser(latents, torch.ones(5, dtype=torch.bool))
    upstream = torch.randn(5, 4)
    vectors.backward(upstream)
    scale = vectors.detach().norm(dim=-1) / latents.detach().norm(dim=-1)
    torch.testing.assert_close(latents.grad.norm(dim=-1), upstream.norm(dim=-1) * scale)
    assert not torch.allclose(latents.grad, upstream * scale[:, None])


def test_without_the_rotation_trick_gradients_go_straight_through():
    quantiser = make_tokenizer(trainable=True, rotation_trick=False).quantiser
    latents, upstream = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)
    quantiser(latents, torch.ones(5, dtype=torch.bool))[0].backward(upstream)
    torch.testing.assert_close(latents.grad, upstream)


# -- several levels ------------------------------------------------------------------------------------------------


def test_codes_of_levels_are_digits_of_one_number():
    digits = [torch.tensor([2, 0]), torch.tensor([1, 4]), torch.tensor([3, 0])]
    codes = code_of(digits, 5)
    assert codes.tolist() == [2 * 25 + 5 + 3, 20]
    assert all(torch.equal(*pair) for pair in zip(digits_of(codes, 5, 3), digits, strict=True))


def test_each_level_adds_what_the_levels_before_left_out():
    codebook = torch.tensor([[[0.0, 0.0], [8.0, 0.0]], [[0.0, 1.0], [0.0, -1.0]]])
    vectors = torch.tensor([[7.0, -0.8], [0.5, 2.0]])
    codes = nearest(vectors, codebook)
    assert codes.tolist() == [3, 0]
    assert vectors_of(codes, codebook).tolist() == [[8.0, -1.0], [0.0, 1.0]]
    along = torch.tensor([[[0.0, 0.0], [8.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]]])
    assert nearest(torch.tensor([[7.0, 0.0]]), along).tolist() == [3]  # of what is left; of the vector itself, 2


def test_of_equal_entries_the_first_is_taken_whatever_rounding_says():
    entries = torch.tensor([[[1.0, 2.0], [1.0, 2.0], [5.0, 5.0]]])
    entries[0, 1] += 1e-6
    vectors = entries[0, 1] + torch.tensor([[0.5, 0.5], [0.3, 0.1]])
    assert nearest(vectors, entries).tolist() == [0, 0]


def test_more_levels_lose_less_of_the_latents():
    lost = []
    for levels in (1, 2, 3):
        size = {"height": 4, "width": 8, "channels": 4, "code_dim": 4, "codebook_size": 16, "external_codec": True}
        tokenizer = Tokenizer(TokenizerConfig(codebook_levels=levels, **size), IdentityCodec(), trainable=True)
        clip = clip_of(tokenizer, batch=32)
        tokenizer.begin(clip.frames)
        for _ in range(30):
            tokenizer(clip)
            tokenizer.after_step()
        codes = tokenizer.encode(clip.frames)
        assert codes.max() < 16**levels
        lost.append((tokenizer.decode(codes) - clip.frames.clamp(-1, 1)).square().mean())
    assert lost[1] < 0.6 * lost[0]
    assert lost[2] < 0.7 * lost[1]


def test_the_linear_path_begins_as_good_as_principal_components():
    torch.manual_seed(0)
    basis, weights = torch.randn(6, 3 * 64), torch.randn(8, 2, 2, 6) * 0.02
    patches = weights @ basis + 0.1
    frames = F.pixel_shuffle(patches.movedim(-1, 1), 8)[:, None]  # patches that six numbers describe
    codec = ImageCodec(latent_dim=6, width=8, depth=1, linear_path=True)
    codec.begin(frames)
    latents = codec.encode(frames)
    torch.testing.assert_close(codec.decode(latents), frames, atol=1e-4, rtol=0)
    one, other = latents[0, 0].flatten(1).T, latents[1, 0].flatten(1).T
    apart = (F.pixel_unshuffle(frames[0], 8) - F.pixel_unshuffle(frames[1], 8)).flatten(2)[0].T
    torch.testing.assert_close((one - other).norm(dim=-1), apart.norm(dim=-1), atol=1e-4, rtol=1e-4)


def test_a_tokenizer_for_use_refuses_to_train():
    tokenizer = make_tokenizer()
    with pytest.raises(ValueError, match="trainable=True"):
        tokenizer(clip_of(tokenizer))


def test_a_batch_can_be_overfitted():
    torch.manual_seed(0)
    tokenizer = small(temporal_convs=True)
    optimiser = torch.optim.AdamW(tokenizer.parameters(), 3e-3)
    still = clip_of(tokenizer, batch=1, frames=1).frames
    smooth = torch.nn.functional.interpolate(still[:, 0, :, ::8, ::8], size=(16, 24), mode="nearest")[:, None]
    clip = Clip(smooth.expand(-1, 3, -1, -1, -1).clone(), None, torch.ones(1, 3, dtype=torch.bool))
    first = float(tokenizer(clip).parts["tokenizer/reconstruction"])
    for _ in range(150):
        optimiser.zero_grad()
        loss = tokenizer(clip)
        loss.total.backward()
        optimiser.step()
        tokenizer.after_step()
    assert float(loss.parts["tokenizer/reconstruction"]) < 0.02 * first


# -- temporal convolutions -----------------------------------------------------------------------------------------


def test_latents_never_see_the_next_frame():
    tokenizer = make_tokenizer(temporal_convs=True)
    clip = clip_of(tokenizer, frames=8)
    codes = tokenizer.encode(clip.frames)
    frames = clip.frames.clone()
    frames[:, 5:] = 0.9
    assert torch.equal(tokenizer.encode(frames)[:, :5], codes[:, :5])
    other = codes.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 12
    assert torch.equal(tokenizer.decode(other)[:, :5], tokenizer.decode(codes)[:, :5])
    assert not torch.equal(tokenizer.decode(other)[:, 5:], tokenizer.decode(codes)[:, 5:])


def test_decoding_in_parts_with_the_past_equals_decoding_at_once():
    tokenizer = make_tokenizer(temporal_convs=True)
    codes = torch.randint(12, (2, 9, 32))
    whole = tokenizer.decode(codes)
    assert tokenizer.lookback == 4
    for start in range(1, 9):
        part = tokenizer.decode(codes[:, start:], codes[:, :start])
        torch.testing.assert_close(part, whole[:, start:], atol=1e-6, rtol=0)
    assert not torch.allclose(tokenizer.decode(codes[:, 5:]), whole[:, 5:])


def test_temporal_convolutions_are_off_by_default_and_bias_free():
    assert not any("before" in name or "after" in name for name, _ in small().named_parameters())
    names = {n for n, _ in make_tokenizer(temporal_convs=True).named_parameters()}
    assert names == {"before.weight", "after.weight"}


def test_scrambling_reaches_the_convolutions():
    """The builders of these tests must not leave them at the identity."""
    tokenizer = make_tokenizer(temporal_convs=True)
    plain = Tokenizer(replace(tokenizer.config), tokenizer.codec)
    assert not torch.equal(plain.after.weight, tokenizer.after.weight)
    scramble(plain)
    assert plain.after.weight[0].abs().max() > 0
