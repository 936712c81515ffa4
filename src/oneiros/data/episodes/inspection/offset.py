"""Which frame an action belongs to, measured from the data.

By the contract, row t's action is done between frames t and t + 1. Where a recorder pairs them otherwise, no value is
wrong and a model learns nonsense. So it is measured, for each shift s, whether the action of row t + s says anything
about what moves between frames t and t + 1 that what moved before, and the actions before it, do not say already: in
the sense of Granger (Econometrica 37, 1969), by ridge regressions judged on episodes that they have not seen. The
action before which nothing is known is the one that belongs there; those after it cannot tell the past.

What moves is read from optical flow in cells (Lucas and Kanade, IJCAI 1981), and from brightness. A robot's arm follows
its orders slowly; where its own state was recorded, frames are compared with that and that with actions, both of which
are sharper.

Legend: T rows, M numbers of motion, A of actions, S shifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

SHIFTS = tuple(range(-3, 4))
SIDE = 48  # pixels of the frames that are compared

_CELLS, _COMPONENTS = 6, 12
_PAST, _LAGS = 2, 3  # motions and actions before, which are known
_FOLDS, _RIDGE, _BOOTSTRAPS = 5, 3e-3, 400
_CLEAR, _SURE = 3.0, 0.9  # of a gain, in standard errors over episodes; share of resampled datasets
_SOME = 0.05  # of the most that is explained
_FEWEST_ROWS = 4 * len(SHIFTS)


@dataclass(frozen=True)
class Offset:
    """What was found. shift: the action of row t + shift is done between frames t and t + 1; None where that is not
    clear. sure: share of resampled datasets that say the same. gains: by shift, what an action explains of the motion.
    odd: episodes that clearly say otherwise, and what they say."""

    shift: int | None
    sure: float
    gains: dict[int, float]
    odd: dict[int, int]


@dataclass(frozen=True)
class Moved:
    """One episode. frames: uint8 (T, SIDE, SIDE, 3). actions: (T, A), choices one-hot. state: (T, n) or None."""

    index: int
    frames: np.ndarray
    actions: np.ndarray
    state: np.ndarray | None = None


def find_offset(episodes: Sequence[Moved]) -> Offset | None:
    """None where there is too little: fewer than two episodes that are long enough, or actions that never change."""
    episodes = [each for each in episodes if len(each.actions) >= _FEWEST_ROWS]
    if len(episodes) < 2:
        return None
    indices = [each.index for each in episodes]
    actions = [each.actions.astype(np.float64) for each in episodes]
    motion = _components([_motion(each.frames) for each in episodes])
    if all(each.state is not None for each in episodes):
        velocity = [np.diff(np.asarray(each.state, np.float64), axis=0) for each in episodes]
        driven, late = _judge(_Rows.of(velocity, actions), indices, onset=True), _lateness(motion, velocity)
        if driven and driven.shift is not None and late is not None:
            return replace(driven, shift=driven.shift + late)
    return _judge(_Rows.of(motion, actions), indices)


@dataclass(frozen=True)
class _Rows:
    """Rows of all episodes that every shift has. effect: (N, M). before: (N, 2 M), the effects before. cause: (N, S +
    lags, A), those around. place: (N,), of the row's episode."""

    effect: np.ndarray
    before: np.ndarray
    cause: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, effects: Sequence[np.ndarray], causes: Sequence[np.ndarray]) -> _Rows | None:
        """None where effects or causes never change. effects: (T - 1, M) each; causes: (T or T - 1, A)."""
        rows, past, around, place = [], [], [], []
        first, last = SHIFTS[0] - _LAGS, SHIFTS[-1]
        for number, (effect, cause) in enumerate(zip(effects, causes, strict=True)):
            low, high = -first, min(len(effect), len(cause)) - last
            rows.append(effect[low:high])
            past.append(np.concatenate([effect[low - lag : high - lag] for lag in range(1, _PAST + 1)], axis=1))
            around.append(np.stack([cause[low + each : high + each] for each in range(first, last + 1)], axis=1))
            place += [number] * (high - low)
        effect, before, cause = _standard(np.concatenate(rows)), _standard(np.concatenate(past)), np.concatenate(around)
        cause = _standard(cause.reshape(len(cause) * cause.shape[1], -1)).reshape(len(cause), cause.shape[1], -1)
        return cls(effect, before, cause, np.array(place)) if effect.shape[1] and cause.shape[2] else None

    def known(self, shift: int, *, now: bool) -> np.ndarray:
        """What the effect is predicted from: those before, and the causes before row t + shift; now: that one, too."""
        at = shift - SHIFTS[0] + _LAGS
        causes = self.cause[:, at - _LAGS : at + now].reshape(len(self.cause), -1)
        return np.concatenate([self.before, causes], axis=1)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """By episode."""
        return np.bincount(self.place, values) / np.bincount(self.place)

    def gains(self) -> np.ndarray:
        """By episode and shift, by how much a cause of row t + s lowers the squared error at which the effect of row t
        is predicted, in the effect's own variance: (episodes, S)."""
        each = []
        for shift in SHIFTS:
            without, told = (self.known(shift, now=now) for now in (False, True))
            gained = _error(without, self.effect, self.place) - _error(told, self.effect, self.place)
            each.append(self.mean(gained))
        return np.stack(each, axis=1)

    def gains_of(self, best: int) -> np.ndarray:
        """The same where all shifts are judged by what other episodes teach at one."""
        taught = [self.known(best, now=now) for now in (False, True)]
        each = []
        for shift in SHIFTS:
            errors = [
                _error(known, self.effect, self.place, self.known(shift, now=now))
                for now, known in zip((False, True), taught, strict=True)
            ]
            each.append(self.mean(errors[0] - errors[1]))
        return np.stack(each, axis=1)


