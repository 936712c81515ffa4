"""Codecs: shapes on square and other grids, frames kept apart, time seen backwards only."""

import pytest
import torch

from oneiros.world.nn.codec import CausalTemporalConv, IdentityCodec, ImageCodec


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 32), (24, 8)])
@pytest.mark.parametrize("channels", [3, 4])
def test_image_codec_has_eight_pixels_a_latent(height, width, channels):
    codec = ImageCodec(channels=channels, latent_dim=6, width=8, depth=1)
    latents = codec.encode(torch.rand(2, 3, channels, height, width))
    assert latents.shape == (2, 3, 6, height // 8, width // 8)
    assert codec.decode(latents).shape == (2, 3, channels, height, width)


def test_image_codec_keeps_frames_apart():
    codec = ImageCodec(latent_dim=6, width=8, depth=1)
    frames = torch.rand(2, 3, 3, 16, 16)
    latents = codec.encode(frames)
    torch.testing.assert_close(codec.encode(frames[1:, 2:]), latents[1:, 2:], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(codec.decode(latents)[1:, 2:], codec.decode(latents[1:, 2:]), atol=1e-6, rtol=1e-5)


def test_identity_codec_passes_latents():
    latents = torch.randn(1, 2, 5, 3, 4)
    assert torch.equal(IdentityCodec().decode(IdentityCodec().encode(latents)), latents)


def test_temporal_conv_is_a_bias_free_sum_over_the_past():
    conv = CausalTemporalConv(dim=3, kernel_size=5)
    latents = torch.randn(2, 7, 3, 2, 4)
    torch.testing.assert_close(conv(latents), latents)  # starts as the identity
    assert [name for name, _ in conv.named_parameters()] == ["weight"]
    torch.nn.init.normal_(conv.weight)
    expected = torch.zeros_like(latents)
    for t in range(7):
        for back in range(min(5, t + 1)):
            expected[:, t] += torch.einsum("bchw,dc->bdhw", latents[:, t - back], conv.weight[-1 - back])
    torch.testing.assert_close(conv(latents), expected)


def test_temporal_conv_never_sees_the_next_latent():
    conv = CausalTemporalConv(dim=3, kernel_size=5)
    torch.nn.init.normal_(conv.weight)
    latents = torch.randn(1, 9, 3, 2, 2)
    later = latents.clone()
    later[:, 5:] = 9.0
    before, after = conv(latents), conv(later)
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any()
    earliest = latents.clone()
    earliest[:, 0] = 9.0
    changed = (conv(earliest) != before).flatten(2).any(-1)[0]
    assert changed.tolist() == [True] * 5 + [False] * 4  # a kernel of 5 reaches 4 back, no further
