"""Which frame an action belongs to, measured from the data.

By the contract, row t's action is done between frames t and t + 1. Where a recorder pairs them otherwise, no value is
wrong and a model learns nonsense. So it is measured, for each shift s, whether the action of row t + s says anything
about what moves between frames t and t + 1 that what moved before, and the actions before it, do not say already: in
the sense of Granger (Econometrica 37, 1969), by ridge regressions judged on episodes that they have not seen. What is
heavy goes on moving, so actions of the past may say more than the one that belongs there; but it is the last that says
anything, as those after it cannot tell the past.

What moves is read from optical flow in cells (Lucas and Kanade, IJCAI 1981), from brightness, and from which way blocks
went, which also finds the wide jumps of games. A robot's arm follows its orders slowly, and its camera is late; where
its own state was recorded, actions are compared with that, which is sharper, and the film's delay behind the state is
told apart from the actions' offset.

Legend: T rows, M numbers of motion, A of actions, S shifts, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from oneiros.data.episodes.inspection.flow import SIDE, flow_components

SHIFTS = tuple(range(-3, 4))
__all__ = ["SHIFTS", "SIDE", "Moved", "Offset", "find_offset"]

_PAST, _LAGS = 2, 3  # motions and actions before, which are known
_FOLDS, _BOOTSTRAPS = 5, 400
_SURE = 0.9  # share of resampled datasets
_SOME = 0.05  # of what is to be told at all
_FEWEST_ROWS = 4 * len(SHIFTS)


@dataclass(frozen=True)
class _Measure:
    """ridge: of the regressions. clear: in standard errors over episodes, what counts as a gain. share: of the largest
    gain."""

    ridge: float
    clear: float
    share: float


_OF_FILMS, _OF_STATES = _Measure(3e-3, 2.0, 0.25), _Measure(1e-3, 3.0, 0.05)


@dataclass(frozen=True)
class Offset:
    """What was found. shift: the action of row t + shift is done between frames t and t + 1; None where that is not
    clear. sure: share of resampled datasets that say the same. gains: by shift, what an action explains of the motion.
    odd: episodes that clearly say otherwise, and what they say. delay: by how many rows the film shows later what the
    robot's state says, up to 3; None where that is not known."""

    shift: int | None
    sure: float
    gains: dict[int, float]
    odd: dict[int, int]
    delay: int | None = None


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
    motion = flow_components([each.frames for each in episodes])
    found = _judge(_Rows.of(motion, actions), indices, _OF_FILMS)
    states = [np.asarray(each.state, np.float64) for each in episodes if each.state is not None]
    if len(states) < len(episodes):
        return found
    delay = _delay(motion, [np.diff(each, axis=0) for each in states])
    for rows in (_Rows.of_joints(states, actions), _Rows.of_states(states, actions)):
        driven = _judge(rows, indices, _OF_STATES)
        if delay is not None and driven is not None and driven.shift is not None:
            return replace(driven, delay=delay)
    return found


@dataclass(frozen=True)
class _Rows:
    """Rows of all episodes that every shift has. effect: (N, M). before: (N, K), what is known of it, the effects
    before among it. cause: (N, S + lags, A), those around. place: (N,), of the row's episode."""

    effect: np.ndarray
    before: np.ndarray
    cause: np.ndarray
    place: np.ndarray

    @classmethod
    def of(
        cls, effects: Sequence[np.ndarray], causes: Sequence[np.ndarray], own: Sequence[np.ndarray] | None = None
    ) -> _Rows | None:
        """None where effects or causes never change. effects: (T - 1, M) each; causes: (T or T - 1, A). own: (T, ...),
        what else is known of each row."""
        rows, past, around, place = [], [], [], []
        first, last = SHIFTS[0] - _LAGS, SHIFTS[-1]
        for number, (effect, cause) in enumerate(zip(effects, causes, strict=True)):
            low, high = -first, min(len(effect), len(cause)) - last
            known = [effect[low - lag : high - lag] for lag in range(1, _PAST + 1)]
            rows.append(effect[low:high])
            past.append(np.concatenate([*known, *([own[number][low:high]] if own is not None else [])], axis=1))
            around.append(np.stack([cause[low + each : high + each] for each in range(first, last + 1)], axis=1))
            place += [number] * (high - low)
        effect, before, cause = _standard(np.concatenate(rows)), _standard(np.concatenate(past)), np.concatenate(around)
        cause = _standard(cause.reshape(len(cause) * cause.shape[1], -1)).reshape(len(cause), cause.shape[1], -1)
        return cls(effect, before, cause, np.array(place)) if effect.shape[1] and cause.shape[2] else None

    @classmethod
    def of_states(cls, states: Sequence[np.ndarray], actions: Sequence[np.ndarray]) -> _Rows | None:
        """Each state's change, by all actions."""
        return cls.of([np.diff(each, axis=0) for each in states], actions, states)

    @classmethod
    def of_joints(cls, states: Sequence[np.ndarray], actions: Sequence[np.ndarray]) -> _Rows | None:
        """Each number of the state by the action of its place, as joints are told where to go: J times as many rows.
        None where there are not as many."""
        if states[0].shape[1] != actions[0].shape[1]:
            return None
        each = []
        for joint in range(states[0].shape[1]):
            own = [state[:, joint : joint + 1] for state in states]
            moved = [np.diff(state, axis=0) for state in own]
            each.append(cls.of(moved, [action[:, joint : joint + 1] for action in actions], own))
        there = [rows for rows in each if rows is not None and rows.before.shape[1] == _PAST + 1]
        if not there:
            return None
        fields = zip(*((rows.effect, rows.before, rows.cause, rows.place) for rows in there), strict=True)
        return cls(*(np.concatenate(field) for field in fields))

    def known(self, shift: int, *, now: bool) -> np.ndarray:
        """What the effect is predicted from: those before, and the causes before row t + shift; now: that one, too."""
        at = shift - SHIFTS[0] + _LAGS
        causes = self.cause[:, at - _LAGS : at + now].reshape(len(self.cause), -1)
        return np.concatenate([self.before, causes], axis=1)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """By episode."""
        return np.bincount(self.place, values) / np.bincount(self.place)

    def gains(self, ridge: float) -> np.ndarray:
        """By episode and shift, by how much a cause of row t + s lowers the squared error at which the effect of row t
        is predicted, in the effect's own variance: (episodes, S)."""
        each = []
        for shift in SHIFTS:
            without, told = (self.known(shift, now=now) for now in (False, True))
            gained = _error(without, self.effect, self.place, ridge) - _error(told, self.effect, self.place, ridge)
            each.append(self.mean(gained))
        return np.stack(each, axis=1)

    def gains_of(self, best: int, ridge: float) -> np.ndarray:
        """The same where all shifts are judged by what other episodes teach at one."""
        taught = [self.known(best, now=now) for now in (False, True)]
        each = []
        for shift in SHIFTS:
            errors = [
                _error(known, self.effect, self.place, ridge, self.known(shift, now=now))
                for now, known in zip((False, True), taught, strict=True)
            ]
            each.append(self.mean(errors[0] - errors[1]))
        return np.stack(each, axis=1)


