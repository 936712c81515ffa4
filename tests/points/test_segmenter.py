"""The segmenter: what it learns from, what it says of whole clouds, and how it is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from oneiros.loading import load
from oneiros.points.cells import make_cells
from oneiros.points.segmenter import Segmenter, SegmenterConfig
from oneiros.records import PointBatch
from oneiros.run_folder import CloudOrigin
from tests.towns import having, make_segmenter, part_of, segmenter_config, town


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return make_segmenter()


def points_of(seed: int = 0, **options) -> PointBatch:
    """A town's cells, labelled by what they are: 0, 1, 2, or -1."""
    cloud = town(seed, **options)
    labels = torch.tensor([-1, -1, 0, 1, 1, 1, 2])[cloud.classification].numpy()
    cells = make_cells(cloud, 1.0, ("intensity", "returns"), labels)
    return PointBatch(cells.xyz, cells.features, cells.labels, torch.tensor([0, len(cells)]))


def packed(*clouds: PointBatch) -> PointBatch:
    columns = [torch.cat([getattr(cloud, name) for cloud in clouds]) for name in ("xyz", "features", "labels")]
    return PointBatch(*columns, torch.tensor([0, *(len(cloud.xyz) for cloud in clouds)]).cumsum(0))


def test_the_loss_is_a_weighted_mean_over_labelled_points(model):
    points = points_of()
    points = replace(points, labels=points.labels.masked_fill(points.xyz[:, 0] < points.xyz[:, 0].median(), -1))
    loss = model(points)
    known = points.labels >= 0
    assert 0 < known.sum() < len(known)
    assert model.loss_weight(points) == known.sum()
    logits = model.network(replace(points, features=(points.features - model.mean) / model.std, labels=None))
    chances, labels = logits.log_softmax(1)[known], points.labels[known]
    weights = torch.tensor([0.5, 1.0, 1.5])[labels]
    expected = -(weights * chances[torch.arange(len(labels)), labels]).sum() / len(labels)
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.parts["segmenter/state"], expected.detach())
    accuracy = (logits.argmax(1)[known] == labels).float().mean()
    torch.testing.assert_close(loss.parts["segmenter/accuracy"], accuracy)


def test_smoothing_of_labels_is_that_of_the_config():
    plain, smooth = (make_segmenter(segmenter_config(label_smoothing=value)) for value in (0.0, 0.2))
    assert plain(points_of()).total != smooth(points_of()).total


def test_a_batch_without_a_known_point_teaches_nothing(model):
    points = points_of()
    loss = model(replace(points, labels=torch.full_like(points.labels, -1)))
    assert loss.total == 0
    loss.total.backward()
    with pytest.raises(ValueError, match="the batch has no labels"):
        model(replace(points, labels=None))


def test_unknown_points_have_no_part_in_the_gradient():
    model = make_segmenter()
    points = points_of()
    points = replace(points, labels=points.labels.masked_fill(points.labels == 2, -1))
    model(points).total.backward()
    bias = model.get_submodule("network.head")[-1].bias
    assert bias.grad[2] > 0  # nothing that it is told is a building: only less of it


def test_features_are_normalised_by_the_configs_statistics():
    points = points_of()
    config = segmenter_config()
    model = make_segmenter(config)
    shifted = Segmenter(replace(config, mean=tuple(value + 3 for value in config.mean))).eval()
    shifted.load_state_dict(model.state_dict())
    moved = replace(points, features=points.features + 3)
    torch.testing.assert_close(shifted.probabilities(moved), model.probabilities(points), rtol=1e-3, atol=1e-4)


def test_probabilities_of_every_point_of_every_cloud(model):
    one, other = points_of(), points_of(1, size=30)
    found = model.probabilities(packed(one, other))
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert torch.equal(found, torch.cat([model.probabilities(one), model.probabilities(other)]))
    assert torch.equal(model.predict(one), model.probabilities(one).argmax(1))
    assert not found.requires_grad


def test_probabilities_are_averaged_over_the_fields_that_see_a_point(model):
    """Of fields by hand: the cylinders around the middles of squares as wide as a radius."""
    points, radius = points_of(), model.config.radius
    places = (points.xyz[:, :2] / radius).floor().unique(dim=0)
    sums, counts = torch.zeros(len(points.xyz), 3), torch.zeros(len(points.xyz), 1)
    features = (points.features - model.mean) / model.std
    for place in places:
        rows = ((points.xyz[:, :2] - (place + 0.5) * radius).norm(dim=1) <= radius).nonzero()[:, 0]
        field = PointBatch(points.xyz[rows], features[rows], None, torch.tensor([0, len(rows)]))
        with torch.no_grad():
            sums[rows] += model.network(field).softmax(1)
        counts[rows] += 1
    assert counts.min() >= 1
    assert counts.max() >= 3
    torch.testing.assert_close(model.probabilities(points), sums / counts, rtol=1e-4, atol=1e-5)


