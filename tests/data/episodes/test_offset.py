"""Shifts of known size are found: in a toy whose picture moves as its actions say, and in recordings."""

from dataclasses import replace

import numpy as np
import pytest

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.inspection.look import moved
from oneiros.data.episodes.inspection.offset import SIDE, Moved, find_offset
from tests.places import SHARED


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


def test_a_film_behind_the_state_is_told_apart_from_a_shift():
    episodes = [toy(index, lag=True, state=True) for index in range(8)]
    found = find_offset(episodes)
    assert (found.shift, found.delay) == (0, 0)
    late = [replace(each, frames=np.roll(each.frames, 2, axis=0)[2:], actions=each.actions[2:], state=each.state[2:])
            for each in episodes]  # fmt: skip
    found = find_offset(late)
    assert (found.shift, found.delay) == (0, 2)


def shifted(episode: Moved, by: int) -> Moved:
    """Row t holds the action of row t - by."""
    rows = np.arange(len(episode.actions))
    kept = (rows - by >= 0) & (rows - by < len(rows))
    state = None if episode.state is None else episode.state[kept]
    return Moved(episode.index, episode.frames[kept], episode.actions[rows[kept] - by], state)


def found_when_shifted(dataset: Dataset, shifts, count: int, rows: int) -> dict[int, int | None]:
    """By the shift that the first episodes were given, what is found."""
    camera = dataset.camera()
    films = {
        each.index: dataset.thumbnails(each.index, camera, SIDE, stop=min(each.length, rows))
        for each in dataset.episodes[:count]
    }
    episodes = moved(dataset, films)
    return {by: find_offset([shifted(each, by) for each in episodes]).shift for by in shifts}


def test_shifts_of_a_recorded_game_are_found(tmp_path):
    pytest.importorskip("vizdoom")
    from oneiros.cli import main

    main(["record", "doom:health_gathering", "--episodes", "10", "--max-steps", "100", "--out", str(tmp_path / "data")])
    assert found_when_shifted(Dataset.open(tmp_path / "data"), (-2, 0, 1), 10, 100) == {-2: -2, 0: 0, 1: 1}


def test_of_a_few_episodes_of_an_arm_nothing_wrong_is_said(tmp_path):
    pytest.importorskip("metaworld")
    from oneiros.cli import main

    arguments = [
        "--policy",
        "expert",
        "--keep",
        "all",
        "--episodes",
        "6",
        "--max-steps",
        "60",
        "--height",
        "48",
        "--width",
        "48",
    ]
    main(["record", "metaworld:drawer-open-v3", *arguments, "--out", str(tmp_path / "data")])
    found = found_when_shifted(Dataset.open(tmp_path / "data"), (-1, 0, 2), 6, 60)
    assert found[2] == 2
    assert found[-1] in (-1, None)
    assert found[0] in (0, None)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data/g1_pick_bottle").is_dir(), reason="the robot's recording is not there")
def test_shifts_of_a_real_robot_are_found():
    dataset = Dataset.open(SHARED / "data/g1_pick_bottle")
    assert found_when_shifted(dataset, (-2, 0, 1), 20, 200) == {-2: -2, 0: 0, 1: 1}
