"""Heights above the ground around, whatever lies below it: false echoes, terraces, and roofs wider than a field.

Legend: S cells; R, C rows and columns of a raster.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import minimum_filter
from scipy.spatial import KDTree

NEAR_REACHES = (12, 40)  # in cells: how far around the lowest ground is looked for
SLOPES = (0.05, 0.2, 0.6)  # of the cones that the ground is looked for in, further off
_CONE_STEPS = (1, 2, 4, 8, 16)  # in cells of the raster; a cone reaches as far as they do together
RASTER = 4  # cells of the grid along one side of a raster's cell
_USUAL = 0.3  # share of the points over a raster's cell below which false echoes may lie
_AROUND = 5  # cells of the raster along the side of the squares in which false echoes are told from ground
_AT_ONCE = 100_000  # cells whose surroundings are looked at together
_BLOCK = 5  # cells of the raster along the side of the blocks in which swarms of them are
_PIT = 6  # in cells: how far below what is around it a cell lies that may be a false echo
_COMPANY = 7  # cells as near as this many usually are, a few times over, make it none
_ALONE = (6, 15)  # in cells: the least and the most that counts as near
_TIMES = 4


def heights(xyz: np.ndarray, counts: np.ndarray, grid: float, *, density: float, cones: bool) -> np.ndarray:
    """Metres above the lowest ground within each of `NEAR_REACHES` and, with `cones`, above each of the cones that
    stand with their tips on the ground: float32 (S, 2 or 5).

    xyz: float64 (S, 3), cells of side `grid`, from an origin that is a multiple of RASTER * grid. counts: int64 (S,),
        points of each. density: points a square metre of the whole cloud.
    A cone of slope s over a place is the lowest of ground(y) + s * distance(y): a roof too wide for a square to look
    beyond its edge stands out against a flat cone, and a hillside does not against a steep one.
    """
    side = RASTER * grid
    places = np.floor(xyz[:, :2] / side).astype(np.int64)
    places -= places.min(0) // _BLOCK * _BLOCK  # of a raster that is fixed in the world, as the origin is
    ground = _ground(xyz, counts, places, grid, density, wide=cones)
    rows, columns = places.T
    found = [xyz[:, 2] - lowest(ground, reach // RASTER)[rows, columns] for reach in NEAR_REACHES]
    if cones:
        found += [xyz[:, 2] - _cone(ground, slope * side)[rows, columns] for slope in SLOPES]
    above = np.stack(found, 1)
    return np.where(np.isfinite(above), above, 0).astype(np.float32)  # no ground is known amid false echoes


def reach(grid: float, *, cones: bool) -> float:
    """How far around a cell its heights depend on others, in metres."""
    furthest = sum(_CONE_STEPS) * RASTER if cones else max(NEAR_REACHES)
    around = _AROUND * _BLOCK if cones else _AROUND
    return (furthest + (around // 2 + _AROUND // 2 + 3) * RASTER + max(_ALONE)) * grid


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
    kept = ~_false_echoes(xyz, usual[which], grid, density)
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


def _false_echoes(xyz: np.ndarray, usual: np.ndarray, grid: float, density: float) -> np.ndarray:
    """Which cells lie far below what most points around are above, `usual` (S,), and have less company than surfaces
    have: bool (S,)."""
    deep = xyz[:, 2] < usual - _PIT * grid
    if not deep.any():
        return deep
    near = _TIMES * np.sqrt(_COMPANY / np.pi / min(max(density, 1e-9), grid**-2))
    near = min(max(near, _ALONE[0] * grid), _ALONE[1] * grid)
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
