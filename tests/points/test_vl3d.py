"""A Keras layer's configuration and weights become a layer of ours; Keras itself makes them where it is installed."""

import copy
import json
import os
import re

import numpy as np
import pytest
import torch

from oneiros.points import KPConvX, from_vl3d
from oneiros.points.nn.kpconvx_block import BATCH_NORMS, BLOCK_TENSORS

CONFIG = {
    "name": "kp_conv_x", "trainable": True, "dtype": {"class_name": "DTypePolicy", "config": {"name": "float32"}},
    "blocks": 2, "DH": 12, "drop_path": 0.1, "sigma": 0.7, "shell_radii": [0, 0.5, 1.0], "shell_points": [1, 4, 6],
    "mq": 11, "groups": 4, "deformable": False, "bn_momentum": 0.95, "bn_phi": None, "bn_htilde": None, "bn_hhat": None,
    "Q_initializer": {"class_name": "FibonacciShellInitializer", "config": {"shell_radii": [0, 0.5, 1.0]}},
    "initializer": {"module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None}},
    "regularizer": {"module": "keras.regularizers", "class_name": "L2", "config": {"l2": 0.1}},
    "constraint": None, "sigmoid": "sigmoid", "built_Q": True, "built_W": True,
    "activation": {"class_name": "LeakyReLU", "config": {"negative_slope": 0.2}},
    "build_config": {"input_shape": [[None, 11, 3], [None, 11, 8], [None, 11, 5]]},
}  # fmt: skip


def layer_with_weights(**options):
    torch.manual_seed(3)
    layer = KPConvX(channels=8, hidden_channels=12, groups=4, sigma=0.7, shell_points=(1, 4, 6), **options)
    for name, tensor in layer.state_dict().items():
        if not name.endswith("Q"):
            tensor.copy_(torch.rand_like(tensor) + 0.1)
    return layer.eval()


def keras_names(layer, name_of):
    """The layer's weights under the names that `name_of(block, tensor)` gives."""
    moving = {"mean": "moving_mean", "var": "moving_variance"}
    found = {"kp_conv_x_3/Q:0": layer.Q.numpy()}
    for number, block in enumerate(layer.blocks):
        for tensor in BLOCK_TENSORS:
            found[name_of(number, tensor)] = getattr(block, tensor).detach().numpy()
        for norm in BATCH_NORMS:
            for part, tensor in getattr(block, norm).state_dict().items():
                found[name_of(number, f"{norm}/{moving.get(part, part)}")] = tensor.numpy()
    return found


def inputs():
    generator = torch.Generator().manual_seed(0)
    points, features = torch.rand(1, 11, 3, generator=generator), torch.randn(1, 11, 8, generator=generator)
    return points, features, torch.randint(11, (1, 11, 5), generator=generator)


def test_a_keras_configuration_is_followed():
    layer = KPConvX.from_config(json.loads(json.dumps(CONFIG)))
    assert (layer.channels, layer.hidden_channels, len(layer.blocks), layer.groups) == (8, 12, 2, 4)
    assert (layer.sigma, layer.drop_path, layer.bn_momentum, layer.num_kernel_points) == (0.7, 0.1, 0.95, 11)
    assert layer.blocks[0].activation(torch.tensor(-1.0)).item() == pytest.approx(-0.2)
    squares = sum(getattr(block, name).square().sum() for block in layer.blocks for name in BLOCK_TENSORS)
    torch.testing.assert_close(layer.regularization(), 0.1 * squares)


def test_a_whole_serialised_layer_and_its_batch_norms_are_followed():
    norm = {"class_name": "BatchNormalization", "config": {"momentum": 0.7, "epsilon": 0.01, "axis": -1}}
    inner = {key: value for key, value in CONFIG.items() if key != "bn_momentum"} | {"bn_phi": norm, "bn_hhat": [norm]}
    layer = KPConvX.from_config({"class_name": "KPConvXLayer", "config": inner})
    assert (layer.bn_momentum, layer.bn_eps) == (0.7, 0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sigmoid": "tanh"}, "sigmoid is 'tanh'"),
        ({"mq": 12}, "mq is 12"),
        ({"Q_initializer": "zeros"}, "Q_initializer is 'zeros'"),
        ({"wrong": 1}, "wrong is no key"),
        ({"build_config": None}, "tells no width"),
        ({"activation": "no_such"}, "activation is 'no_such'"),
    ],
)
def test_what_cannot_be_followed_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        KPConvX.from_config({**CONFIG, **change})


@pytest.mark.parametrize(
    "name_of",
    [
        lambda block, tensor: f"kp_conv_x_3/blocks/{block}/{tensor}",
        lambda block, tensor: f"kp_conv_x_3/{re.sub('^[^/]*', lambda stem: f'{stem[0]}_{block}', tensor)}:0",
        lambda block, tensor: f"kp_conv_x_3/block_{block}/{tensor}:0",
    ],
)  # fmt: skip
def test_weights_come_over_by_name(name_of, tmp_path):
    layer = layer_with_weights(blocks=2)
    weights = keras_names(layer, name_of)
    np.savez(tmp_path / "layer.npz", **weights)
    plain = {**CONFIG, "activation": None, "drop_path": 0}
    (tmp_path / "layer.json").write_text(json.dumps(plain))
    for got in (from_vl3d(plain, weights), from_vl3d(tmp_path / "layer.json", tmp_path / "layer.npz")):
        assert torch.equal(got(*inputs()), layer(*inputs()))
        assert all(torch.equal(tensor, layer.state_dict()[name]) for name, tensor in got.state_dict().items())


