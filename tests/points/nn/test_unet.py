"""Point networks: sizes, invariances, batches, gradients, the pyramid beneath, and what is refused."""

import json
import pickle
from dataclasses import asdict, replace

import pytest
import torch

from oneiros.points.nn.blocks import Gate, Neighborhood, PackNorm, Stem, pool_max, pool_mean
from oneiros.points.nn.pyramid import Pyramid
from oneiros.points.nn.unet import PRESETS, PointUNet, PointUNetConfig
from oneiros.records import PointBatch
from oneiros.run_folder import from_json

CONFIG = PointUNetConfig(
    in_dim=3,
    num_classes=4,
    grid=0.25,
    dims=(8, 16, 24),
    depths=(1, 2, 1),
    num_neighbors=(8, 8, 6),
    shell_radii=(0.0, 0.6),
    shell_points=(1, 6),
    groups=4,
    expansion=2,
)


def cloud(count=150, seed=0) -> PointBatch:
    """Points over a patch of ground, 2 m wide."""
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(count, 3, generator=generator) * torch.tensor([2.0, 2.0, 0.5])
    return PointBatch(xyz, torch.randn(count, 3, generator=generator), None, torch.tensor([0, count]))


def pack(*batches: PointBatch) -> PointBatch:
    counts = torch.tensor([0, *(len(batch.xyz) for batch in batches)])
    return PointBatch(
        torch.cat([batch.xyz for batch in batches]), torch.cat([b.features for b in batches]), None, counts.cumsum(0)
    )


def make_network(config=CONFIG, seed=0) -> PointUNet:
    """In evaluation, with statistics and gains that are not the trivial ones."""
    torch.manual_seed(seed)
    network = PointUNet(config)
    for module in network.modules():
        if isinstance(module, PackNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, Gate):
            torch.nn.init.uniform_(module.gain, 0.5, 1.5)
            torch.nn.init.normal_(module.shift, std=0.5)
    return network.eval().requires_grad_(False)


CLASSIFIER = replace(CONFIG, task="classification")


@pytest.mark.parametrize("config", [CONFIG, CLASSIFIER])
def test_the_order_of_points_does_not_matter(config):
    network, batch = make_network(config), cloud()
    order = torch.randperm(len(batch.xyz), generator=torch.Generator().manual_seed(1))
    shuffled = network(replace(batch, xyz=batch.xyz[order], features=batch.features[order]))
    expected = network(batch)
    torch.testing.assert_close(shuffled, expected if config is CLASSIFIER else expected[order], atol=1e-5, rtol=1e-4)


def test_where_the_cloud_lies_does_not_matter():
    network, batch = make_network(), cloud()
    moved = replace(batch, xyz=batch.xyz + torch.tensor([64.0, -32.0, 8.0]))
    torch.testing.assert_close(network(moved), network(batch), atol=1e-3, rtol=1e-3)


def test_turning_the_cloud_matters():
    network, batch = make_network(), cloud()
    assert (network(replace(batch, xyz=batch.xyz[:, [1, 0, 2]])) - network(batch)).abs().max() > 0.01


@pytest.mark.parametrize("config", [CONFIG, CLASSIFIER])
def test_clouds_of_a_batch_do_not_see_each_other(config):
    network, one, other = make_network(config), cloud(120), cloud(70, seed=2)
    together = network(pack(one, other))
    torch.testing.assert_close(together, torch.cat([network(one), network(other)]), atol=1e-5, rtol=1e-4)


def test_a_gate_over_the_pack_makes_clouds_of_a_batch_see_each_other():
    network, one, other = make_network(replace(CONFIG, gate_norm="pack")), cloud(120), cloud(70, seed=2)
    other = replace(other, features=other.features * 9)
    apart = torch.cat([network(one), network(other)])
    assert (network(pack(one, other)) - apart).abs().max() > 1e-3


def test_every_parameter_learns():
    torch.manual_seed(0)
    network, batch = PointUNet(CONFIG), cloud()
    network(batch).square().sum().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not idle


