"""Norms, value residual, feed-forward and residual streams against their formulas."""

import torch
import torch.nn.functional as F

from oneiros.world.nn.blocks import Attention, DynamicsBlock, Residual, SwiGLU


class Everything:
    """A memory without a mask."""

    def attend(self, layer, query, key, value):
        self.value = value
        return F.scaled_dot_product_attention(query, key, value)


def test_swiglu_formula():
    layer, x = SwiGLU(12), torch.randn(2, 12)
    value, gate = (x @ layer.expand.weight.T).chunk(2, -1)
    torch.testing.assert_close(layer(x), (value * gate * gate.sigmoid()) @ layer.contract.weight.T)


def test_values_mix_with_the_first_layers_before_they_are_remembered():
    torch.manual_seed(0)
    rotary = torch.stack([torch.ones(5, 6), torch.zeros(5, 6)])
    attention, memory, x = Attention(dim=32, heads=2, head_dim=16, layer=1), Everything(), torch.randn(1, 5, 32)
    first = torch.randn(1, 5, 2, 16)
    _, values = attention(x, memory, rotary, first)
    own = (x @ attention.value.weight.T).unflatten(-1, (2, 16))
    share = attention.gate(x).sigmoid()[..., None]
    torch.testing.assert_close(values, own * (1 - share) + first * share)
    assert torch.equal(memory.value.transpose(1, 2), values)
    assert Attention(dim=32, heads=2, head_dim=16, layer=0).gate is None


def test_queries_and_keys_are_normalised():
    torch.manual_seed(0)
    rotary = torch.stack([torch.ones(5, 6), torch.zeros(5, 6)])
    attention, x = Attention(dim=32, heads=2, head_dim=16, layer=0), torch.randn(1, 5, 32)
    read, _ = attention(x, Everything(), rotary, None)
    with torch.no_grad():
        attention.query_key.weight.mul_(100)
    torch.testing.assert_close(attention(x, Everything(), rotary, None)[0], read, atol=1e-4, rtol=1e-4)


def test_streams_start_as_a_plain_residual():
    """Hyper-connections begin with the widths' identity: equal streams stay what one stream would be."""
    torch.manual_seed(0)
    rotary = torch.stack([torch.ones(5, 6), torch.zeros(5, 6)])
    plain = DynamicsBlock(dim=32, heads=2, head_dim=16, layer=0, streams=1)
    streamed = DynamicsBlock(dim=32, heads=2, head_dim=16, layer=0, streams=4)
    streamed.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 5, 32)
    expected, _ = plain(x, Everything(), rotary, None)
    got, _ = streamed(x[:, :, None].expand(-1, -1, 4, -1), Everything(), rotary, None)
    torch.testing.assert_close(got.mean(2), expected)


def test_streams_read_mix_and_write_by_their_weights():
    torch.manual_seed(0)
    residual = Residual(dim=8, streams=3, index=1)
    for parameter in residual.parameters():
        torch.nn.init.normal_(parameter)
    x, branch = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 8)
    read, carried, spread = residual.read(x)
    for element in range(2):
        streams = x[0, element]
        normed = residual.norm(streams)
        mix = residual.mix + residual.dynamic_scale[0] * torch.tanh(normed @ residual.dynamic_mix)
        weights = residual.spread + residual.dynamic_scale[1] * torch.tanh(normed @ residual.dynamic_spread)
        torch.testing.assert_close(read[0, element], sum(mix[s, 0] * streams[s] for s in range(3)))
        for out in range(3):
            torch.testing.assert_close(carried[0, element, out], sum(mix[s, 1 + out] * streams[s] for s in range(3)))
        written = residual.write(carried, branch, spread)[0, element]
        torch.testing.assert_close(written, carried[0, element] + weights[:, None] * branch[0, element])