def _judge(rows: _Rows | None, indices: Sequence[int], *, onset: bool = False) -> Offset | None:
    """onset: what follows its orders slowly shows them best when they are past, so the last shift that gains anything
    counts, not the one that gains most."""
    if rows is None:
        return None
    gains = rows.gains()

    def choose(gains: np.ndarray) -> np.ndarray:
        mean, error = gains.mean(axis=-2), gains.std(axis=-2) / np.sqrt(gains.shape[-2])
        if not onset:
            return mean.argmax(axis=-1)
        told = (mean > _CLEAR * error) & (mean > _SOME * mean.max(axis=-1, keepdims=True))
        return len(SHIFTS) - 1 - told[..., ::-1].argmax(axis=-1)

    mean, best = gains.mean(axis=0), int(choose(gains))
    error = gains[:, best].std() / np.sqrt(len(gains)) + 1e-12
    drawn = np.random.default_rng(0).integers(0, len(gains), (_BOOTSTRAPS, len(gains)))
    sure = float((choose(gains[drawn]) == best).mean())
    told = dict(zip(SHIFTS, mean.tolist(), strict=True))
    if not (mean[best] > _CLEAR * error and sure >= _SURE):
        return Offset(None, sure, told, {})
    return Offset(SHIFTS[best], sure, told, _odd(rows.gains_of(SHIFTS[best]), best, indices))


def _odd(gains: np.ndarray, best: int, indices: Sequence[int]) -> dict[int, int]:
    """Episodes in which another shift gains as much as the best does in the others, and the best little."""
    usual = float(np.median(gains[:, best]))
    chosen = gains.argmax(axis=1)
    return {
        index: SHIFTS[choice]
        for index, choice, each in zip(indices, chosen.tolist(), gains, strict=True)
        if choice != best and each[choice] > 0.5 * usual and each[best] < 0.25 * each[choice]
    }


