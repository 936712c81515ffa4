"""Keras's rules under Keras's names: their formulas, and Keras itself where it is installed."""

import math
import os

import numpy as np
import pytest
import torch

from oneiros.points import KPConvX
from oneiros.points.nn import keras_rules

SPREADS = {  # name -> standard deviation for a kernel (300, 500) and for a bias (500,)
    "glorot_uniform": (math.sqrt(2 / 800), math.sqrt(1 / 500)),
    "GlorotNormal": (math.sqrt(2 / 800), math.sqrt(1 / 500)),
    "he_normal": (math.sqrt(2 / 300), math.sqrt(2 / 500)),
    "HeUniform": (math.sqrt(2 / 300), math.sqrt(2 / 500)),
    "lecun_normal": (math.sqrt(1 / 300), math.sqrt(1 / 500)),
    "random_normal": (0.05, 0.05),
    "RandomUniform": (0.1 / math.sqrt(12), 0.1 / math.sqrt(12)),
    "zeros": (0, 0),
}
MATRIX = torch.tensor([[3.0, -1.0], [4.0, 0.5]])
VALUES = [
    ("l1", 0.01 * 8.5),
    ("l2", 0.01 * 26.25),
    ({"class_name": "L2", "config": {"l2": 0.5}}, 0.5 * 26.25),
    ({"class_name": "L1L2", "config": {"l1": 1.0, "l2": 0.5}}, 8.5 + 0.5 * 26.25),
    ("non_neg", [[3, 0], [4, 0.5]]),
    ("NonNeg", [[3, 0], [4, 0.5]]),
    ("max_norm", [[3 * 2 / 5, -1], [4 * 2 / 5, 0.5]]),
    ("unit_norm", [[0.6, -1 / math.sqrt(1.25)], [0.8, 0.5 / math.sqrt(1.25)]]),
    ({"class_name": "MinMaxNorm", "config": {"min_value": 2.0, "max_value": 4.0, "rate": 0.5, "axis": 0}},
     [[3 * 4.5 / 5, -(2 / math.sqrt(1.25) + 1) / 2], [4 * 4.5 / 5, 0.5 * (2 / math.sqrt(1.25) + 1) / 2]]),
]  # fmt: skip


@pytest.mark.parametrize("name", SPREADS)
def test_initializers_have_the_spread_of_their_formula(name):
    torch.manual_seed(0)
    rule = keras_rules.find(name)
    for tensor, spread in zip((torch.empty(300, 500), torch.empty(500)), SPREADS[name], strict=True):
        rule(tensor)
        assert tensor.std().item() == pytest.approx(spread, rel=0.1)
        assert tensor.mean().item() == pytest.approx(0, abs=0.2 * spread + 1e-9)


@pytest.mark.parametrize(("rule", "expected"), VALUES, ids=str)
def test_regularizers_and_constraints(rule, expected):
    torch.testing.assert_close(keras_rules.find(rule)(MATRIX), torch.tensor(expected, dtype=torch.float32))


def test_a_layer_takes_them_by_name_biases_too():
    torch.manual_seed(0)
    layer = KPConvX(channels=8, initializers="glorot_uniform", regularizers={"W": "l2"}, constraints="non_neg")
    block = layer.blocks[0]
    assert block.psi.abs().max() <= math.sqrt(6 / (2 * len(block.psi)))
    assert block.psi.ne(0).all()
    torch.testing.assert_close(layer.regularization(), 0.01 * block.W.square().sum())


def test_what_is_not_known_is_named():
    with pytest.raises(ValueError, match="regularizers is Keras's 'OrthogonalRegularizer'"):
        KPConvX(channels=8, regularizers={"W": {"class_name": "OrthogonalRegularizer", "config": {"factor": 0.1}}})
    with pytest.raises(ValueError, match="constraints: MaxNorm takes no most; it takes max_value, axis"):
        KPConvX(channels=8, constraints={"class_name": "MaxNorm", "config": {"most": 1}})


def test_keras_agrees(monkeypatch):
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed")

    for name in ("l1", "l2"):
        theirs = keras.regularizers.get(name)(keras.ops.convert_to_tensor(MATRIX.numpy()))
        torch.testing.assert_close(float(theirs), keras_rules.find(name)(MATRIX).item())
    for rule in ("non_neg", "max_norm", "unit_norm", "min_max_norm"):
        theirs = keras.constraints.get(rule)(keras.ops.convert_to_tensor(MATRIX.numpy()))
        torch.testing.assert_close(torch.as_tensor(np.asarray(theirs.detach())), keras_rules.find(rule)(MATRIX))
    for name in ("GlorotUniform", "GlorotNormal", "HeNormal", "HeUniform", "LecunNormal", "TruncatedNormal"):
        serialised = keras.initializers.serialize(keras.initializers.get(name))
        ours = keras_rules.find(serialised)
        for shape in ((300, 500), (500,)):
            theirs = keras.initializers.get(name)(shape).detach().numpy()
            filled = ours(torch.empty(shape)).numpy()
            assert filled.std() == pytest.approx(theirs.std(), rel=0.1)
            high = np.quantile(np.abs(theirs), 0.95)
            assert np.quantile(np.abs(filled), 0.95) == pytest.approx(high, rel=0.1)
