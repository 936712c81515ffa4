"""KPConvX: golden vectors, an oracle in loops, gradients, what is random, what is refused, what is written."""

import copy
import json
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import oneiros.points
from oneiros.points import KPConvX
from oneiros.points.nn.kpconvx import TENSORS
from oneiros.points.nn.kpconvx_block import BLOCK_TENSORS
from tests.places import GOLDEN

SMALL = {"channels": 8, "hidden_channels": 12, "groups": 4, "shell_points": (1, 4, 6), "sigma": 0.7}


def make_layer(seed=0, dtype=torch.float64, **options) -> KPConvX:
    """A layer whose every tensor matters: biases, gammas and running statistics are random too."""
    torch.manual_seed(seed)
    layer = KPConvX(**{**SMALL, **options}).to(dtype)
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            if name.endswith("var"):
                tensor.uniform_(0.5, 2)
            elif not name.endswith("Q"):
                tensor.add_(torch.randn_like(tensor) * 0.2)
    return layer.eval()


def make_inputs(fields=2, points=11, k=5, channels=8, point_dim=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(fields, points, point_dim, generator=generator, dtype=dtype) * 1.5
    features = torch.randn(fields, points, channels, generator=generator, dtype=dtype)
    neighbors = torch.randint(-1, points + 1, (fields, points, k), generator=generator)
    neighbors[:, :, 0] = torch.arange(points)
    return xyz, features, neighbors


# -- the mathematics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", ["eval", "train"])
@pytest.mark.parametrize("kernels", ["reference", "auto"])
def test_golden(monkeypatch, kernels, name, dtype, tolerance):
    monkeypatch.setenv("ONEIROS_KERNELS", kernels)
    path = GOLDEN / f"kpconvx_{name}.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    training = config.pop("training")
    layer = KPConvX(**config).to(dtype)
    layer.load_reference_weights(
        {key.removeprefix("weights."): value for key, value in tensors.items() if key.startswith("weights.")}
    )
    layer.train(training)
    got = layer(tensors["input.points"].to(dtype), tensors["input.features"].to(dtype), tensors["input.neighbors"])
    torch.testing.assert_close(got.double(), tensors["output.features"], atol=tolerance, rtol=0)


def oracle(layer, points, features, neighbors, *, training=False, groups=SMALL["groups"]):
    """The specification read aloud, one neighbour at a time."""
    (fields, count), (m, dim) = features.shape[:2], layer.blocks[0].W.shape
    x, slope = features, 0.3

    def norm(bn, z):
        mean, var = (z.mean((0, 1)), z.var((0, 1), correction=0)) if training else (bn.mean, bn.var)
        return (z - mean) / torch.sqrt(var + 1e-3) * bn.gamma + bn.beta

    def act(z):
        return torch.where(z >= 0, z, slope * z)

    for block in layer.blocks:
        gate = act(norm(block.bn_phi, x @ block.Phi + block.phi)) @ block.Psi + block.psi
        alpha = (1 / (1 + torch.exp(-gate))).reshape(fields, count, m, dim // groups)
        convolved = torch.zeros_like(x)
        for b in range(fields):
            for i in range(count):
                for j in neighbors[b, i].tolist():
                    if j in (-1, count):
                        continue
                    distances = [math.dist(points[b, j] - points[b, i], q) for q in layer.Q.tolist()]
                    k = distances.index(min(distances))
                    h = max(0.0, 1 - distances[k] / layer.sigma)
                    for c in range(dim):
                        convolved[b, i, c] += h * alpha[b, i, k, c // groups] * block.W[k, c] * x[b, j, c]
        hidden = act(norm(block.bn_htilde, convolved @ block.Atilde + block.btilde))
        x = x + act(norm(block.bn_hhat, hidden @ block.Ahat + block.bhat))
    return x


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"blocks": 2, "groups": 1},
        {"blocks": 2, "groups": 8, "deformable": True},
        {"point_dim": 2, "kernel_points": [[0, 0], [0.5, 0], [-0.3, 0.4], [0, -0.6]]},
        {"point_dim": 4, "kernel_points": np.eye(4), "sigma": 2.0},
    ],
    ids=["plain", "shared-geometry", "deformable", "flat", "four-dimensional"],
)
@torch.no_grad()
def test_layer_equals_the_oracle(options, training):
    layer = make_layer(**options).train(training)
    inputs = make_inputs(point_dim=layer.point_dim)
    expected = oracle(layer, *inputs, training=training, groups=options.get("groups", SMALL["groups"]))
    torch.testing.assert_close(layer(*inputs), expected, atol=1e-12, rtol=1e-12)


