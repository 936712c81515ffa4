"""Heights above the ground around, whatever lies below it: false echoes, terraces, and roofs wider than a field.

Legend: S cells; R, C rows and columns of a raster.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import minimum_filter, rank_filter
from scipy.spatial import KDTree

NEAR_REACHES = (12, 40)  # in cells: how far around the lowest ground is looked for
SLOPES = (0.05, 0.2, 0.6)  # of the cones that the ground is looked for in, further off
_CONE_STEPS = (1, 2, 4, 8, 16)  # in cells of the raster; a cone reaches as far as they do together
RASTER = 4  # cells of the grid along one side of a raster's cell
_USUAL = 0.3  # share of the points over a raster's cell below which false echoes may lie
_AROUND = 5  # cells of the raster along the side of the squares in which false echoes are told from ground
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
    low = _low(xyz, counts, places, shape, _USUAL)
    usual = np.maximum(_medians(low), _block_medians(low)) if wide else _medians(low)
    kept = ~_false_echoes(xyz, usual[places[:, 0], places[:, 1]], grid, density)
    first = _low(xyz[kept], counts[kept], places[kept], shape, 0.0)
    third = rank_filter(first, 2, _AROUND, mode="constant", cval=np.inf)
    return np.where(np.isfinite(third), np.maximum(first, third), first)


def _low(xyz: np.ndarray, counts: np.ndarray, places: np.ndarray, shape: tuple[int, ...], share: float) -> np.ndarray:
    """The height that this share of the points over a raster's cell stays below: (R, C)."""
    keys = places[:, 0] * shape[1] + places[:, 1]
    order = np.lexsort((xyz[:, 2], keys))
    used, starts, sizes = np.unique(keys[order], return_index=True, return_counts=True)
    upto = np.cumsum(counts[order])  # points up to each cell
    before = np.concatenate([[0], upto])[starts]
    wanted = before + share * (upto[starts + sizes - 1] - before - 1)
    ground = np.full(shape, np.inf)
    ground.flat[used] = xyz[order[np.searchsorted(upto, wanted, side="right")], 2]
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


def _medians(ground: np.ndarray) -> np.ndarray:
    """The median of what is known of the square around each of a raster's cells; inf where nothing is."""
    wide = np.pad(ground, _AROUND // 2, constant_values=np.inf)
    around = np.lib.stride_tricks.sliding_window_view(wide, (_AROUND, _AROUND))
    return _median(around.reshape(*ground.shape, -1))


def _block_medians(ground: np.ndarray) -> np.ndarray:
    """The same of squares of blocks, for swarms of false echoes over places that have no others."""
    rows, columns = (-(-size // _BLOCK) for size in ground.shape)
    ends = [(0, count * _BLOCK - size) for count, size in zip((rows, columns), ground.shape, strict=True)]
    whole = np.pad(ground, ends, constant_values=np.inf)
    blocks = whole.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2).reshape(rows, columns, -1)
    found = _medians(_median(blocks))
    return found.repeat(_BLOCK, 0).repeat(_BLOCK, 1)[: ground.shape[0], : ground.shape[1]]


def _median(values: np.ndarray) -> np.ndarray:
    """The lower median of the finite ones along the last axis, inf where there are none."""
    ordered = np.sort(values, axis=-1)
    middle = (np.isfinite(ordered).sum(-1) - 1).clip(0) // 2
    return np.take_along_axis(ordered, middle[..., None], -1)[..., 0]


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
