"""Neighbours by a balanced k-d tree, compiled by numba.

The tree is the order of the points and little else: a node is a range of it, cut in the middle, so that every cloud of
a pack is a tree of its own within the same arrays. Queries run in tree order too: each finds its part of the tree in
the cache, which random order costs half the speed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from oneiros.ops.compiled import compiled
from oneiros.ops.threads import in_threads

LEAF = 24  # points compared at once
MAX_DEPTH = 64
QUERIES_PER_TASK = 2048


class Tree(NamedTuple):
    """Points in tree order, dimension by dimension, with the cut of the range [low, high) kept at its middle.

    coordinates: float64 (D, N). order: int64 (N,), the point's place before. axes: int8 (N,), the dimension that is
    cut, -1 where all points of the range are one. cuts: float64 (N,): no point before the middle lies above, none after
    below.
    """

    coordinates: np.ndarray
    order: np.ndarray
    axes: np.ndarray
    cuts: np.ndarray

    @classmethod
    def of(cls, points: Tensor, offsets: list[int]) -> Tree:
        """A tree for each cloud of points (N, D)."""
        coordinates = np.array(points.detach().double().numpy().T, order="C")  # always a copy: it is reordered
        num_points = len(points)
        tree = cls(coordinates, np.arange(num_points), np.zeros(num_points, np.int8), np.zeros(num_points))
        ranges = list(pairwise(offsets))
        share = max(num_points // (4 * torch.get_num_threads()), 4 * QUERIES_PER_TASK)
        whole = []
        while ranges:
            low, high = ranges.pop()
            if high - low > share and (middle := _cut(*tree, low, high)) >= 0:
                ranges += [(low, middle), (middle, high)]
            else:
                whole.append((low, high))
        in_threads(_grow, [(*tree, *span) for span in whole])
        return tree

    def within(self, centre: np.ndarray, radius: float, room: np.ndarray) -> int:
        """Write the points no further than `radius` from a centre (D,) into `room`, int64 (N,): their number.

        They come in no order. Only of a tree of one cloud.
        """
        return _within(*self, centre, radius, room)


def search(
    points: Tensor, queries: Tensor, k: int, reach: float, offsets: Tensor, query_offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """As `reference.search`."""
    clouds, query_clouds = offsets.tolist(), query_offsets.tolist()
    tree = Tree.of(points, clouds)
    same = queries is points and clouds == query_clouds
    asked = tree if same else Tree.of(queries, query_clouds)
    indices = torch.empty(len(queries), k, dtype=torch.int64)
    squared = torch.empty(len(queries), k, dtype=torch.float64)
    found = (reach * reach, len(points), indices.numpy(), squared.numpy())
    tasks = [
        (*tree, low, high, asked.coordinates, asked.order, start, min(start + QUERIES_PER_TASK, last), *found)
        for (low, high), (first, last) in zip(pairwise(clouds), pairwise(query_clouds), strict=True)
        for start in range(first, last, QUERIES_PER_TASK)
    ]
    in_threads(_search, tasks)
    return indices, squared


@compiled
def _select(coordinates, order, axis, low, high, place):
    """Reorder the points in [low, high) so that `place` holds the one that sorting along `axis` would put there."""
    line = coordinates[axis]
    last = high - 1
    while low < last:
        a, b, c = line[low], line[(low + last) // 2], line[last]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, last
        while i <= j:
            while line[i] < pivot:
                i += 1
            while line[j] > pivot:
                j -= 1
            if i <= j:
                for each in range(len(coordinates)):
                    coordinates[each, i], coordinates[each, j] = coordinates[each, j], coordinates[each, i]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if place <= j:
            last = j
        elif place >= i:
            low = i
        else:
            return


@compiled
def _cut(coordinates, order, axes, cuts, low, high):
    """Cut [low, high) in the middle of its widest dimension. Returns the middle, -1 where all its points are one."""
    middle, axis, widest = (low + high) // 2, -1, 0.0
    for each in range(len(coordinates)):
        line = coordinates[each, low:high]
        width = line.max() - line.min()
        if width > widest:
            axis, widest = each, width
    axes[middle] = axis
    if axis < 0:
        order[low:high].sort()
        return -1
    _select(coordinates, order, axis, low, high, middle)
    cuts[middle] = coordinates[axis, middle]
    return middle


@compiled
def _grow(coordinates, order, axes, cuts, low, high):
    """Cut [low, high) down to leaves."""
    lows, highs = np.empty(MAX_DEPTH, np.int64), np.empty(MAX_DEPTH, np.int64)
    lows[0], highs[0], depth = low, high, 1
    while depth:
        depth -= 1
        low, high = lows[depth], highs[depth]
        while high - low > LEAF:
            middle = _cut(coordinates, order, axes, cuts, low, high)
            if middle < 0:
                break
            lows[depth], highs[depth] = middle, high
            depth += 1
            high = middle


@compiled
def _search(
    coordinates, order, axes, cuts, low, high, queries, query_order, first, last, limit, missing, indices, squared
):
    """Fill the rows of the queries at [first, last) from the cloud at [low, high).

    A row starts full of missing points at the limit; points enter in the order of (distance, index).
    """
    dims, k = len(coordinates), indices.shape[1]
    lows, highs, bounds = np.empty(MAX_DEPTH, np.int64), np.empty(MAX_DEPTH, np.int64), np.empty(MAX_DEPTH)
    gaps = np.empty((MAX_DEPTH, dims))  # from the query to the range, along each dimension
    gap, query, leaf = np.empty(dims), np.empty(dims), np.empty(max(LEAF, k))
    for slot in range(first, last):
        for each in range(dims):
            query[each] = queries[each, slot]
        row = query_order[slot]
        index, distance = indices[row], squared[row]
        index[:] = missing
        distance[:] = limit
        lows[0], highs[0], bounds[0], depth = low, high, 0.0, 1
        gaps[0] = 0.0
        while depth:
            depth -= 1
            if bounds[depth] > distance[k - 1]:
                continue
            start, stop = lows[depth], highs[depth]
            for each in range(dims):
                gap[each] = gaps[depth, each]
            while stop - start > LEAF:
                middle = (start + stop) // 2
                axis = axes[middle]
                if axis < 0:  # all one: only those of the lowest index can enter
                    stop = min(stop, start + k)
                    break
                apart = query[axis] - cuts[middle]
                bound = 0.0  # summed as distances are, so that rounding never puts it above one
                for each in range(dims):
                    bound += apart * apart if each == axis else gap[each] * gap[each]
                if bound <= distance[k - 1]:
                    if apart < 0:
                        lows[depth], highs[depth] = middle, stop
                    else:
                        lows[depth], highs[depth] = start, middle
                    bounds[depth] = bound
                    for each in range(dims):
                        gaps[depth, each] = gap[each]
                    gaps[depth, axis] = apart
                    depth += 1
                if apart < 0:
                    stop = middle
                else:
                    start = middle
            _compare(coordinates, start, stop, query, leaf)
            candidates = order[start:stop]
            for each in range(stop - start):
                if leaf[each] <= distance[k - 1]:
                    _enter(index, distance, candidates[each], leaf[each])
        for each in range(k):
            if index[each] == missing:
                distance[each] = np.inf


@compiled
def _compare(coordinates, start, stop, query, leaf):
    """Squared distances of the points at [start, stop), into `leaf`."""
    distances = leaf[: stop - start]
    distances[:] = 0.0
    for each in range(len(coordinates)):
        line, here = coordinates[each, start:stop], query[each]
        for place in range(len(distances)):
            apart = line[place] - here
            distances[place] += apart * apart


@compiled
def _enter(index, distance, candidate, value):
    """Put a candidate no further than the last into its place of an ascending row."""
    place = len(index) - 1
    if value == distance[place] and candidate >= index[place]:
        return
    while place > 0 and (
        value < distance[place - 1] or (value == distance[place - 1] and candidate < index[place - 1])
    ):
        distance[place], index[place] = distance[place - 1], index[place - 1]
        place -= 1
    distance[place], index[place] = value, candidate


@compiled
def _within(coordinates, order, axes, cuts, centre, radius, room):
    """Write the points no further than `radius` from the centre into `room` and return their number."""
    dims, count = len(centre), 0
    lows, highs = np.empty(MAX_DEPTH, np.int64), np.empty(MAX_DEPTH, np.int64)
    lows[0], highs[0], depth = 0, len(order), 1
    while depth:
        depth -= 1
        low, high = lows[depth], highs[depth]
        while high - low > LEAF:
            middle = (low + high) // 2
            axis = axes[middle]
            if axis < 0:
                break
            apart = centre[axis] - cuts[middle]
            if apart > radius:
                low = middle
            elif apart < -radius:
                high = middle
            else:
                lows[depth], highs[depth] = middle, high
                depth += 1
                high = middle
        for place in range(low, high):
            squared = 0.0
            for each in range(dims):
                apart = coordinates[each, place] - centre[each]
                squared += apart * apart
            if squared <= radius * radius:
                room[count] = order[place]
                count += 1
    return count