def test_missing_neighbours_contribute_nothing():
    layer = make_layer(blocks=2)
    points, features, neighbors = make_inputs()
    padded = torch.cat([neighbors, torch.full_like(neighbors, -1), torch.full_like(neighbors, 11)], 2)
    torch.testing.assert_close(layer(points, features, padded), layer(points, features, neighbors))
    lonely = layer(points, features, torch.full_like(neighbors, -1))
    torch.testing.assert_close(lonely, layer(points, features, neighbors[:, :, :0]))
    assert lonely.isfinite().all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-1e3, 1e3))
def test_moving_the_cloud_changes_nothing_and_renaming_points_renames_rows(seed, shift):
    layer = make_layer()
    points, features, neighbors = make_inputs(seed=seed)
    out = layer(points, features, neighbors)
    torch.testing.assert_close(layer(points + shift, features, neighbors), out, atol=1e-9, rtol=0)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(seed))
    place = torch.cat([order.argsort(), torch.tensor([11, -1])])  # 11 and -1 stay what they are
    renamed = layer(points[:, order], features[:, order], place[neighbors[:, order]])
    torch.testing.assert_close(renamed, out[:, order])


def test_coordinates_of_utm_size_lose_nothing_in_a_float32_layer():
    layer = make_layer(dtype=torch.float32)
    points, features, neighbors = make_inputs()
    there = points + torch.tensor([651234.5, 6861234.25, 100.0], dtype=torch.float64)
    here = layer(points.float(), features.float(), neighbors)
    torch.testing.assert_close(layer(there, features.float(), neighbors), here, atol=1e-5, rtol=1e-5)


def test_each_field_of_a_batch_is_as_if_alone_when_not_training():
    layer = make_layer(blocks=2)
    inputs = make_inputs(fields=3)
    together = layer(*inputs)
    for field in range(3):
        torch.testing.assert_close(layer(*(x[field : field + 1] for x in inputs)), together[field : field + 1])


def test_packed_fields_of_different_sizes_are_as_if_alone():
    layer = make_layer(blocks=2)
    alone = [make_inputs(fields=1, points=n, seed=n) for n in (5, 1, 9)]
    expected = torch.cat([layer(*inputs)[0] for inputs in alone])
    offsets = torch.tensor([0, 5, 6, 6, 15])  # the third is empty
    shifted = [
        torch.where((rows[0] < 0) | (rows[0] == rows.shape[1]), 15, rows[0] + first)
        for (*_, rows), first in zip(alone, (0, 5, 6), strict=True)
    ]
    points, features = (torch.cat([inputs[i][0] for inputs in alone]) for i in (0, 1))
    torch.testing.assert_close(layer.packed(points, features, torch.cat(shifted), offsets), expected)


@pytest.mark.parametrize("training", [False, True])
def test_nothing_in_is_nothing_out(training):
    layer = make_layer().train(training)
    for fields, points in ((0, 4), (2, 0)):
        empty = torch.zeros(fields, points, 3), torch.zeros(fields, points, 8), torch.zeros(fields, points, 5).long()
        assert layer(*empty).shape == (fields, points, 8)
    assert all(tensor.isfinite().all() for tensor in layer.state_dict().values())


