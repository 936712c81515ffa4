"""The arithmetic of actions, of the three kinds: statistics, joining over a stride, and what is refused."""

import numpy as np
import pytest
import torch

from oneiros.records import ActionSpec

DISCRETE = ActionSpec("discrete", ("stay", "left", "right"))
KEYS = ActionSpec("keys", ("left", "right"))
CONTINUOUS = ActionSpec("continuous", ("x", "y"), mean=(1.0, -2.0), std=(2.0, 0.5))
SPECS = pytest.mark.parametrize("spec", [DISCRETE, KEYS, CONTINUOUS], ids=lambda spec: spec.kind)


def actions_of(spec, *lead, seed=0):
    values = np.random.default_rng(seed).integers(2, size=(*lead, *spec.shape()))
    return values.astype({"discrete": np.int64, "keys": bool, "continuous": np.float32}[spec.kind])


def test_statistics_have_defaults():
    assert CONTINUOUS.statistics == ((1.0, -2.0), (2.0, 0.5))
    assert ActionSpec("continuous", ("x", "y")).statistics == ((0.0, 0.0), (1.0, 1.0))


def test_standardise_repeats_the_statistics_over_a_frame_stride():
    actions = torch.tensor([[3.0, -1.5, 1.0, -2.0, -1.0, -3.0]])  # three env actions of (x, y)
    expected = torch.tensor([[1.0, 1.0, 0.0, 0.0, -1.0, -2.0]])
    torch.testing.assert_close(CONTINUOUS.standardise(actions), expected)
    torch.testing.assert_close(CONTINUOUS.unstandardise(expected), actions)


def test_standardise_without_statistics_or_with_a_constant_dimension():
    plain = ActionSpec("continuous", ("x",))
    assert plain.standardise(torch.tensor([[2.5]])).tolist() == [[2.5]]
    constant = ActionSpec("continuous", ("x",), mean=(3.0,), std=(0.0,))
    assert constant.standardise(torch.tensor([[3.0]])).tolist() == [[0.0]]


def test_actions_of_skipped_rows_are_joined():
    assert DISCRETE.join(np.arange(9)[1:7], 3).tolist() == [3, 6]
    held = np.array([[0, 0], [1, 0], [0, 0], [0, 0], [0, 1], [0, 0], [0, 0]], bool)
    assert KEYS.join(held[:6], 3).tolist() == [[True, False], [False, True]]
    numbers = np.arange(14.0).reshape(7, 2)
    assert CONTINUOUS.join(numbers[:6], 3).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_actions_between_latents_are_joined():
    discrete = torch.tensor([[0, 1, 2, 0]])
    assert DISCRETE.join(discrete, 2).tolist() == [[1, 0]]  # the last counts
    keys = torch.tensor([[[1, 0], [0, 1], [0, 0], [0, 1]]]).bool()
    assert torch.equal(KEYS.join(keys, 2), torch.tensor([[[1, 1], [0, 1]]]).bool())
    numbers = torch.arange(8.0).view(1, 4, 2)
    assert CONTINUOUS.join(numbers, 2).tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]
    with pytest.raises(ValueError, match="3 actions do not fill steps of 2"):
        DISCRETE.join(discrete[:, :3], 2)


@SPECS
@pytest.mark.parametrize("stride", [1, 2])
def test_no_row_is_no_step(spec, stride):
    assert spec.join(actions_of(spec, 0), stride).shape == (0, *spec.shape(stride))
    assert spec.join(torch.from_numpy(actions_of(spec, 3, 0)), stride).shape == (3, 0, *spec.shape(stride))


@SPECS
def test_arrays_and_tensors_are_joined_alike_and_in_any_number_of_turns(spec):
    rows = actions_of(spec, 5, 12)
    once = spec.join(rows, 6)
    assert torch.equal(spec.join(torch.from_numpy(rows), 6), torch.from_numpy(once))
    assert np.array_equal(spec.join(spec.join(rows, 2), 3), once)


@SPECS
def test_spread_actions_are_joined_to_what_they_were(spec):
    steps = torch.from_numpy(spec.join(actions_of(spec, 2, 6), 3))
    spread = spec.spread(steps, 3)
    assert spread.shape == (2, 6, *spec.shape())
    assert torch.equal(spec.join(spread, 3), steps)


@SPECS
def test_actions_that_fit_are_accepted(spec):
    rows = torch.from_numpy(actions_of(spec, 4, 6))
    spec.check(rows, "B", 6)
    spec.check(rows, "B", "L")
    spec.check(spec.join(rows, 3), 4, 2, per_step=3)
    spec.check(rows[0, 0])


@pytest.mark.parametrize(
    ("spec", "actions", "message"),
    [
        (DISCRETE, torch.tensor([[0, 3]]), "discrete actions are 0 to 2: stay, left, right"),
        (DISCRETE, torch.tensor([[0, -1]]), "discrete actions are 0 to 2: stay, left, right"),
        (DISCRETE, torch.zeros(1, 2, 3), r"shape \(1, 2, 3\); discrete actions .* are \('B', 2\)"),
        (KEYS, torch.zeros(1, 2, 3).bool(), r"shape \(1, 2, 3\); keys actions \(left, right\) are \('B', 2, 2\)"),
        (KEYS, torch.zeros(1, 3, 2).bool(), r"shape \(1, 3, 2\)"),
        (CONTINUOUS, torch.zeros(2, 2), r"shape \(2, 2\); continuous actions \(x, y\) are \('B', 2, 2\)"),
        (CONTINUOUS, torch.tensor([[[0.0, 1.0], [0.0, torch.inf]]]), "no numbers"),
        (CONTINUOUS, torch.tensor([[[0.0, 1.0], [torch.nan, 0.0]]]), "no numbers"),
    ],
)
def test_actions_that_do_not_fit_are_refused(spec, actions, message):
    with pytest.raises(ValueError, match=message):
        spec.check(actions, "B", 2)


@pytest.mark.parametrize("names", [(), ("x", "x"), ("x", 2**63), ("x", ["y"])])
def test_names_of_actions_are_texts_and_no_two_alike(names):
    with pytest.raises(ValueError, match="action names must be texts, unique and at least one, got"):
        ActionSpec("continuous", names)
