"""Clouds are labelled whole or in pieces with the same result, and copies differ in their classes alone."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import laspy
import numpy as np
import pytest
import torch

from oneiros.data.clouds import formats
from oneiros.data.clouds.formats import Cloud, open_cloud, write_cloud
from oneiros.points import labelling, tiles
from oneiros.points.labelling import Labelling, label_file, label_points, load_segmenter
from tests.dot_runs import save_world
from tests.towns import CORNER, having, make_segmenter, part_of, save_segmenter, segmenter_config, town, write_town

ENDINGS = ("las", "laz", "ply", "npy")


@pytest.fixture(scope="module")
def model():
    return make_segmenter()


def spread(monkeypatch, tile: int, chunk: int) -> None:
    """Points dealt out to small tiles, read in small chunks."""
    monkeypatch.setattr(tiles, "TILE_POINTS", tile)
    monkeypatch.setattr(tiles, "CHUNK_POINTS", chunk)


def write_street(path: Path) -> Path:
    """400 m long and 40 m wide, up and down, so that how high a point is depends on how far one looks for ground.

    In eighths of a metre, which no shift of coordinates rounds.
    """
    cloud = town(size=400, spacing=1.3, houses=200, trees=200)
    cloud = part_of(cloud, cloud.xyz[:, 1] < cloud.xyz[:, 1].min() + 40)
    cloud.xyz[:, 2] += 0.3 * np.abs((cloud.xyz[:, 0] - cloud.xyz[:, 0].min()) % 80 - 40)
    write_cloud(path, replace(cloud, xyz=np.round(cloud.xyz * 8) / 8))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_probabilities_of_every_point(model):
    found = label_points(model, town())
    assert found.shape == (len(town()), 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert (found.argmax(1).bincount(minlength=3) > 100).all()  # or the other tests would see little


def test_points_that_are_needed_get_what_they_would_among_all(model):
    cloud = town(size=60)
    needed = cloud.xyz[:, 0] < np.quantile(cloud.xyz[:, 0], 0.1)
    some, every = label_points(model, cloud, needed), label_points(model, cloud)
    assert torch.equal(some[needed], every[needed])
    assert some[~needed].isnan().any()  # or the fields far from all that are needed were computed, too


def test_points_of_a_cell_share_its_probabilities(model):
    cloud = town()
    twice = Cloud(np.repeat(cloud.xyz, 2, 0), {name: np.repeat(each, 2) for name, each in cloud.attributes.items()})
    found = label_points(model, twice)
    assert torch.equal(found[::2], found[1::2])
    torch.testing.assert_close(found[::2], label_points(model, cloud), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_copy_differs_in_the_classes_alone(model, tmp_path, ending):
    source = write_town(tmp_path / f"town.{ending}")
    before = digest(source)
    counts = label_file(model, source, tmp_path / f"out.{ending}")
    assert digest(source) == before
    assert names_in(tmp_path) == sorted([f"out.{ending}", f"town.{ending}"])
    ours, theirs = open_cloud(tmp_path / f"out.{ending}").read(), open_cloud(source).read()
    assert np.array_equal(ours.xyz, theirs.xyz)
    assert ours.attributes.keys() == theirs.attributes.keys()
    changed = [name for name in ours.attributes if not np.array_equal(ours.attributes[name], theirs.attributes[name])]
    assert changed == ["classification"]
    codes = np.array([2, 5, 6])[label_points(model, theirs).argmax(1)]
    assert np.array_equal(ours.classification, codes)
    assert counts == {"ground": sum(codes == 2), "vegetation": sum(codes == 5), "building": sum(codes == 6)}


def test_a_merged_class_is_written_as_its_commonest_code(tmp_path):
    model = make_segmenter(segmenter_config(writes=(2, 3, 6)))
    label_file(model, write_town(tmp_path / "town.las"), tmp_path / "out.las")
    assert set(open_cloud(tmp_path / "out.las").classes) == {2, 3, 6}


def test_probabilities_go_with_the_classes(model, tmp_path):
    source = write_town(tmp_path / "town.laz")
    label_file(model, source, tmp_path / "out.laz", how=Labelling(probabilities=True))
    found = open_cloud(tmp_path / "out.laz").read()
    names = [f"probability_{name}" for name in model.config.names]
    chances = np.stack([found.attributes[name] for name in names], 1)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)
    assert np.array_equal(np.array([2, 5, 6])[chances.argmax(1)], found.classification)
    np.testing.assert_allclose(chances, label_points(model, open_cloud(source).read()), atol=1e-6)


@pytest.mark.parametrize("radius", [3.25, 33.25])
def test_many_tiles_give_the_labels_of_one_piece(tmp_path, monkeypatch, radius):
    """No tile sees everything: a field that stood elsewhere or lost a corner would show, and a height above ground
    that lies in the next tile."""
    config = segmenter_config(("intensity", "returns", "colour"), radius=radius, max_points=500)
    model = make_segmenter(replace(config, network=replace(config.network, grid=0.5)))
    source = write_street(tmp_path / "street.npy")
    whole = label_points(model, open_cloud(source).read())
    seen = []

    def spying(model, cloud, needed, profile):
        seen.append((len(cloud), int(needed.sum())))
        return label_points(model, cloud, needed, profile)

    monkeypatch.setattr(labelling, "label_points", spying)
    spread(monkeypatch, tile=2_000, chunk=777)
    label_file(model, source, tmp_path / "out.npy", how=Labelling(probabilities=True))
    assert len(seen) >= 4
    assert sum(own for _, own in seen) == len(whole)
    assert max(points for points, _ in seen) < 0.9 * len(whole)
    found = open_cloud(tmp_path / "out.npy").read()
    chances = np.stack([found.attributes[f"probability_{name}"] for name in model.config.names], 1)
    close = (np.abs(chances - whole.numpy()) < 1e-5).all(1)
    assert close.mean() > 0.999  # not quite all: sums of three coordinates and more are rounded
    labels = np.array(model.config.writes)[whole.argmax(1)]
    assert (found.classification == labels).mean() > 0.999


def test_dark_chunks_are_read_as_the_bright_ones(tmp_path, monkeypatch):
    """16-bit colours: a chunk of shadows whose values fit 8 bits is no 8-bit picture."""
    cloud, model = town(), make_segmenter(segmenter_config(("colour",)))
    order = np.argsort(cloud.xyz[:, 0])
    cloud = part_of(cloud, order)
    dark = np.arange(len(cloud)) < len(cloud) // 2
    cloud = having(cloud, **{name: np.where(dark, 200, cloud.attributes[name]) for name in ("red", "green", "blue")})
    write_cloud(tmp_path / "town.las", cloud)
    label_file(model, tmp_path / "town.las", tmp_path / "whole.las")
    spread(monkeypatch, tile=10_000, chunk=500)
    label_file(model, tmp_path / "town.las", tmp_path / "parts.las")
    assert digest(tmp_path / "parts.las") == digest(tmp_path / "whole.las")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_cloud_is_opened_once_and_its_paths_are_checked_once(model, tmp_path, monkeypatch, ending):
    source, calls = write_town(tmp_path / f"town.{ending}", size=14), []

    def noting(function):
        return lambda *arguments: calls.append(function.__name__) or function(*arguments)

    for module in (labelling, formats):
        for name in ("open_cloud", "check_paths"):
            monkeypatch.setattr(module, name, noting(getattr(module, name)))
    label_file(model, source, tmp_path / f"out.{ending}", how=Labelling(probabilities=True))
    assert calls == ["check_paths", "open_cloud"]


def test_a_cloud_of_one_point(model, tmp_path):
    write_cloud(tmp_path / "point.npy", part_of(town(), np.array([5])))
    assert sum(label_file(model, tmp_path / "point.npy", tmp_path / "out.npy").values()) == 1
    assert open_cloud(tmp_path / "out.npy").num_points == 1


def test_attributes_that_the_model_does_not_look_at_may_be_missing_or_no_numbers(model, tmp_path):
    cloud = town()
    write_cloud(tmp_path / "town.ply", having(cloud, red=np.full(len(cloud), np.nan, np.float32), green=None))
    label_file(model, tmp_path / "town.ply", tmp_path / "out.ply")
    assert np.isnan(open_cloud(tmp_path / "out.ply").read().attributes["red"]).all()


def test_unclassified_points_are_classified(model, tmp_path):
    write_cloud(tmp_path / "raw.npy", having(town(), classification=None))
    label_file(model, tmp_path / "raw.npy", tmp_path / "out.npy")
    assert set(open_cloud(tmp_path / "out.npy").classes) == {2, 5, 6}


def test_strays_are_written_as_unclassified_and_change_nothing_else(model, tmp_path):
    cloud = town()
    strays = np.array([[0.0, 0, 0], [0, 0, 5], [9e6, 9e6, 0]])
    attributes = {name: np.concatenate([each, each[:3]]) for name, each in cloud.attributes.items()}
    write_cloud(tmp_path / "clean.npy", cloud)
    write_cloud(tmp_path / "strays.npy", Cloud(np.concatenate([cloud.xyz, strays]), attributes))
    clean = label_file(model, tmp_path / "clean.npy", tmp_path / "out.npy")
    found = label_file(model, tmp_path / "strays.npy", tmp_path / "out2.npy")
    assert found == {**clean, "strays": 3}
    labels = open_cloud(tmp_path / "out2.npy").read().classification
    assert (labels[-3:] == 1).all()
    assert np.array_equal(labels[:-3], open_cloud(tmp_path / "out.npy").read().classification)


def test_feet_are_labelled_as_the_metres_they_are(model, tmp_path):
    """US survey feet, written back untouched."""
    cloud = town()
    keys = struct.pack("<16H", 1, 1, 0, 3, 1024, 0, 1, 1, 3072, 0, 1, 32767, 3076, 0, 1, 9003)
    las = laspy.create(point_format=6, file_version="1.4")
    las.header.vlrs.append(laspy.VLR("LASF_Projection", 34735, "", keys))
    las.header.scales, las.header.offsets = np.full(3, 0.0001), np.floor(cloud.xyz.min(0) / 0.3048006096)
    las.x, las.y, las.z = (cloud.xyz * 3937 / 1200).T
    for name in ("intensity", "return_number", "number_of_returns"):
        las[name] = cloud.attributes[name]
    las.write(tmp_path / "feet.laz")
    label_file(model, tmp_path / "feet.laz", tmp_path / "out.laz")
    ours = open_cloud(tmp_path / "out.laz").read()
    assert np.array_equal(ours.xyz, open_cloud(tmp_path / "feet.laz").read().xyz)
    codes = np.array(model.config.writes)[label_points(model, cloud).argmax(1)]
    assert (ours.classification == codes).mean() > 0.97  # coordinates are rounded, so that some change their cells


def test_a_few_false_echoes_change_few_labels(model):
    cloud = town(size=60)
    noise = np.array([[20.0, 20, -30], [40, 41, -28], [41, 20, 50]]) + CORNER
    attributes = {name: np.concatenate([each, each[:3]]) for name, each in cloud.attributes.items()}
    both = Cloud(np.concatenate([cloud.xyz, noise]), attributes)
    ours, theirs = label_points(model, both).argmax(1)[:-3], label_points(model, cloud).argmax(1)
    assert (ours == theirs).float().mean() > 0.99


def test_an_empty_cloud_is_copied(model, tmp_path):
    write_cloud(tmp_path / "empty.laz", part_of(town(), np.arange(0)))
    assert label_file(model, tmp_path / "empty.laz", tmp_path / "out.laz") == {}
    assert open_cloud(tmp_path / "out.laz").num_points == 0


# -- refusals ------------------------------------------------------------------------------------------------------


def nan_at(cloud: Cloud, name: str, row: int) -> Cloud:
    values = cloud.attributes[name].astype(np.float32)
    values[row] = np.nan
    return having(cloud, **{name: values})


REFUSED = {
    "no intensity": (lambda c: having(c, intensity=None), "has no intensity, which the model was trained with"),
    "no returns": (lambda c: having(c, return_number=None), "has no returns, which the model was trained with"),
    "no colour": (lambda c: having(c, blue=None), "has no colour, which the model was trained with"),
    "NaN colour": (lambda c: nan_at(c, "green", 1234), "point 1234: green is nan"),
    "NaN intensity": (lambda c: nan_at(c, "intensity", 77), "point 77: intensity is nan"),
    "degrees": (lambda c: replace(c, xyz=c.xyz * (1e-7, 1e-6, 1)), "x and y look like degrees, not metres"),
}


@pytest.mark.parametrize("ending", ["ply", "npy"])
@pytest.mark.parametrize("wrong", REFUSED)
def test_clouds_that_do_not_fit_leave_nothing_behind(tmp_path, monkeypatch, wrong, ending):
    model = make_segmenter(segmenter_config(("intensity", "returns", "colour")))
    change, message = REFUSED[wrong]
    source = tmp_path / f"town.{ending}"
    write_cloud(source, change(town()))
    spread(monkeypatch, tile=1000, chunk=500)
    before = digest(source)
    with pytest.raises(ValueError, match=rf"^{source}: .*{message}") as refused:
        label_file(model, source, tmp_path / "new" / f"out.{ending}")
    assert "\n" not in str(refused.value)
    assert digest(source) == before
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [source]


def test_coordinates_that_are_no_numbers(model, tmp_path):
    table = np.zeros(3, [(name, np.float64) for name in ("x", "y", "z", "intensity")])
    table["y"][1] = np.nan
    np.save(tmp_path / "town.npy", table)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/town\.npy: point 1 of 3: y is nan"):
        label_file(make_segmenter(segmenter_config(("intensity",))), tmp_path / "town.npy", tmp_path / "out.npy")
    assert names_in(tmp_path) == ["town.npy"]


def test_a_point_far_from_all_others_is_named(model, tmp_path):
    cloud = part_of(town(), np.arange(2))
    far = replace(cloud, xyz=np.array([[0.0, 0, 0], [7e5, 6e6, 100]]))
    write_cloud(tmp_path / "far.npy", far)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/far\.npy: extends over 700,000 x 6,000,000, too much for"):
        label_points(model, open_cloud(tmp_path / "far.npy").read())


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("town.laz", "is the source itself"),
        ("out.las", r"must end in \.laz"),
        ("out.copc.laz", "COPC cannot be written"),
    ],
)
def test_wrong_names_are_refused_before_the_work(model, tmp_path, monkeypatch, out, message):
    source = write_town(tmp_path / "town.laz")
    before = digest(source)
    monkeypatch.setattr(labelling, "label_points", lambda *_: pytest.fail("labelled before the name was looked at"))
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{out}: .*{message}"):
        label_file(model, source, tmp_path / out)
    assert digest(source) == before
    assert names_in(tmp_path) == ["town.laz"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("where", ["label_points", "copy_with_labels"])
def test_nothing_half_written_is_left(model, tmp_path, monkeypatch, error, where):
    source = write_town(tmp_path / "town.laz")
    (tmp_path / "out.laz").write_text("what was here before")
    before = digest(source)

    def failing(*_, **__):
        assert any(path.name.startswith(".partial-") for path in tmp_path.iterdir())
        raise error

    monkeypatch.setattr(labelling, where, failing)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        label_file(model, source, tmp_path / "out.laz")
    assert names_in(tmp_path) == ["out.laz", "town.laz"]
    assert (tmp_path / "out.laz").read_text() == "what was here before"
    assert digest(source) == before


def test_classes_that_the_format_cannot_hold(tmp_path):
    las = laspy.create(point_format=3, file_version="1.2")
    las.x, las.y, las.z = town().xyz.T
    las.write(tmp_path / "old.las")
    model = make_segmenter(segmenter_config((), writes=(2, 64, 65)))
    with pytest.raises(ValueError, match=r"old\.las holds classes from 0 to 31"):
        label_file(model, tmp_path / "old.las", tmp_path / "out.las")
    assert names_in(tmp_path) == ["old.las"]


def test_only_a_segmenters_run_will_do(tmp_path):
    save_world(tmp_path / "world")
    with pytest.raises(ValueError, match=r"world holds a world; this needs a segmenter"):
        load_segmenter(tmp_path / "world")
    with pytest.raises(ValueError, match="is no run folder"):
        load_segmenter(tmp_path)
    run = save_segmenter(tmp_path / "run")
    assert load_segmenter(run).num_classes == 3
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"returns"', '"smell"'))
    with pytest.raises(
        ValueError, match="'smell' is no feature; choose from cones, steps, intensity_rank, echoes, colour_rank"
    ):
        load_segmenter(run)
    (run / "config.json").write_text(config.replace('"returns"', '"colour"'))
    with pytest.raises(ValueError, match="heights, intensity, colour are not the 5 features that its network takes"):
        load_segmenter(run)