def test_running_statistics_are_biased_and_keep_nine_tenths():
    layer = make_layer().train()
    before = copy.deepcopy(layer.blocks[0].bn_phi)
    points, features, neighbors = make_inputs()
    layer(points, features, neighbors)
    inner = features.flatten(0, 1) @ layer.blocks[0].Phi + layer.blocks[0].phi
    after = layer.blocks[0].bn_phi
    torch.testing.assert_close(after.mean, 0.9 * before.mean + 0.1 * inner.mean(0))
    torch.testing.assert_close(after.var, 0.9 * before.var + 0.1 * inner.var(0, correction=0))


def test_one_point_can_be_trained_on():
    out = make_layer().train()(torch.zeros(1, 1, 3).double(), torch.ones(1, 1, 8).double(), torch.zeros(1, 1, 1).long())
    assert out.isfinite().all()


def test_autocast_stays_near_full_precision():
    layer = make_layer(dtype=torch.float32)
    points, features, neighbors = make_inputs(dtype=torch.float32)
    exact = layer(points, features, neighbors)
    for training in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            rough = copy.deepcopy(layer).train(training)(points, features, neighbors)
        if not training:
            torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.1)
        assert rough.isfinite().all()


# -- gradients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("deformable", [False, True])
def test_gradients_of_features_and_every_tensor(training, blocks, deformable):
    """Two units of hidden width and a field of 4 points keep the table of finite differences small."""
    options = {"channels": 2, "groups": 1, "hidden_channels": 2, "shell_points": (1, 2, 2), "sigma": 1.3}
    layer = make_layer(blocks=blocks, deformable=deformable, **options).train(training)
    points, features, neighbors = make_inputs(points=4, k=3, channels=2)
    names, tensors = zip(*layer.named_parameters(), strict=True)
    assert ("Q" in names) == deformable

    def run(features, *tensors):
        fresh = copy.deepcopy(layer)  # or the running statistics would move under the checker
        return torch.func.functional_call(fresh, dict(zip(names, tensors, strict=True)), (points, features, neighbors))

    leaves = [tensor.detach().clone().requires_grad_() for tensor in (features, *tensors)]
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_gradient_of_a_neighbour_on_its_kernel_point_is_finite(blocks):
    layer = make_layer(deformable=True, blocks=blocks)
    points, features, _ = make_inputs()
    itself = torch.arange(11).expand(2, 11)[..., None]  # at distance 0 from the first kernel point
    layer(points, features, itself).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert layer.blocks[0].W.grad[0].ne(0).all()


# -- what is random ------------------------------------------------------------------------------------------------


def test_drop_path_of_one_is_the_identity_in_training_and_nothing_otherwise():
    layer = make_layer(blocks=2, drop_path=1.0)
    points, features, neighbors = make_inputs()
    kept = layer(points, features, neighbors)
    torch.testing.assert_close(kept, make_layer(blocks=2)(points, features, neighbors))
    assert torch.equal(layer.train()(points, features, neighbors), features)


def test_drop_path_drops_whole_fields_and_makes_up_for_it():
    points, features, neighbors = make_inputs(fields=400, points=3, k=2)
    residual = make_layer().train()(points, features, neighbors) - features
    torch.manual_seed(1)
    got = make_layer(drop_path=0.75).train()(points, features, neighbors) - features
    dropped = got.flatten(1).eq(0).all(1)
    torch.testing.assert_close(got[~dropped], residual[~dropped] * 4)
    assert 0.65 < dropped.double().mean() < 0.85  # 400 draws of 0.75: three standard deviations are 0.065


# -- weights, rules, configuration ---------------------------------------------------------------------------------


