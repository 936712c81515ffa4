"""Receptive fields drawn by chance: by their seeds alone, from one cloud each, from every class equally often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from oneiros.points.cells import NOT_LEARNED, Cells
from oneiros.points.fields import Augmentation, Fields
from oneiros.records import PointBatch

STILL = Augmentation(stretch=0, flip=False, turn=False, jitter=0, dim=0, thin=1, warp=0, drop=0)
HEIGHT_CHANNELS = 2
RELATIVE = ("intensity_rank", "echoes")
RADIUS, GRID = 6.0, 1.0


def plain(num_cells: int, label: int, *, size: float = 40.0) -> Cells:
    """Cells all of one label; their last feature is their number, by which they are known again."""
    random = np.random.default_rng(label + 1)
    xyz = torch.from_numpy(random.uniform(0, size, (num_cells, 3))).float()
    features = torch.cat([xyz[:, 2:] + 1, xyz[:, 2:] + 2, torch.arange(num_cells)[:, None] + 1.0], 1)
    labels = torch.full((num_cells,), label)
    return Cells(xyz, features, labels, torch.arange(num_cells), np.zeros(3))


def fields_of(
    *clouds: Cells, augmentation: Augmentation | None = STILL, max_points: int = 10_000, features=("intensity",)
) -> Fields:
    options = {"features": features, **_options(augmentation, max_points)}
    return Fields(clouds, num_classes=3, **options)


def _options(augmentation: Augmentation | None, max_points: int) -> dict:
    return {"radius": RADIUS, "grid": GRID, "max_points": max_points, "augmentation": augmentation}


def drawn(fields: Fields, seed: int) -> PointBatch:
    return fields.batch([seed])


def members(field: PointBatch) -> torch.Tensor:
    """Which cells are in a field that was not dimmed."""
    return field.features[:, -1].long() - 1


def distances(xyz: torch.Tensor) -> torch.Tensor:
    return (xyz[:, None] - xyz).norm(dim=2)


def test_a_seed_decides_its_field_alone():
    fields = fields_of(plain(500, 0), plain(500, 2), augmentation=None)
    together = fields.batch([3, 7, 11])
    torch.manual_seed(5)
    np.random.seed(5)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for number, seed in enumerate((3, 7, 11)):
        alone = drawn(fields_of(plain(500, 0), plain(500, 2), augmentation=None), seed)
        first, last = together.offsets[number], together.offsets[number + 1]
        for name in ("xyz", "features", "labels"):
            assert torch.equal(getattr(together, name)[first:last], getattr(alone, name))
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)
    assert not torch.equal(drawn(fields, 3).xyz[:5], drawn(fields, 4).xyz[:5])


def test_batches_are_packed():
    batch = fields_of(plain(500, 0)).batch(range(4))
    assert batch.offsets.shape == (5,)
    assert (batch.offsets[0], batch.offsets[-1]) == (0, len(batch.xyz))
    assert (batch.offsets.diff() > 0).all()
    assert (batch.xyz.dtype, batch.features.dtype, batch.labels.dtype) == (torch.float32, torch.float32, torch.int64)


def test_every_class_stands_in_the_middle_equally_often():
    """Classes live in clouds of their own here: thousands of one, a handful of the other, none of the third."""
    fields = fields_of(plain(3000, 0), plain(20, 2))
    firsts = torch.stack([drawn(fields, seed).labels[0] for seed in range(300)])
    assert sorted(firsts.unique().tolist()) == [0, 2]
    assert (firsts == 2).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_cells_that_are_not_learned_from_are_seen_but_stand_in_no_middle():
    unknown = replace(plain(2000, 0), labels=torch.full((2000,), NOT_LEARNED))
    known = plain(10, 1, size=5.0)
    both = Cells(
        *(torch.cat([getattr(unknown, name), getattr(known, name)]) for name in ("xyz", "features", "labels")),
        torch.arange(2010),
        np.zeros(3),
    )
    for seed in range(10):
        labels = drawn(fields_of(replace(unknown, labels=None), both), seed).labels
        assert (labels == 1).any()
        assert (labels == NOT_LEARNED).any()


def test_a_field_is_a_whole_cylinder_of_one_cloud():
    clouds = [plain(2000, 0), plain(1500, 1)]
    fields = fields_of(*clouds)
    for seed in range(20):
        field = drawn(fields, seed)
        assert len(field.labels.unique()) == 1
        cells = clouds[field.labels[0]]
        rows = members(field)
        torch.testing.assert_close(field.xyz[:, 2], cells.xyz[rows, 2])
        moved = cells.xyz[rows, :2] - field.xyz[:, :2]  # the middle, the same for all
        torch.testing.assert_close(moved, moved[:1].expand_as(moved), rtol=0, atol=1e-4)
        near = (cells.xyz[:, :2] - moved[0]).norm(dim=1)
        assert set((near < RADIUS - 1e-3).nonzero()[:, 0].tolist()) <= set(rows.tolist())
        assert (near[rows] <= RADIUS + 1e-3).all()


def test_too_full_a_field_is_thinned_without_repetition():
    full, thin = fields_of(plain(3000, 0)), fields_of(plain(3000, 0), max_points=50)
    for seed in range(5):
        rows = members(drawn(thin, seed))
        assert len(rows) == 50 == len(rows.unique())
        assert set(rows.tolist()) < set(members(drawn(full, seed)).tolist())


def test_labels_and_features_stay_with_their_cells():
    cells = plain(2000, 0)
    cells = replace(cells, labels=torch.arange(2000) % 3)
    field = drawn(fields_of(cells, augmentation=replace(Augmentation(), dim=0.0, thin=1.0), max_points=100), 0)
    assert torch.equal(field.labels, members(field) % 3)


def test_turning_and_flipping_keep_distances_and_heights():
    cells = plain(800, 0)
    fields = fields_of(cells, augmentation=replace(STILL, turn=True, flip=True))
    angles, mirrored = [], 0
    for seed in range(60):
        field = drawn(fields, seed)
        before, after = cells.xyz[members(field)], field.xyz
        torch.testing.assert_close(distances(after), distances(before), rtol=0, atol=1e-4)
        assert torch.equal(after[:, 2], before[:, 2])
        one, other = before[:, :2] - before[0, :2], after[:, :2] - after[0, :2]
        turn = torch.linalg.lstsq(one, other).solution.T
        mirrored += bool(torch.det(turn) < 0)
        if torch.det(turn) > 0:
            angles.append(torch.atan2(turn[1, 0], turn[0, 0]))
    assert 15 < mirrored < 45
    assert torch.histc(torch.stack(angles), 4, -np.pi, np.pi).min() > 0


def test_stretching_stretches_heights_along():
    cells = plain(800, 0)
    ratios = []
    for seed in range(40):
        field = drawn(fields_of(cells, augmentation=replace(STILL, stretch=0.2)), seed)
        ratio = field.xyz[:, 2] / cells.xyz[members(field), 2]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
        heights = field.features[:, :HEIGHT_CHANNELS] / cells.features[members(field), :HEIGHT_CHANNELS]
        torch.testing.assert_close(heights, ratio[:, None].expand_as(heights))
        ratios.append(ratio[0].item())
    assert 0.8 <= min(ratios) < 0.9
    assert 1.1 < max(ratios) <= 1.2


def test_jitter_is_measured_in_cells():
    still, jittered = (
        torch.cat([drawn(fields_of(plain(2000, 0), augmentation=replace(STILL, jitter=jitter)), 0).xyz])
        for jitter in (0.0, 0.1)
    )
    assert (jittered - still).std().item() == pytest.approx(0.1 * GRID, rel=0.1)


def test_dimming_spares_the_heights():
    cells = plain(500, 0)
    still, dimmed = (drawn(fields_of(cells, augmentation=replace(STILL, dim=dim)), 1).features for dim in (0.0, 0.3))
    assert torch.equal(dimmed[:, :HEIGHT_CHANNELS], still[:, :HEIGHT_CHANNELS])
    ratio = dimmed[:, HEIGHT_CHANNELS:] / still[:, HEIGHT_CHANNELS:]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert 0.7 <= ratio[0] <= 1.3
    assert ratio[0] != 1


def relative(size: int = 4000) -> Cells:
    """Cells with a rank between -1 and 1, its flag, and two echoes with theirs."""
    random = np.random.default_rng(0)
    xyz = torch.from_numpy(random.uniform(0, 40, (size, 3))).float()
    ranks, ones = torch.linspace(-1, 1, size)[:, None], torch.ones(size, 1)
    features = torch.cat([xyz[:, 2:], xyz[:, 2:], ranks, ones, 0.5 * ones, 0.25 * ones, ones], 1)
    return Cells(xyz, features, torch.zeros(size, dtype=torch.int64), torch.arange(size), np.zeros(3))


def test_half_of_the_fields_are_thinned_to_any_share():
    cells = relative()
    full = [len(drawn(fields_of(cells, features=RELATIVE), seed).xyz) for seed in range(80)]
    how = replace(STILL, thin=0.05)
    thin = [len(drawn(fields_of(cells, features=RELATIVE, augmentation=how), seed).xyz) for seed in range(80)]
    shares = np.array(thin) / full
    assert 0.3 < (shares == 1).mean() < 0.7
    assert shares.min() < 0.25


def test_ranks_are_bent_and_keep_their_order():
    how, seen = replace(STILL, warp=0.5), []
    for seed in range(20):
        field = drawn(fields_of(relative(), features=RELATIVE, augmentation=how), seed)
        still = drawn(fields_of(relative(), features=RELATIVE), seed)
        ranks, before = field.features[:, 2], still.features[:, 2]
        order = before.argsort()
        assert (ranks[order].diff() >= 0).all()
        assert ranks.abs().max() <= 1
        assert torch.equal(field.features[:, 3:], still.features[:, 3:])
        seen.append((ranks - before).mean().item())
    assert min(seen) < -0.05 < 0.05 < max(seen)


def test_what_clouds_may_lack_is_dropped_whole_and_stays_unbent():
    how, dropped = replace(STILL, drop=0.5, warp=0.5), []
    for seed in range(60):
        features = drawn(fields_of(relative(), features=RELATIVE, augmentation=how), seed).features
        for place in (slice(2, 4), slice(4, 7)):
            gone = features[0, place.stop - 1] == 0
            dropped.append(bool(gone))
            assert (features[:, place.stop - 1] == features[0, place.stop - 1]).all()
            assert not gone or (features[:, place] == 0).all()
    assert 0.35 < np.mean(dropped) < 0.65
    missing = relative()
    missing.features[:, 2:4] = 0
    assert (drawn(fields_of(missing, features=RELATIVE, augmentation=how), 0).features[:, 2] == 0).all()


def test_the_clouds_stay_as_they_were():
    cells = plain(500, 0)
    before = cells.xyz.clone(), cells.features.clone(), cells.labels.clone()
    fields_of(cells, augmentation=Augmentation()).batch(range(5))
    assert all(torch.equal(*pair) for pair in zip(before, (cells.xyz, cells.features, cells.labels), strict=True))


def test_nothing_to_learn_is_refused():
    with pytest.raises(ValueError, match="no cell of the training clouds carries a class to learn"):
        fields_of(plain(10, NOT_LEARNED), replace(plain(10, 0), labels=None))