def test_crowded_fields_are_looked_at_in_parts():
    model = make_segmenter(segmenter_config(max_points=100))
    seen = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0].xyz)))
    found = model.probabilities(points_of())
    assert max(seen) <= 100
    assert found.isfinite().all()


def test_wanted_points_come_out_as_among_all(model):
    points = points_of(size=60)
    wanted = points.xyz[:, 0] < points.xyz[:, 0].quantile(0.2)
    found, every = model.probabilities(points, wanted), model.probabilities(points)
    assert torch.equal(found[wanted], every[wanted])
    assert found[~wanted].isnan().any()


def test_a_town_is_learned_in_seconds():
    torch.manual_seed(0)
    model = Segmenter(segmenter_config()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = packed(*(points_of(seed) for seed in (1, 2)))
    for _ in range(40):
        optimizer.zero_grad()
        model(batch).total.backward()
        optimizer.step()
    seen = points_of(3)  # another town
    known = seen.labels >= 0
    assert (model.eval().predict(seen) == seen.labels)[known].float().mean() > 0.95


def test_it_comes_back_bitwise(model, tmp_path):
    model.save(tmp_path, data=CloudOrigin(grid=1.0))
    loaded = load(tmp_path)
    assert isinstance(loaded, Segmenter)
    assert not loaded.training
    assert loaded.config == model.config
    one, other = model.state_dict(), loaded.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(loaded.probabilities(points_of()), model.probabilities(points_of()))


def test_config_goes_through_json():
    config = segmenter_config(names=("a", "b", "ü"), writes=(2, 3, 6), label_smoothing=0.1)
    assert SegmenterConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ValueError, match=r"unknown fields in the segmenter's config: speed"):
        SegmenterConfig.from_json({**config.to_json(), "speed": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("ground",)}, r"names \(1\), codes \(3\)"),
        ({"writes": (2, 5)}, r"writes \(2\)"),
        ({"class_weights": (1.0,) * 4}, r"class_weights \(4\) need one entry for each class"),
        ({"mean": (0.0,)}, r"mean, std and the network's in_dim \(5\) differ"),
        ({"network": replace(segmenter_config().network, num_classes=2)}, "num_classes is 2; there are 3"),
        ({"radius": 0.0}, "radius is 0.0; it must be above 0"),
        ({"max_points": 0}, "max_points is 0; it must be at least 1"),
    ],
)
def test_configs_that_contradict_themselves(change, message):
    with pytest.raises(ValueError, match=message):
        segmenter_config(**change)


def rewrite(**changes):
    def change(path):
        config = json.loads(path.read_text())
        for name, value in changes.items():
            config["model"].pop(name) if value is None else config["model"].update({name: value})
        path.write_text(json.dumps(config))

    return change


DAMAGE = {
    **{f"no {name}": rewrite(**{name: None}) for name in ("names", "codes", "network", "features")},
    "a class less": rewrite(names=["ground", "building"]),
    "classes that are numbers": rewrite(codes=[2, 3, 6]),
    "a network that is a word": rewrite(network="small"),
    "a network of another kind": rewrite(network={"layers": 3}),
    "another width": rewrite(network={**segmenter_config().to_json()["network"], "dims": [16, 16]}),
    "a width that is a word": rewrite(network={**segmenter_config().to_json()["network"], "dims": ["a", "b"]}),
    "a radius that is a word": rewrite(radius="wide"),
    "more": rewrite(speed=3),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_run_folders_are_one_line(model, tmp_path, damage):
    model.save(tmp_path / "run")
    DAMAGE[damage](tmp_path / "run" / "config.json")
    with pytest.raises(ValueError, match="run/") as refused:
        load(tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_points_of_other_features_are_refused(model):
    cloud = having(part_of(town(), range(500)))
    cells = make_cells(cloud, 1.0, ())
    with pytest.raises((ValueError, RuntimeError)):
        model.probabilities(PointBatch(cells.xyz, cells.features, None, torch.tensor([0, len(cells)])))