def test_it_starts_as_keras_does():
    torch.manual_seed(0)
    block = KPConvX(channels=64).blocks[0]
    for name in ("W", "Phi", "Psi", "Atilde", "Ahat"):
        matrix = getattr(block, name)
        bound = math.sqrt(6 / sum(matrix.shape))
        assert 0.95 * bound < matrix.abs().max() <= bound
    assert all(getattr(block, name).eq(0).all() for name in ("phi", "psi", "btilde", "bhat"))
    assert block.bn_phi.gamma.eq(1).all()
    assert block.Psi.shape == (64, 21 * 8)
    assert block.Atilde.shape == (64, 384)


def test_weights_of_one_layer_are_the_reference_weights_of_another():
    first, second = make_layer(seed=0, blocks=2), make_layer(seed=1, blocks=2, deformable=True)
    tensors = {name: tensor.numpy() for name, tensor in first.state_dict().items()}
    assert set(tensors) == {
        "Q",
        *(f"blocks.{i}.{name}" for i in range(2) for name in BLOCK_TENSORS),
        *(
            f"blocks.{i}.{bn}.{part}"
            for i in range(2)
            for bn in ("bn_phi", "bn_htilde", "bn_hhat")
            for part in ("gamma", "beta", "mean", "var")
        ),
    }
    second.load_reference_weights(tensors)
    assert all(torch.equal(tensor, first.state_dict()[name]) for name, tensor in second.state_dict().items())
    inputs = make_inputs()
    torch.testing.assert_close(first(*inputs), second(*inputs))


