"""Heights above the ground around, whatever lies below it: false echoes, terraces, and roofs wider than a field.

Legend: S cells; R, C rows and columns of a raster.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import cast

import numpy as np
from scipy.ndimage import distance_transform_edt, minimum_filter, uniform_filter
from scipy.spatial import KDTree

NEAR_REACHES = (12, 40)  # in cells: how far around the lowest ground is looked for
SLOPES = (0.05, 0.2, 0.6)  # of the cones that the ground is looked for in, further off
_CONE_STEPS = (1, 2, 4, 8, 16)  # in cells of the raster; a cone reaches as far as they do together
STEEPEST = (0.6, 1.2)  # rise over run that can be walked up
_WALK = sum(_CONE_STEPS)  # cells of the raster that are walked over at most
_GAP = 6  # cells of the raster by which what is known is spread into what is not
RASTER = 4  # cells of the grid along one side of a raster's cell
_USUAL = 0.3  # share of the points over a raster's cell below which false echoes may lie
_AROUND = 5  # cells of the raster along the side of the squares in which false echoes are told from ground
_AT_ONCE = 100_000  # cells whose surroundings are looked at together
_BLOCK = 5  # cells of the raster along the side of the blocks in which swarms of them are
_PIT = 6  # in cells: how far below what is around it a cell lies that may be a false echo
_COMPANY = 7  # cells as near as this many usually are, a few times over, make it none
_ALONE = (6, 15)  # in cells: the least and the most that counts as near
_TIMES = 4
_FEW = 0.5  # times the points that a place usually has, below which they may all be false echoes


def heights(
    xyz: np.ndarray, counts: np.ndarray, grid: float, *, density: float, features: Collection[str]
) -> dict[str, np.ndarray]:
    """What the ground around tells of each cell, in metres, by feature: float32 (S, C).

    "": above the lowest ground within each of `NEAR_REACHES` (C = 2), always. Of the others, those in `features`:
    cones: above each of the cones that stand with their tips on the ground (C = 3). A cone of slope s over a place is
        the lowest of ground(y) + s * distance(y): a roof too wide for a square to look beyond its edge stands out
        against a flat cone, and a hillside does not against a steep one.
    steps: how much lower than what can be walked to, over slopes of at most each of `STEEPEST`, the lowest ground as
        far off lies (C = 2): the height of the walls around a roof however wide, and none on a hillside, whatever its
        height.
    xyz: float64 (S, 3), cells of side `grid`, from an origin that is a multiple of RASTER * grid. counts: int64 (S,),
        points of each. density: points a square metre of the whole cloud.
    """
    side = RASTER * grid
    places = np.floor(xyz[:, :2] / side).astype(np.int64)
    places -= places.min(0) // _BLOCK * _BLOCK  # of a raster that is fixed in the world, as the origin is
    ground = _ground(xyz, counts, places, grid, density, wide="cones" in features)
    rows, columns = places.T
    found = {"": [xyz[:, 2] - lowest(ground, reach // RASTER)[rows, columns] for reach in NEAR_REACHES]}
    if "cones" in features:
        found["cones"] = [xyz[:, 2] - _cone(ground, slope * side)[rows, columns] for slope in SLOPES]
    if "steps" in features:
        lower = lowest(ground, _WALK)
        found["steps"] = [_walked(ground, side, slope)[rows, columns] - lower[rows, columns] for slope in STEEPEST]
    stacked = {name: np.stack(each, 1) for name, each in found.items()}
    # no ground is known amid false echoes
    return {name: np.where(np.isfinite(each), each, 0).astype(np.float32) for name, each in stacked.items()}


def reach(grid: float, features: Collection[str]) -> float:
    """How far around a cell these depend on others, in metres."""
    wide = not {"cones", "steps"}.isdisjoint(features)
    furthest = sum(_CONE_STEPS) * RASTER if wide else max(NEAR_REACHES)
    gap = _GAP * RASTER if "steps" in features else 0
    around = _AROUND * _BLOCK if "cones" in features else _AROUND
    return (furthest + gap + (around // 2 + _AROUND // 2 + 3) * RASTER + max(_ALONE)) * grid


def lowest(ground: np.ndarray, reach: int) -> np.ndarray:
    """The lowest of the squares around each of a raster's cells."""
    return minimum_filter(ground, 2 * reach + 1, mode="constant", cval=np.inf)


def _ground(
    xyz: np.ndarray, counts: np.ndarray, places: np.ndarray, grid: float, density: float, *, wide: bool
) -> np.ndarray:
    """The lowest height over each cell of a raster that is no false echo, inf where nothing lies: (R, C)."""
    shape = tuple((places.max(0) + 1).tolist())
    keys = places[:, 0] * shape[1] + places[:, 1]
    used, low, which = _low(keys, xyz[:, 2], counts, _USUAL)
    usual = _medians(_raster(shape, used, low), used)
    if wide:
        usual = np.maximum(usual, _block_medians(shape, used, low))
    few = _few(shape, keys, counts, _FEW * density * (RASTER * grid) ** 2)
    kept = ~_false_echoes(xyz, usual[which], few, grid, density)
    used, low, _ = _low(keys[kept], xyz[kept, 2], counts[kept], 0.0)
    third = _around(_raster(shape, used, low), used, lambda ordered: ordered[:, 2])
    return _raster(shape, used, np.where(np.isfinite(third), np.maximum(low, third), low))