def test_one_batch_can_be_learned():
    torch.manual_seed(0)
    network, batch = PointUNet(CONFIG), cloud()
    labels = (batch.xyz[:, 0] > 1).long() + 2 * (batch.xyz[:, 2] > 0.25).long()
    pyramid = CONFIG.pyramid(batch.xyz, batch.offsets)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(batch, pyramid), labels).backward()
        optimiser.step()
    assert (network(batch, pyramid).argmax(1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_almost_no_points(count, training):
    network = make_network().train(training)
    logits = network(cloud(count))
    assert logits.shape == (count, 4)
    assert logits.isfinite().all()


def test_a_classifier_gives_a_row_even_to_an_empty_cloud():
    logits = make_network(CLASSIFIER)(pack(cloud(0), cloud(30)))
    assert logits.shape == (2, 4)
    assert logits.isfinite().all()


def test_blocks_dropped_in_every_cloud_leave_the_shortcuts():
    dropping = make_network(replace(CONFIG, drop_path=1.0, decoder_depth=0, depths=(1, 1, 1)))
    last = dropping.encoder[-1][0]
    assert last.drop_path == 1.0
    seen = []
    last.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    last.train()
    dropping(cloud())
    (before, after), *_ = seen
    torch.testing.assert_close(after, torch.nn.functional.leaky_relu(before, 0.1))


def test_parameters_of_the_official_networks():
    config = replace(PRESETS["official-L"], in_dim=5, num_classes=13)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in PointUNet(config).parameters())
    assert round(count / 1e6, 2) == 13.50


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    values = json.loads(json.dumps(asdict(PRESETS[name])))
    assert from_json(PointUNetConfig, values, "the network's config") == PRESETS[name]
    with pytest.raises(ValueError, match="unknown fields in the network's config: breadth"):
        from_json(PointUNetConfig, {**values, "breadth": 1}, "the network's config")


def test_bf16_agrees_with_float32():
    network, batch = make_network(), cloud()
    expected = network(batch)
    with torch.autocast("cpu", torch.bfloat16):
        got = network(batch)
    assert (got - expected).abs().mean() < 0.05 * expected.std()


def test_gradients_reach_the_features_of_a_double_network():
    network, batch = make_network().double(), cloud(12)
    batch = replace(batch, xyz=batch.xyz.double())
    pyramid = CONFIG.pyramid(batch.xyz, batch.offsets)
    features = batch.features.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: network(replace(batch, features=x), pyramid)[::4], features)


def test_points_at_the_same_place():
    network, batch = make_network(), cloud(40)
    twice = pack(batch, batch)
    twice = replace(twice, offsets=torch.tensor([0, 80]))
    logits = network(twice)
    assert logits.isfinite().all()


def test_the_pyramid_of_a_batch():
    batch = pack(cloud(120), cloud(0), cloud(70, seed=2))
    pyramid = CONFIG.pyramid(batch.xyz, batch.offsets)
    assert torch.equal(pyramid.levels[0].xyz, batch.xyz)
    assert pyramid.levels[-1].parents is None
    for number, (fine, coarse) in enumerate(zip(pyramid.levels, pyramid.levels[1:], strict=False)):
        clouds, above = (torch.repeat_interleave(level.offsets.diff()) for level in (fine, coarse))
        assert torch.equal(above[fine.parents], clouds)
        assert torch.equal(fine.parents.unique(), torch.arange(len(coarse.xyz)))
        for parent, barycentre in enumerate(coarse.xyz):
            children = fine.xyz[fine.parents == parent]
            torch.testing.assert_close(children.mean(0), barycentre, atol=1e-5, rtol=1e-5)
            assert (children.amax(0) - children.amin(0)).max() < CONFIG.grid * 2.2 ** (number + 1)
        neighbors = fine.neighbors
        assert torch.equal(neighbors[:, 0], torch.arange(len(fine.xyz)))
        missing = neighbors == len(fine.xyz)
        padded = torch.cat([clouds, torch.tensor([-1])])[neighbors]
        assert torch.equal(torch.where(missing, clouds[:, None], padded), clouds[:, None].expand_as(neighbors))