def _lateness(motion: Sequence[np.ndarray], velocity: Sequence[np.ndarray]) -> int | None:
    """By how many rows what is seen to move comes after what the state says: where one tells most of the other, but 0
    where that tells as much but for a little. None where they have nothing to do with one another."""
    wide = -SHIFTS[0]
    cut = [(each[wide:-wide], path[: len(each)]) for each, path in zip(motion, velocity, strict=True)]
    place = np.repeat(np.arange(len(cut)), [len(each) for each, _ in cut])
    known = _standard(np.concatenate([each for each, _ in cut]))
    scores = []
    for shift in SHIFTS:
        moved = np.concatenate([path[wide + shift :][: len(each)] for each, path in cut])
        told = _standard(moved)
        if not told.shape[1]:
            return None
        scores.append(1 - _error(known, told, place).mean() / (told**2).mean())
    best = int(np.argmax(scores))
    if scores[best] < _SOME:
        return None
    return 0 if scores[wide] > (1 - _SOME) * scores[best] else SHIFTS[best]


def _error(known: np.ndarray, effect: np.ndarray, place: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
    """Mean squared error of each row by a ridge regression on the episodes of other folds. other: what the rows that
    are judged are predicted from instead."""
    known = np.concatenate([known, np.ones((len(known), 1))], axis=1)
    judged = known if other is None else np.concatenate([other, np.ones((len(other), 1))], axis=1)
    fold, predicted = place % min(_FOLDS, place.max() + 1), np.empty_like(effect)
    whole, target = known.T @ known, known.T @ effect
    penalty = _RIDGE * len(known) * np.eye(known.shape[1])
    for each in np.unique(fold):
        held = fold == each
        inner = whole - known[held].T @ known[held] + penalty
        predicted[held] = judged[held] @ np.linalg.solve(inner, target - known[held].T @ effect[held])
    return ((effect - predicted) ** 2).mean(axis=1)


def _standard(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and standard deviation 1, outliers cut off; without those that never change."""
    mean, std = values.mean(axis=0), values.std(axis=0)
    moves = std > 1e-6 * (1 + np.abs(mean))
    return np.clip((values[:, moves] - mean[moves]) / std[moves], -5, 5)


def _components(motions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The principal components of what moves, (T - 1, M) each."""
    every = np.concatenate(motions)
    mean, std = every.mean(axis=0), every.std(axis=0)
    std = std + 0.1 * std.mean() + 1e-9  # what hardly moves is mostly noise
    scaled = [np.clip((each - mean) / std, -5, 5) for each in motions]
    some = np.concatenate(scaled)[:: max(1, len(every) // 3000)]
    axes = np.linalg.svd(some, full_matrices=False)[2][:_COMPONENTS]
    return [each @ axes.T for each in scaled]


def _motion(frames: np.ndarray) -> np.ndarray:
    """uint8 (T, SIDE, SIDE, 3) -> flow along both axes, change and its amount in each cell: (T - 1, M)."""
    colour = frames.astype(np.float32) / 255
    grey = colour.mean(axis=-1)
    change, middle = grey[1:] - grey[:-1], (grey[1:] + grey[:-1]) / 2
    across, down = np.zeros_like(middle), np.zeros_like(middle)
    across[:, :, 1:-1] = (middle[:, :, 2:] - middle[:, :, :-2]) / 2
    down[:, 1:-1] = (middle[:, 2:] - middle[:, :-2]) / 2
    xx, yy = _cells(across * across) + 1e-4, _cells(down * down) + 1e-4
    xy, xt, yt = _cells(across * down), _cells(across * change), _cells(down * change)
    scale = xx * yy - xy * xy
    flow = [(xy * yt - yy * xt) / scale, (xy * xt - xx * yt) / scale]
    tint = [_cells(each) for each in np.moveaxis(colour[1:] - colour[:-1], -1, 0)]
    return np.concatenate([*(np.clip(each, -3, 3) for each in flow), _cells(np.abs(change)), *tint], axis=1)


def _cells(values: np.ndarray) -> np.ndarray:
    """(T, SIDE, SIDE) -> means over the cells of a grid, (T, cells)."""
    side = SIDE // _CELLS
    return values.reshape(len(values), _CELLS, side, _CELLS, side).mean(axis=(2, 4)).reshape(len(values), -1)
