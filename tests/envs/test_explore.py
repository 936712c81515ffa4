import sys

import numpy as np
import pytest

from oneiros.envs.explore import StickyRandom, load_policy
from oneiros.records import ActionSpec

DOOM = ActionSpec("keys", ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT"))


def explore(spec, steps=20_000, seed=0):
    policy, rng = StickyRandom(), np.random.default_rng(seed)
    return np.stack([policy({}, spec, rng) for _ in range(steps)])


def test_keys_are_held_as_often_as_documented_and_never_with_their_opposite():
    actions = explore(DOOM)
    np.testing.assert_allclose(actions.mean(0), [0.3, 0.3, 0.7, 0.1, 0.1], atol=0.03)
    assert not (actions[:, 0] & actions[:, 1]).any()
    assert not (actions[:, 3] & actions[:, 4]).any()
    assert (actions[:, 0] & actions[:, 2]).any()


def test_actions_are_held_for_one_to_eight_steps():
    values = explore(ActionSpec("continuous", ("x",)), steps=2000)[:, 0]
    holds = np.diff(np.flatnonzero(np.diff(values, prepend=np.nan)))
    assert set(holds) == set(range(1, 9))


def test_where_there_is_only_sidestepping_the_player_moves_most_of_the_time():
    spec = ActionSpec("keys", ("MOVE_LEFT", "MOVE_RIGHT", "ATTACK"))
    left, right, attack = explore(spec).T
    assert (left | right).mean() == pytest.approx(0.8, abs=0.03)
    assert not (left & right).any()
    assert attack.mean() == pytest.approx(0.15, abs=0.03)


def test_discrete_choices_are_equally_likely():
    actions = explore(ActionSpec("discrete", ("a", "b", "c", "d")))
    np.testing.assert_allclose(np.bincount(actions) / len(actions), 0.25, atol=0.03)


def test_continuous_actions_fill_their_bounds():
    actions = explore(ActionSpec("continuous", ("x", "y"), low=(-1.0, 5.0), high=(1.0, 6.0)))
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions.min(0), [-1, 5], atol=0.01)
    np.testing.assert_allclose(actions.max(0), [1, 6], atol=0.01)


def test_keys_among_numbers_are_held_as_keys_and_a_mouse_moves_little_at_a_time():
    names = ("MOVE_FORWARD", "TURN_LEFT_RIGHT_DELTA", "MOVE_BACKWARD")
    spec = ActionSpec("continuous", names, low=(0, -30, 0), high=(1, 30, 1), whole=(True, False, True))
    forward, turn, backward = explore(spec).T
    np.testing.assert_allclose([forward.mean(), backward.mean()], [0.7, 0.1], atol=0.03)
    assert not (forward * backward).any()
    assert set(forward) == {0, 1}
    assert np.abs(turn).max() == pytest.approx(30, abs=0.5)
    assert np.median(np.abs(turn)) == pytest.approx(30 / 8, abs=0.8)
    assert turn.mean() == pytest.approx(0, abs=0.6)


def test_the_same_seed_explores_alike():
    np.testing.assert_array_equal(explore(DOOM, 100, seed=4), explore(DOOM, 100, seed=4))
    assert (explore(DOOM, 100, seed=4) != explore(DOOM, 100, seed=5)).any()


@pytest.fixture
def policies(tmp_path, monkeypatch):
    (tmp_path / "some_policies.py").write_text(
        "answer = 42\n"
        "def left(observation, spec, rng): return 0\n"
        "class Counter:\n"
        "    count = 0\n"
        "    def __call__(self, observation, spec, rng):\n"
        "        self.count += 1\n"
        "        return self.count\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("some_policies", None)


def test_a_policy_is_found_in_the_working_directory(policies):
    assert load_policy("some_policies:left")()({}, DOOM, np.random.default_rng()) == 0


def test_a_class_of_policies_starts_afresh_each_episode(policies):
    make_policy, rng = load_policy("some_policies:Counter"), np.random.default_rng()
    for _ in range(2):
        policy = make_policy()
        assert [policy({}, DOOM, rng) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("some_policies", "module:function"),
        ("nowhere:left", "No module named 'nowhere'"),
        ("some_policies:right", "some_policies has no right"),
        ("some_policies:answer", "is a int"),
    ],
)
def test_a_bad_policy_is_named(policies, path, message):
    with pytest.raises(ValueError, match=message):
        load_policy(path)