def _judge(rows: _Rows | None, indices: Sequence[int], measure: _Measure) -> Offset | None:
    """The last shift at which an action says something."""
    if rows is None:
        return None
    gains = rows.gains(measure.ridge)

    def choose(gains: np.ndarray) -> np.ndarray:
        mean, error = gains.mean(axis=-2), gains.std(axis=-2) / np.sqrt(gains.shape[-2])
        told = (mean > measure.clear * error) & (mean > measure.share * mean.max(axis=-1, keepdims=True))
        return np.where(told.any(axis=-1), len(SHIFTS) - 1 - told[..., ::-1].argmax(axis=-1), -1)

    mean, best = gains.mean(axis=0), int(choose(gains))
    told = dict(zip(SHIFTS, mean.tolist(), strict=True))
    drawn = np.random.default_rng(0).integers(0, len(gains), (_BOOTSTRAPS, len(gains)))
    sure = float((choose(gains[drawn]) == best).mean())
    if best < 0 or sure < _SURE:
        return Offset(None, sure, told, {})
    return Offset(SHIFTS[best], sure, told, _odd(rows.gains_of(SHIFTS[best], measure.ridge), best, indices))


def _odd(gains: np.ndarray, best: int, indices: Sequence[int]) -> dict[int, int]:
    """Episodes whose gains have the shape of all others', but at another shift. gains: (episodes, S)."""
    usual = np.median(gains, axis=0).clip(0)
    shape = usual / max(np.linalg.norm(usual), 1e-12)
    found = {}
    for index, each in zip(indices, gains, strict=True):
        moved = {}
        for shift in SHIFTS:
            by = shift - SHIFTS[best]
            here = np.roll(each, -by)
            if by:
                here[slice(-by, None) if by > 0 else slice(0, -by)] = 0
            moved[shift] = float(here @ shape)
        own, other = moved[SHIFTS[best]], max(moved, key=moved.__getitem__)
        if other != SHIFTS[best] and moved[other] > 0.5 * np.linalg.norm(usual) and own < 0.25 * moved[other]:
            found[index] = other
    return found


def _delay(motion: Sequence[np.ndarray], velocity: Sequence[np.ndarray]) -> int | None:
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
        scores.append(1 - _error(known, told, place, _OF_FILMS.ridge).mean() / (told**2).mean())
    best = int(np.argmax(scores))
    if scores[best] < _SOME:
        return None
    return 0 if scores[wide] > (1 - _SOME) * scores[best] else -SHIFTS[best]


def _error(
    known: np.ndarray, effect: np.ndarray, place: np.ndarray, ridge: float, other: np.ndarray | None = None
) -> np.ndarray:
    """Mean squared error of each row by a ridge regression on the episodes of other folds. other: what the rows that
    are judged are predicted from instead."""
    known = np.concatenate([known, np.ones((len(known), 1))], axis=1)
    judged = known if other is None else np.concatenate([other, np.ones((len(other), 1))], axis=1)
    fold, predicted = place % min(_FOLDS, place.max() + 1), np.empty_like(effect)
    whole, target = known.T @ known, known.T @ effect
    penalty = ridge * len(known) * np.eye(known.shape[1])
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
