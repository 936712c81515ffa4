"""What agrees, and what is refused: actions of another kind or order, and another speed."""

from dataclasses import replace

import pytest

from oneiros.agreement import Controls, check_agreement
from oneiros.records import ActionSpec

KEYS = ActionSpec("keys", ("left", "right"))
WORLD = Controls("this world", KEYS, 10)
DATA = Controls("data", KEYS, 10)


@pytest.mark.parametrize("fps", [10, 9.5, 10.5, 10.2, None])
def test_speeds_within_what_rounding_does_agree(fps):
    check_agreement(replace(DATA, fps=fps), WORLD)
    check_agreement(DATA, replace(WORLD, fps=fps))


def test_the_rounded_speed_of_doom_agrees_with_its_own():
    check_agreement(replace(DATA, fps=9), replace(WORLD, fps=35 / 4))


@pytest.mark.parametrize("fps", [5, 9.4, 10.6, 20])
def test_other_speeds_are_refused(fps):
    with pytest.raises(ValueError, match=rf"data runs at {fps} steps a second; this world learned from 10$"):
        check_agreement(replace(DATA, fps=fps), WORLD)


def test_statistics_may_differ():
    spec = ActionSpec("continuous", ("x",), mean=(1.0,), std=(2.0,))
    check_agreement(Controls("data", ActionSpec("continuous", ("x",))), Controls("this world", spec))


def test_what_knows_no_actions_takes_any():
    check_agreement(DATA, replace(WORLD, action_spec=None))
    with pytest.raises(ValueError, match="another"):
        check_agreement(replace(DATA, fps=20), Controls("another", None, 10))


@pytest.mark.parametrize(
    ("spec", "has"),
    [
        (None, "no actions"),
        (ActionSpec("discrete", KEYS.names), r"discrete actions \(left, right\)"),
        (ActionSpec("keys", ("right", "left")), r"keys actions \(right, left\)"),
    ],
)
def test_other_actions_are_refused(spec, has):
    with pytest.raises(ValueError, match=rf"data has {has}; this world knows keys actions \(left, right\)"):
        check_agreement(replace(DATA, action_spec=spec), WORLD)