def _low(
    keys: np.ndarray, heights: np.ndarray, counts: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys that occur, (U,), the height that this share of the points of each stays below, (U,), and where among them
    each cell's key is, (S,)."""
    order = np.lexsort((heights, keys))
    used, starts, which, sizes = np.unique(keys[order], return_index=True, return_inverse=True, return_counts=True)
    upto = np.cumsum(counts[order])  # points up to each cell
    before = np.concatenate([[0], upto])[starts]
    wanted = before + share * (upto[starts + sizes - 1] - before - 1)
    inverse = np.empty_like(which)
    inverse[order] = which
    return used, heights[order[np.searchsorted(upto, wanted, side="right")]], inverse


def _raster(shape: tuple[int, ...], used: np.ndarray, values: np.ndarray) -> np.ndarray:
    ground = np.full(shape, np.inf)
    ground.flat[used] = values
    return ground


def _few(shape: tuple[int, ...], keys: np.ndarray, counts: np.ndarray, expected: float) -> np.ndarray:
    """Which cells lie where a raster's cell has fewer points than that, on average of those around: bool (S,)."""
    points = np.bincount(keys, counts, minlength=shape[0] * shape[1]).reshape(shape)
    return uniform_filter(points, _AROUND, mode="constant").flat[keys] < expected


def _false_echoes(xyz: np.ndarray, usual: np.ndarray, few: np.ndarray, grid: float, density: float) -> np.ndarray:
    """Which cells have less company than surfaces have, and lie far below what most points around are above, `usual`
    (S,), or where points are `few`: bool (S,)."""
    deep = xyz[:, 2] < usual - _PIT * grid
    near = _TIMES * np.sqrt(_COMPANY / np.pi / min(max(density, 1e-9), grid**-2))
    near = min(max(near, _ALONE[0] * grid), _ALONE[1] * grid)
    if density * np.pi * near**2 >= _TIMES * _COMPANY:  # else surfaces themselves have no company
        deep |= few
    if not deep.any():
        return deep
    distances, _ = KDTree(xyz).query(xyz[deep], min(_COMPANY, len(xyz)), distance_upper_bound=near)
    false = np.zeros(len(xyz), bool)
    false[deep] = ~np.isfinite(np.asarray(distances).reshape(int(deep.sum()), -1)[:, -1])
    return false


def _around(ground: np.ndarray, used: np.ndarray, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """One of what is known of the square around each of the raster's used cells, (U,): choose gets them in order, (u,
    25), inf where nothing is known."""
    reach = _AROUND // 2
    wide = np.pad(ground, reach, constant_values=np.inf)
    steps = np.arange(_AROUND)
    found = [np.empty(0)]
    for first in range(0, len(used), _AT_ONCE):
        rows, columns = np.divmod(used[first : first + _AT_ONCE], ground.shape[1])
        around = wide[rows[:, None, None] + steps[:, None], columns[:, None, None] + steps]
        found.append(choose(np.sort(around.reshape(len(rows), -1), axis=1)))
    return np.concatenate(found)


def _medians(ground: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The lower median of what is known around each of a raster's used cells: (U,)."""

    def middle(ordered: np.ndarray) -> np.ndarray:
        return np.take_along_axis(ordered, (np.isfinite(ordered).sum(1, keepdims=True) - 1) // 2, 1)[:, 0]

    return _around(ground, used, middle)


def _block_medians(shape: tuple[int, ...], used: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The same of the squares of blocks around, for swarms of false echoes over places that have no others: (U,)."""
    rows, columns = np.divmod(used, shape[1])
    blocks = (-(-shape[0] // _BLOCK), -(-shape[1] // _BLOCK))
    keys = rows // _BLOCK * blocks[1] + columns // _BLOCK
    filled, middle, which = _low(keys, low, np.ones(len(used), np.int64), 0.5)
    return _medians(_raster(blocks, filled, middle), filled)[which]


def _cone(ground: np.ndarray, rise: float) -> np.ndarray:
    """The lower envelope that rises by at most `rise` from a cell of the raster to the next, as far as steps reach."""
    found = ground
    for step in _CONE_STEPS:
        wide = np.pad(found, step, constant_values=np.inf)
        rows, columns = found.shape
        best = found
        for down in (0, step, 2 * step):
            for right in (0, step, 2 * step):
                length = np.hypot(down - step, right - step)
                best = np.minimum(best, wide[down : down + rows, right : right + columns] + rise * length)
        found = best
    return found


def _walked(ground: np.ndarray, side: float, steepest: float) -> np.ndarray:
    """The lowest ground that can be walked to from each of a raster's cells, from one to the next of the eight around
    and nowhere steeper than `steepest`; across a gap as steep as it is from its one side to the other. inf where
    nothing is known."""
    found = distance_transform_edt(~np.isfinite(ground), return_indices=True)
    away, (row, column) = cast("tuple[np.ndarray, np.ndarray]", found)
    ground = np.where(away <= _GAP, ground[row, column], np.inf)
    steps = [(down, right) for down in (0, 1, 2) for right in (0, 1, 2) if (down, right) != (1, 1)]

    def beside(values: np.ndarray, down: int, right: int) -> np.ndarray:
        wide = np.pad(values, 1, constant_values=np.inf if values.dtype.kind == "f" else 0)
        return wide[down : down + values.shape[0], right : right + values.shape[1]]

    def walkable(down: int, right: int) -> np.ndarray:
        length = np.hypot(beside(row, down, right) - row, beside(column, down, right) - column)
        with np.errstate(invalid="ignore"):
            return np.abs(beside(ground, down, right) - ground) <= steepest * side * np.maximum(length, 1)

    open_ways, found = [walkable(*step) for step in steps], ground
    for _ in range(_WALK):
        lower = found
        for step, is_open in zip(steps, open_ways, strict=True):
            lower = np.minimum(lower, np.where(is_open, beside(found, *step), np.inf))
        if np.array_equal(lower, found):
            break
        found = lower
    return found