def test_stacked_weights_and_batch_norms_that_keras_named_itself():
    layer = layer_with_weights(blocks=2)
    weights = {f"layer/{name}": np.stack([getattr(b, name).detach() for b in layer.blocks]) for name in BLOCK_TENSORS}
    for number, (block, norm) in enumerate((block, norm) for block in layer.blocks for norm in BATCH_NORMS):
        name = f"layer/batch_normalization_{number + 5}"
        state = getattr(block, norm).state_dict()
        weights |= {f"{name}/{part}": state[part].numpy() for part in ("gamma", "beta")}
        weights |= {f"{name}/moving_mean": state["mean"].numpy(), f"{name}/moving_variance": state["var"].numpy()}
    config = {**CONFIG, "activation": None}
    assert torch.equal(from_vl3d(config, weights)(*inputs()), layer(*inputs()))
    config.pop("build_config")  # the width is that of W
    assert torch.equal(from_vl3d(config, weights)(*inputs()), layer(*inputs()))


def test_wrong_weights_are_named():
    layer = layer_with_weights()
    config = {**CONFIG, "blocks": 1}
    good = keras_names(layer, lambda block, tensor: f"layer/{tensor}")
    bad = copy.copy(good)
    bad["layer/extra"] = np.zeros(3)
    for weights, words in [
        (bad, "layer/extra is no variable"),
        ({name: value for name, value in good.items() if not name.endswith("Psi")}, r"missing: \['blocks.0.Psi'\]"),
        ({**good, "other/W_0": good["layer/W"]}, "other/W_0 is block 0's W, which is there already"),
        ({}, "there are no weights"),
    ]:
        with pytest.raises(ValueError, match=words):
            from_vl3d(config, weights)


def test_what_keras_itself_writes(monkeypatch):
    """A Keras layer that computes the specification with Keras's own Dense and BatchNormalization, saved as we say."""
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    ops = keras.ops

    ours = layer_with_weights()
    q = keras.ops.convert_to_tensor(ours.Q.numpy())

    class Theirs(keras.layers.Layer):
        def build(self, shapes):
            dim, wide = shapes[1][-1], 12
            sizes = {"W": (11, dim), "Phi": (dim, dim), "phi": (dim,), "Psi": (dim, 11 * dim // 4),
                     "psi": (11 * dim // 4,), "Atilde": (dim, wide), "btilde": (wide,), "Ahat": (wide, dim),
                     "bhat": (dim,)}  # fmt: skip
            self.w = {name: self.add_weight(name=name, shape=shape) for name, shape in sizes.items()}
            self.norms = {name: keras.layers.BatchNormalization(momentum=0.95, name=name) for name in BATCH_NORMS}
            for name, norm in self.norms.items():
                norm.build((None, None, wide if name == "bn_htilde" else dim))

        def call(self, inputs):
            (points, features, neighbors), w = inputs, self.w
            act = keras.layers.LeakyReLU(negative_slope=0.3)
            gate = act(self.norms["bn_phi"](ops.matmul(features, w["Phi"]) + w["phi"]))
            alpha = ops.repeat(ops.sigmoid(ops.matmul(gate, w["Psi"]) + w["psi"]), 4, axis=-1)
            alpha = ops.reshape(alpha, (11, 11, 8))  # point, kernel point, channel
            around = points[0][neighbors[0]] - points[0][:, None]
            distance = ops.norm(around[:, :, None] - q, axis=-1)
            nearest, h = ops.argmin(distance, -1), ops.relu(1 - ops.min(distance, -1) / 0.7)
            modulated = ops.take_along_axis(alpha * w["W"], nearest[..., None], axis=1)
            x = ops.sum(h[..., None] * modulated * features[0][neighbors[0]], 1)[None]
            x = act(self.norms["bn_htilde"](ops.matmul(x, w["Atilde"]) + w["btilde"]))
            return features + act(self.norms["bn_hhat"](ops.matmul(x, w["Ahat"]) + w["bhat"]))

    theirs = Theirs(name="kp_conv_x_3")
    given = tuple(map(ops.convert_to_tensor, inputs()))
    theirs(given)
    generator = np.random.default_rng(0)
    for variable in theirs.weights:
        variable.assign(generator.uniform(0.1, 1, variable.shape))
    got = from_vl3d({**CONFIG, "blocks": 1, "activation": None}, {v.path: v.numpy() for v in theirs.weights})
    expected = torch.as_tensor(theirs(given)).detach()
    torch.testing.assert_close(got(*inputs()).detach(), expected, atol=1e-5, rtol=1e-5)
