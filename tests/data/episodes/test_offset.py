"""Shifts of known size are found: in a toy whose picture moves as its actions say, and in recordings."""

import numpy as np
import pytest

from oneiros.data.episodes.inspection.offset import SIDE, Moved, find_offset


def toy(index, *, shift=0, length=120, lag=False, state=False, still=False):
    """A texture that an action of two numbers, held for a few rows, moves over the frame; lag: as a heavy thing is."""
    random = np.random.default_rng(index)
    texture = np.random.default_rng(9).integers(0, 256, (SIDE, SIDE)).astype(float)
    texture = sum(np.roll(texture, (a, b), (0, 1)) for a in range(-2, 3) for b in range(-2, 3)) / 25
    held = random.integers(-1, 2, (length, 2)).repeat(random.integers(1, 5, length), axis=0)[:length]
    frames, place, speed, states = [], np.zeros(2), np.zeros(2), []
    for action in held:
        states.append(place.copy())
        moved = np.roll(texture, tuple(np.round(0 * place if still else place).astype(int)), (0, 1))
        frames.append(np.repeat(moved[..., None], 3, -1).astype(np.uint8))
        speed = 0.7 * speed + 0.9 * action if lag else 2.0 * action
        place = place + speed
    actions = np.roll(held, shift, axis=0).astype(float)
    return Moved(index, np.stack(frames), actions, np.array(states) if state else None)


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("heavy", [False, True])
def test_a_shift_is_found(shift, heavy):
    found = find_offset([toy(index, shift=shift, lag=heavy, state=heavy) for index in range(8)])
    assert (found.shift, found.odd) == (shift, {})
    assert found.sure > 0.95


def test_episodes_that_are_shifted_otherwise_are_named():
    found = find_offset([toy(index, shift=1 if index in (2, 5) else 0) for index in range(10)])
    assert (found.shift, found.odd) == (0, {2: 1, 5: 1})


def test_actions_that_move_nothing_have_no_place():
    assert find_offset([toy(index, still=True) for index in range(6)]) is None
    assert find_offset([toy(0)]) is None
    strangers = [toy(index) for index in range(8)]
    mixed = [Moved(a.index, a.frames, b.actions) for a, b in zip(strangers, strangers[1:] + strangers[:1], strict=True)]
    assert find_offset(mixed).shift is None