def test_a_pyramid_travels_between_processes():
    batch = cloud()
    pyramid = CONFIG.pyramid(batch.xyz, batch.offsets)
    back = pickle.loads(pickle.dumps(pyramid)).to("cpu")
    assert isinstance(back, Pyramid)
    network = make_network()
    assert torch.equal(network(batch, back), network(batch))


def test_pooling():
    x, parents = torch.tensor([[1.0, -5.0], [3.0, -7.0], [2.0, 0.0]]), torch.tensor([1, 1, 0])
    assert torch.equal(pool_max(x, parents, 2), torch.tensor([[2.0, 0.0], [3.0, -5.0]]))
    tied = torch.tensor([[1.0], [1.0], [1.0], [0.0], [2.0]], dtype=torch.float64, requires_grad=True)
    pool_max(tied, torch.tensor([0, 1, 0, 0, 1]), 2).backward(torch.tensor([[4.0], [3.0]], dtype=torch.float64))
    assert tied.grad is not None
    assert tied.grad.flatten().tolist() == [2, 0, 2, 0, 3]
    assert torch.equal(pool_mean(x, parents, 3), torch.tensor([[2.0, 0.0], [2.0, -6.0], [0.0, 0.0]]))


def test_the_stem_is_a_full_kernel_at_the_nearest_kernel_point():
    torch.manual_seed(0)
    batch = cloud(40)
    level = CONFIG.pyramid(batch.xyz, batch.offsets).levels[0]
    kernel = torch.randn(5, 3) * 0.2
    stem = Stem(in_dim=3, dim=6, kernel_points=kernel).eval()
    expected = torch.zeros(40, 6)
    for i in range(40):
        for j in level.neighbors[i].tolist():
            distance = (batch.xyz[j] - batch.xyz[i] - kernel).norm(dim=1)
            k = int(distance.argmin())
            expected[i] += (1 - distance[k] / 0.5).clamp_min(0) * (batch.features[j] @ stem.weights[k])
    got = stem(batch.features, Neighborhood(level, 0.5))
    torch.testing.assert_close(got, torch.nn.functional.leaky_relu(stem.norm(expected), 0.1), atol=1e-5, rtol=1e-4)


def test_gates_of_either_norm():
    torch.manual_seed(0)
    x = torch.randn(9, 8)
    per_point = Gate(dim=8, num_kernel_points=3, groups=2, norm="point")
    gates = per_point(x)
    assert gates.shape == (9, 3, 4)
    torch.testing.assert_close(per_point(x[2:3])[0], gates[2])
    logits = per_point.expand(torch.nn.functional.leaky_relu(per_point.reduce(x), 0.1)).view(9, 3, 4)
    mean, spread = logits.mean((1, 2), keepdim=True), logits.var((1, 2), correction=0, keepdim=True)
    torch.testing.assert_close(gates, ((logits - mean) / (spread + 1e-5).sqrt()).sigmoid())
    per_point.norm = "pack"
    mean, spread = logits.mean((0, 2), keepdim=True), logits.var((0, 2), correction=0, keepdim=True)
    torch.testing.assert_close(per_point(x), ((logits - mean) / (spread + 1e-5).sqrt()).sigmoid())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dims": (8, 16)}, "one value a level"),
        ({"depths": (1, 0, 1)}, "depths"),
        ({"groups": 5}, "groups is 5"),
        ({"sigma": 0.0}, "sigma"),
        ({"grid": 0.0}, "grid"),
        ({"drop_path": 1.5}, "drop_path"),
        ({"task": "regression"}, "regression"),
        ({"gate_norm": "batch"}, "batch"),
    ],
)
def test_bad_configs(change, words):
    with pytest.raises(ValueError, match=words):
        PointUNet(replace(CONFIG, **change))


def test_bad_batches():
    network, batch = make_network(), cloud(20)
    with pytest.raises(ValueError, match=r"\(20, 2\).*\(N, 3\)"):
        network(replace(batch, features=batch.features[:, :2]))
    with pytest.raises(ValueError, match="over 10 points"):
        network(batch, CONFIG.pyramid(batch.xyz[:10], torch.tensor([0, 10])))
    with pytest.raises(ValueError, match="finite"):
        network(replace(batch, xyz=batch.xyz.index_fill(0, torch.tensor([3]), torch.nan)))