def test_wrong_reference_weights_are_named_and_change_nothing():
    layer = make_layer()
    before = copy.deepcopy(layer.state_dict())
    good = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    for bad, words in [
        ({name: good[name] for name in good if name != "blocks.0.Psi"}, r"missing: \['blocks.0.Psi'\]"),
        ({**good, "blocks.1.W": torch.zeros(1)}, r"unknown: \['blocks.1.W'\]"),
        ({**good, "blocks.0.bhat": torch.zeros(3)}, r"blocks.0.bhat has shape \(3,\); here it is \(8,\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            layer.load_reference_weights(bad)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def halved(tensor):
    with torch.no_grad():
        return tensor.fill_(0.5)


def squares(tensor):
    return tensor.square().sum()


def unit_columns(tensor):
    return tensor / tensor.norm(dim=0, keepdim=True)


def test_one_initializer_fills_every_tensor_of_weights_and_leaves_the_kernel_points():
    layer = KPConvX(**SMALL, blocks=2, deformable=True, initializers=halved)
    tensors = [getattr(block, name) for block in layer.blocks for name in BLOCK_TENSORS]
    assert all(tensor.eq(0.5).all() for tensor in tensors)
    assert torch.equal(layer.Q, KPConvX(**SMALL).Q)
    assert layer.blocks[0].bn_phi.beta.eq(0).all()


def test_an_initializer_that_cannot_fill_a_vector_leaves_biases():
    layer = KPConvX(**SMALL, initializers="xavier_uniform_")
    assert all(getattr(layer.blocks[0], name).eq(0).all() for name in ("phi", "psi", "btilde", "bhat"))
    with pytest.raises(ValueError, match="Fan in and fan out"):
        KPConvX(**SMALL, initializers={"phi": "xavier_uniform_"})


def test_initializers_by_name_leave_the_other_tensors():
    layer = KPConvX(**SMALL, initializers={"W": "ones_", "phi": torch.nn.init.ones_, "Q": "torch.nn.init.zeros_"})
    assert layer.blocks[0].W.eq(1).all()
    assert layer.blocks[0].phi.eq(1).all()
    assert layer.Q.eq(0).all()
    assert layer.blocks[0].Phi.ne(1).all()
    assert layer.blocks[0].psi.eq(0).all()


def test_given_kernel_points_have_no_initializer():
    layer = KPConvX(channels=8, kernel_points=torch.eye(3), initializers=halved)
    assert torch.equal(layer.Q, torch.eye(3))
    assert layer.blocks[0].W.eq(0.5).all()
    with pytest.raises(ValueError, match="initializers has a rule for Q, but kernel_points are given"):
        KPConvX(channels=8, kernel_points=torch.eye(3), initializers={"Q": halved})


def test_regularization_is_the_sum_over_its_tensors():
    layer = make_layer(blocks=2, deformable=True, regularizers={"W": squares, "Q": squares})
    expected = layer.Q.square().sum() + sum(block.W.square().sum() for block in layer.blocks)
    torch.testing.assert_close(layer.regularization(), expected)
    layer.regularization().backward()
    torch.testing.assert_close(layer.blocks[1].W.grad, 2 * layer.blocks[1].W)
    everything = make_layer(regularizers=squares)
    tensors = [getattr(everything.blocks[0], name) for name in BLOCK_TENSORS]
    torch.testing.assert_close(everything.regularization(), sum(map(squares, tensors)))
    assert make_layer().regularization().item() == 0


def trained(layer, steps=3, lr=1e-3, optimiser=torch.optim.SGD):
    optimiser = optimiser(layer.parameters(), lr=lr)
    inputs = make_inputs()
    for _ in range(steps):
        optimiser.zero_grad()
        layer(*inputs).square().sum().backward()
        optimiser.step()
        yield optimiser


def test_constraints_hold_after_every_step_and_not_before_the_first():
    layer = make_layer(blocks=2, deformable=True, constraints={"W": unit_columns, "Q": torch.nn.Hardtanh(-0.6, 0.6)})
    before = layer.blocks[0].W.detach().clone()
    assert not torch.allclose(before.norm(dim=0), torch.ones(8).double())
    for _ in trained(layer):
        for block in layer.blocks:
            torch.testing.assert_close(block.W.norm(dim=0), torch.ones(8).double())
        assert layer.Q.abs().max() <= 0.6
    assert not torch.equal(layer.blocks[0].W, before)


def test_what_a_constraint_held_at_zero_leaves_it_again():
    layer = make_layer(constraints={"W": "non_neg"}).train()
    held = None
    for _ in trained(layer, steps=40, lr=0.02, optimiser=torch.optim.Adam):
        W = layer.blocks[0].W.detach()
        assert W.min() >= 0
        held = W.eq(0) if held is None else held
    assert held.float().mean() > 0.2  # where the first step left a negative number
    assert layer.blocks[0].W[held].gt(0).float().mean() > 0.2


def test_a_common_constraint_is_one_for_weights_alone_and_holds_for_copies_too():
    first = make_layer(deformable=True, constraints="non_neg")
    for layer in (first, copy.deepcopy(first)):
        for _ in trained(layer, steps=1):
            assert all(getattr(layer.blocks[0], name).min() >= 0 for name in BLOCK_TENSORS)
            assert layer.Q.min() < 0


def test_an_optimiser_of_others_leaves_a_constrained_layer_alone():
    held, other = make_layer(constraints="non_neg"), make_layer()
    before = copy.deepcopy(held.state_dict())
    for _ in trained(other, steps=1):
        assert all(torch.equal(tensor, before[name]) for name, tensor in held.state_dict().items())


def test_a_constrained_layer_takes_the_reference_weights():
    plain, held = make_layer(), make_layer(seed=1, constraints={"W": torch.nn.Hardtanh(-9, 9)})
    held.load_reference_weights(plain.state_dict())
    inputs = make_inputs()
    assert torch.equal(held(*inputs), plain(*inputs))


@pytest.mark.parametrize("option", ["initializers", "regularizers", "constraints"])
@pytest.mark.parametrize(
    ("rule", "words"),
    [({"V": squares}, f"'V'; the tensors are {', '.join(TENSORS)}"), ({"W": 3}, "3; it must be a function"),
     ("no_such_function", "no_such_function"), ("no.such.module", "no.such.module")],
)  # fmt: skip
def test_rules_that_cannot_be_are_named(option, rule, words):
    with pytest.raises(ValueError, match=words) as error:
        KPConvX(**SMALL, **{option: rule})
    assert option in str(error.value)


CONFIGS = [
    {"channels": 8},
    {
        "channels": 6,
        "blocks": 2,
        "hidden_channels": 5,
        "groups": 3,
        "sigma": 0.4,
        "shell_radii": [0.0, 0.3],
        "shell_points": [1, 5],
        "deformable": True,
        "drop_path": 0.25,
        "bn_momentum": 0.8,
        "bn_eps": 1e-4,
        "negative_slope": 0.1,
        "activation": torch.nn.functional.gelu,
    },
    {"channels": 8, "point_dim": 2, "kernel_points": torch.rand(5, 2).numpy(), "activation": torch.tanh},
    {"channels": 8, "initializers": torch.nn.init.ones_, "regularizers": squares, "constraints": {"W": unit_columns}},
    {"channels": 8, "initializers": {"W": "ones_"}, "activation": "relu"},
    {
        "channels": 8,
        "initializers": {"class_name": "HeNormal", "config": {"seed": None}},
        "regularizers": "l2",
        "constraints": {"W": {"class_name": "MaxNorm", "config": {"max_value": 2, "axis": 0}}, "phi": "non_neg"},
    },
]


@pytest.mark.parametrize("config", CONFIGS)
def test_configuration_comes_back_through_json(config):
    torch.manual_seed(0)
    layer = KPConvX(**config)
    written = json.loads(json.dumps(layer.get_config()))
    assert {name for name in config if written[name] is not None} == set(config)
    torch.manual_seed(0)
    again = KPConvX.from_config(written)
    assert again.get_config() == layer.get_config()
    state = layer.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    inputs = make_inputs(channels=layer.channels, point_dim=layer.point_dim, dtype=torch.float32)
    assert torch.equal(again.eval()(*inputs), layer.eval()(*inputs))
    assert torch.equal(again.regularization(), layer.regularization())


def test_what_a_layer_was_made_with_can_be_read():
    options = {"groups": 4, "sigma": 0.7, "shell_radii": (0, 0.4), "shell_points": (1, 5), "bn_momentum": 0.8,
               "drop_path": 0.1, "deformable": True, "hidden_channels": 12, "bn_eps": 1e-4}  # fmt: skip
    layer = KPConvX(channels=8, blocks=2, **options)
    assert {name: getattr(layer, name) for name in options} == options
    assert [norm.gamma.shape for norm in layer.bn_htilde] == [(12,), (12,)]
    assert layer.bn_phi[1] is layer.blocks[1].bn_phi
    assert layer.bn_hhat[0] is layer.blocks[0].bn_hhat


def test_batch_norms_can_be_handed_in():
    norms = [torch.nn.BatchNorm1d(8, momentum=0.3) for _ in range(2)]
    layer = KPConvX(**SMALL, blocks=2, bn_phi=norms, bn_hhat=[torch.nn.Identity(), torch.nn.Identity()])
    assert layer.bn_phi == tuple(norms)
    assert layer.bn_htilde[0].momentum == 0.9
    layer(*make_inputs(dtype=torch.float32))
    assert norms[1].running_mean.ne(0).any()
    with pytest.warns(UserWarning, match="bn_"):
        assert layer.get_config()["bn_phi"] is None
    single = torch.nn.BatchNorm1d(8)
    assert KPConvX(**SMALL, bn_phi=single).bn_phi == (single,)
    for wrong in (norms[:1], [single, single]):
        with pytest.raises(ValueError, match=r"bn_phi has \d batch norms for 2 blocks"):
            KPConvX(**SMALL, blocks=2, bn_phi=wrong)


def test_what_cannot_be_imported_is_left_out_with_a_warning():
    rules = {"W": lambda tensor: tensor.fill_(1), "phi": torch.nn.init.ones_}
    layer = KPConvX(**SMALL, initializers=rules, activation=lambda z: z)
    with warnings.catch_warnings(record=True) as warned:
        config = layer.get_config()
    assert [str(warning.message).split()[0] for warning in warned] == ["initializers['W']", "activation"]
    assert config["initializers"] == {"phi": "torch.nn.init.ones_"}
    assert config["activation"] is None


def test_a_function_that_hides_behind_the_name_of_another_is_left_out():
    def squares(tensor):
        return tensor.abs().sum()

    squares.__qualname__ = squares.__name__
    with pytest.warns(UserWarning, match="regularizers"):
        assert KPConvX(**SMALL, regularizers=squares).get_config()["regularizers"] is None


def test_changing_what_was_given_changes_no_configuration():
    radii = [0.0, 0.5, 1.0]
    layer = KPConvX(channels=8, shell_radii=radii)
    radii[1] = 99.0
    assert layer.get_config()["shell_radii"] == [0.0, 0.5, 1.0]


def test_state_comes_back_bitwise():
    layer, other = make_layer(blocks=2, deformable=True), make_layer(seed=1, blocks=2, deformable=True)
    other.load_state_dict(layer.state_dict())
    inputs = make_inputs()
    assert torch.equal(layer(*inputs), other(*inputs))


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": 3}, "groups is 3, which does not divide channels, 8"),
        ({"channels": 0}, "channels is 0"),
        ({"blocks": 0}, "blocks is 0"),
        ({"hidden_channels": 2.5}, "hidden_channels is 2.5"),
        ({"groups": 0}, "groups is 0"),
        ({"sigma": 0}, "sigma is 0"),
        ({"sigma": -1.0}, "sigma is -1.0"),
        ({"sigma": math.nan}, "sigma is nan"),
        ({"shell_radii": (), "shell_points": ()}, "at least one shell"),
        ({"shell_points": (1, 7)}, "shell_radii has 3 values and shell_points 2"),
        ({"shell_points": (1, 0, 7)}, r"shell_points\[1\] is 0"),
        ({"drop_path": 1.1}, "drop_path is 1.1"),
        ({"drop_path": -0.1}, "drop_path is -0.1"),
        ({"bn_momentum": 2}, "bn_momentum is 2"),
        ({"bn_eps": 0}, "bn_eps is 0"),
        ({"point_dim": 2}, "point_dim is 2"),
        ({"kernel_points": torch.zeros(4, 2)}, r"kernel_points are \(m, 3\) with m at least 1, got \(4, 2\)"),
        ({"kernel_points": torch.zeros(0, 3)}, r"got \(0, 3\)"),
        ({"kernel_points": torch.full((2, 3), math.inf)}, r"kernel_points\[0\] is \[inf"),
        ({"activation": "no_such_activation"}, "activation is 'no_such_activation'"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        KPConvX(**{"channels": 8, **options})


def replaced(tensor, index, value):
    changed = tensor.clone()
    changed[index] = value
    return changed


POINTS, FEATURES, NEIGHBORS = make_inputs()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((POINTS[:1], FEATURES, NEIGHBORS), r"differ in B or R: \(1, 11\), \(2, 11\) and \(2, 11\)"),
        ((POINTS, FEATURES[:, :10], NEIGHBORS), r"differ in B or R: \(2, 11\), \(2, 10\) and \(2, 11\)"),
        ((POINTS, FEATURES, NEIGHBORS[:, :9]), r"and \(2, 9\)"),
        ((POINTS[0], FEATURES, NEIGHBORS), r"got \(11, 3\)"),
        ((POINTS[..., :2], FEATURES, NEIGHBORS), "points have 2 dimensions and features 8 channels; .* 3 and 8"),
        ((POINTS, FEATURES[..., :6], NEIGHBORS), "features 6 channels"),
        ((POINTS, FEATURES, replaced(NEIGHBORS, (1, 2, 3), 12)), "to 12; indices lie from -1 to 11, for 11 points"),
        ((POINTS, FEATURES, replaced(NEIGHBORS, (1, 2, 3), -2)), "neighbors run from -2"),
        ((POINTS, FEATURES, NEIGHBORS.double()), "neighbors are torch.float64"),
        ((replaced(POINTS, (1, 4, 2), math.nan), FEATURES, NEIGHBORS), r"points\[1, 4, 2\] is nan"),
        ((replaced(POINTS, (0, 3, 1), -math.inf), FEATURES, NEIGHBORS), r"points\[0, 3, 1\] is -inf"),
    ],
)
def test_bad_input_is_named(inputs, words):
    with pytest.raises(ValueError, match=words):
        make_layer()(*inputs)


def test_bad_packs_are_named():
    layer = make_layer()
    pack = POINTS[0], FEATURES[0], NEIGHBORS[0]
    with pytest.raises(ValueError, match="offsets are"):
        layer.packed(*pack, torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="differ in N: 11, 10 and 11"):
        layer.packed(pack[0], pack[1][:10], pack[2], torch.tensor([0, 11]))


# -- pictures and tables -------------------------------------------------------------------------------------------


def test_export_writes_tables_that_read_back_and_pictures(tmp_path):
    layer = make_layer(blocks=2)
    past = torch.stack([block.W for block in layer.blocks]).detach() * 0.5
    written = layer.export_representation(tmp_path / "new" / "folder", prefix="kernel7_", past_weights=past.numpy())
    names = ["Q.npy", "Q.csv", "W.npy", "W.csv", "kernel.png", "weights.png", "change.png"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(p.name for p in written)
    assert [path.name for path in written] == ["kernel7_" + name for name in names]
    q_npy, q_csv, w_npy, w_csv, *pictures = written
    weights = torch.stack([block.W for block in layer.blocks]).detach().numpy()
    assert np.array_equal(np.load(q_npy), layer.Q.numpy())
    assert np.array_equal(np.loadtxt(q_csv, delimiter=","), layer.Q.numpy())
    assert np.array_equal(np.load(w_npy), weights)
    assert np.array_equal(np.loadtxt(w_csv, delimiter=",").reshape(weights.shape), weights)
    for picture in pictures:
        assert _colours(picture) > 50


def _colours(path) -> int:
    from PIL import Image

    with Image.open(path) as image:
        assert min(image.size) > 200
        return len(image.convert("RGB").getcolors(maxcolors=image.width * image.height))


def test_the_picture_of_change_shows_the_change_alone(tmp_path):
    layer = make_layer()
    weights = layer.blocks[0].W.detach()[None]
    same = layer.export_representation(tmp_path / "same", past_weights=weights)[-1]
    moved = layer.export_representation(tmp_path / "moved", past_weights=weights + torch.randn_like(weights))[-1]
    assert _reddish(same) < _reddish(moved) / 2  # the bar alone has colours where nothing changed


def _reddish(path) -> int:
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    return int((pixels[..., 0] - pixels[..., 2] > 60).sum())


def test_export_without_a_past_draws_no_change(tmp_path):
    written = make_layer().export_representation(tmp_path)
    assert [path.name for path in written] == ["Q.npy", "Q.csv", "W.npy", "W.csv", "kernel.png", "weights.png"]


def test_exports_that_cannot_be_are_refused_before_anything_is_written(tmp_path):
    layer = make_layer()
    with pytest.raises(ValueError, match=r"past_weights has shape \(2, 3\)"):
        layer.export_representation(tmp_path / "a", past_weights=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="cannot hold a folder"):
        layer.export_representation(tmp_path / "a", prefix="../b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", oneiros.points._HOMES)
def test_public_names_resolve(name):
    assert getattr(oneiros.points, name).__doc__


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        oneiros.points.nonsense  # noqa: B018


def test_importing_the_layer_loads_no_library_for_pictures_or_files():
    script = "import sys; from oneiros.points import KPConvX; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"matplotlib", "plyfile", "scipy", "laspy"}.intersection(loaded)
