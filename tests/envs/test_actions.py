"""Actions as people write them."""

import numpy as np
import pytest

from oneiros.envs.actions import action_text, parse_action, parse_script, script_text
from oneiros.records import ActionSpec

DISCRETE = ActionSpec("discrete", ("NOOP", "TURN_LEFT", "TURN_RIGHT"))
KEYS = ActionSpec("keys", ("MOVE_FORWARD", "TURN_LEFT", "TURN_RIGHT"))
CONTINUOUS = ActionSpec("continuous", ("wrist", "elbow"), mean=(0.5, 2.0), std=(1.0, 1.0))
MIXED = ActionSpec("continuous", ("FORWARD", "TURN"), mean=(0.7, 1.2), std=(1.0, 1.0), whole=(True, False))


@pytest.mark.parametrize(
    ("text", "spec", "expected"),
    [
        ("TURN_LEFT", DISCRETE, 1),
        ("turn_left", DISCRETE, 1),
        (" 2 ", DISCRETE, 2),
        ("n", DISCRETE, 0),
        ("MOVE_FORWARD+TURN_LEFT", KEYS, [1, 1, 0]),
        ("move 2 move", KEYS, [1, 0, 1]),
        ("none", KEYS, [0, 0, 0]),
        ("0.25 -1e-3", CONTINUOUS, [0.25, -1e-3]),
        ("elbow=-1", CONTINUOUS, [0.5, -1.0]),
        ("TURN=2.5", MIXED, [1, 2.5]),
    ],
)
def test_an_action_is_read(text, spec, expected):
    np.testing.assert_array_equal(parse_action(text, spec), np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        ("7", DISCRETE, "7 is not an action; choose from 0 NOOP, 1 TURN_LEFT, 2 TURN_RIGHT"),
        ("turn", DISCRETE, "turn is not an action"),
        ("", DISCRETE, "is not an action"),
        ("MOVE_FORWARD+JUMP", KEYS, "JUMP is not an action; choose from .*none = hold nothing"),
        ("0.1", CONTINUOUS, r"holds 1 values; an action here is 2 numbers \(wrist, elbow\)"),
        ("0.1 nan", CONTINUOUS, "'nan' is not a finite number"),
        ("knee=1", CONTINUOUS, "knee is not an action"),
    ],
)
def test_what_is_no_action_is_named_with_the_choices(text, spec, message):
    with pytest.raises(ValueError, match=message):
        parse_action(text, spec)


def test_a_script_repeats_and_reads_back():
    script = parse_script("MOVE_FORWARD*3, TURN_LEFT+MOVE_FORWARD, none*2", KEYS)
    assert script.tolist() == [[1, 0, 0]] * 3 + [[1, 1, 0]] + [[0, 0, 0]] * 2
    assert script_text(script, KEYS) == "MOVE_FORWARD*3,MOVE_FORWARD+TURN_LEFT,none*2"


@pytest.mark.parametrize("spec", [DISCRETE, KEYS, CONTINUOUS])
def test_every_action_reads_back_from_its_text(spec):
    rng = np.random.default_rng(0)
    actions = {
        "discrete": rng.integers(3, size=9),
        "keys": rng.random((9, 3)) < 0.5,
        "continuous": rng.normal(size=(9, 2)).astype(np.float32),
    }[spec.kind]
    np.testing.assert_array_equal(parse_script(script_text(actions, spec), spec), actions)
    np.testing.assert_array_equal(parse_action(action_text(actions[0], spec), spec), actions[0])


@pytest.mark.parametrize("text", ["TURN_LEFT*0", "TURN_LEFT*x", "", " , "])
def test_a_broken_script_is_refused(text):
    with pytest.raises(ValueError, match=r"whole number above 0|holds no action"):
        parse_script(text, KEYS)


def test_scripts_have_an_end():
    with pytest.raises(ValueError, match=r"goes on for 100,001 steps; 100,000 are the most"):
        parse_script("NOOP*50000,NOOP*50001", DISCRETE)
    with pytest.raises(ValueError, match=r"repeats an action '9{60}\.\.\.' times"):
        parse_script(f"NOOP*{'9' * 5000}", DISCRETE)
