"""The network of dense receptive fields: what it looks at, what it refuses, that it learns, and its JSON file."""

import json
import re

import numpy as np
import pytest
import torch

from oneiros.points.nn.dense import DensePointNet, DensePointNetConfig
from oneiros.points.nn.model_file import ModelFile
from oneiros.records import PointBatch

SMALL = DensePointNetConfig(in_dim=2, num_classes=3, grid=1.5, num_points=(24, 8), dims=(8, 16), blocks=(1, 1),
                            num_neighbors=(6, 4), num_pooled=(1, 4), shell_points=(1, 5))  # fmt: skip


def network(**changes) -> DensePointNet:
    torch.manual_seed(0)
    return DensePointNet(DensePointNetConfig(**{**vars(SMALL), **changes}))


def batch(*sizes: int, seed: int = 0) -> PointBatch:
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(sum(sizes), 3, generator=generator) * 4
    features = torch.randn(sum(sizes), 2, generator=generator)
    return PointBatch(xyz, features, None, torch.tensor([0, *sizes]).cumsum(0))


@torch.no_grad()
def test_fields_of_any_size_give_a_row_for_every_point_as_if_alone():
    net = network().eval()
    together = batch(40, 0, 24, 3, 1)
    logits = net(together)
    assert logits.shape == (68, 3)
    for first, last in zip(together.offsets[:-1].tolist(), together.offsets[1:].tolist(), strict=True):
        alone = PointBatch(
            together.xyz[first:last], together.features[first:last], None, torch.tensor([0, last - first])
        )
        torch.testing.assert_close(net(alone), logits[first:last])
    assert net(batch()).shape == (0, 3)


@torch.no_grad()
def test_points_beyond_the_first_level_take_what_the_nearest_that_is_looked_at_has():
    net, points = network().eval(), batch(100)
    seen = []
    net.head.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    logits = net(points)
    rows = {tuple(row) for row in seen[0].tolist()}
    assert len(rows) == 24
    assert {tuple(row) for row in logits.tolist()} == rows


@torch.no_grad()
def test_moving_a_field_changes_nothing_but_what_lies_far_matters():
    net, points = network().eval(), batch(24)
    moved = PointBatch(points.xyz + torch.tensor([8.0, -4.0, 2.0]), points.features, None, points.offsets)
    torch.testing.assert_close(net(moved), net(points), atol=1e-4, rtol=1e-4)
    features = points.features.clone()
    farthest = (points.xyz - points.xyz[0]).norm(dim=1).argmax()
    features[farthest] += 5
    changed = net(PointBatch(points.xyz, features, None, points.offsets))
    assert not torch.allclose(changed[0], net(points)[0])  # through the coarser level


def test_it_learns_and_its_regularizers_count():
    net, points = network(regularizers="l2", constraints="max_norm", initializers="glorot_uniform"), batch(24, 24)
    labels = (points.xyz[:, 2] > 2).long()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(30):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(points), labels)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.25
    squares = [
        tensor.square().sum()
        for layer in net.kernels()
        for name, tensor in layer.named_parameters()
        if "bn_" not in name
    ]
    torch.testing.assert_close(net.regularization(), 0.01 * torch.stack(squares).sum())
    assert all(layer.blocks[0].W.norm(dim=0).max() <= 2.001 for layer in net.kernels())


def test_kernels_are_exported_beside_what_changed_since(tmp_path):
    pytest.importorskip("matplotlib")
    net = network()
    net.export_representations(tmp_path / "step_000010")
    with torch.no_grad():
        net.kernels()[1].blocks[0].W += 1
    net.export_representations(tmp_path / "step_000020")
    written = {path.name for path in (tmp_path / "step_000020").iterdir()}
    assert {"level_0_Q.csv", "level_1_kernel.png", "level_1_change.png"} <= written
    assert "level_0_change.png" not in {path.name for path in (tmp_path / "step_000010").iterdir()}
    before, after = (np.load(tmp_path / step / "level_1_W.npy") for step in ("step_000010", "step_000020"))
    assert np.allclose(after - before, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_points": (24,)}, "num_points [24], dims [8, 16], blocks [1, 1]"),
        ({"num_points": (8, 24)}, "no level has more points than the one before"),
        ({"dims": (8, 0)}, "dims is [8, 0]"),
        ({"groups": 3}, "groups is 3, which does not divide channels, 8"),
        ({"grid": 0.0}, "grid is 0.0"),
        ({"initializers": "no_such"}, "initializers is 'no_such'"),
    ],
)
def test_configs_that_cannot_be_are_named(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        network(**change)


DESCRIBED = {
    "class_names": ["ground", "roof"],
    "pre_processing": {"pre_processor": "hierarchical_fpspp", "num_points_per_depth": [512, 128],
                       "num_pwise_neighbors": [16, 8], "num_downsampling_neighbors": [1, 4]},
    "feature_extraction": {"type": "KPConvX", "feature_space_dims": [16, 32], "blocks": [1, 2], "sigma": 1.5,
                           "shell_radii": [0, 1], "shell_points": [1, 9], "initializer": "he_normal"},
    "model_handling": {"class_weight": [1, 2.5]},
}  # fmt: skip


def test_a_json_file_describes_a_network(tmp_path):
    path = tmp_path / "model.json"
    for content in (DESCRIBED, {"model_args": DESCRIBED}):
        path.write_text(json.dumps(content))
        read = ModelFile.read(path)
        assert (read.class_names, read.class_weight) == (("ground", "roof"), (1, 2.5))
        assert read.network == DensePointNetConfig(
            num_points=(512, 128), num_neighbors=(16, 8), num_pooled=(1, 4), dims=(16, 32), blocks=(1, 2), sigma=1.5,
            shell_radii=(0, 1), shell_points=(1, 9), initializers="he_normal"
        )  # fmt: skip


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("feature_extraction", {"wrong": 1}, "feature_extraction.wrong means nothing here"),
        ("feature_extraction", {"type": "PointNet"}, "feature_extraction.type is 'PointNet'"),
        ("feature_extraction", {"blocks": "two"}, "blocks of network of"),
        ("model_handling", {"training_epochs": 9}, "training_epochs is said on the command line here: --steps"),
        ("pre_processing", {"num_points_per_depth": [9]}, "num_points [9]"),
    ],
)
def test_files_that_mean_nothing_are_named(tmp_path, section, change, words):
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**DESCRIBED, section: {**DESCRIBED[section], **change}}))
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        ModelFile.read(path)
    assert str(path) in str(error.value)
    path.write_text("[1, 2")
    with pytest.raises(ValueError, match="no valid JSON"):
        ModelFile.read(path)
