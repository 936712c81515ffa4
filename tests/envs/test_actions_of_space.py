"""Every space of actions: what is recorded is what the environment was given, and it is legal."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.envs.explore import StickyRandom
from oneiros.envs.make import make_env, read_arguments
from oneiros.envs.record import record_episode
from oneiros.policy.nn.action_numbers import from_numbers
from oneiros.records import ActionSpec


class Witness(gym.Env):
    """Keeps what it was given; refuses what its space does not contain."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": None}  # noqa: RUF012
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, action_space, render_mode=None, level=0):
        self.action_space, self.render_mode, self.level = action_space, render_mode, level

    def reset(self, *, seed=None, options=None):
        self.given = []
        return np.array([0.0, self.level], np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), f"illegal action {action!r}"
        self.given.append(action)
        return np.array([len(self.given), np.inf if self.level == 9 else 1.0], np.float32), 0.0, False, False, {}

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


def witness(space, cls=Witness, **kwargs):
    gym.register("Witness-v0", cls, kwargs={"action_space": space, **kwargs})
    return "gym:Witness-v0"


@pytest.fixture(autouse=True)
def clean():
    yield
    gym.registry.pop("Witness-v0", None)


def record(space, tmp_path, steps=30):
    """(the spec, recorded actions, given ones)"""
    env = make_env(witness(space), height=16, width=16)
    inner = env._env.unwrapped
    with DatasetWriter.of(env, tmp_path) as writer:
        record_episode(env, writer, StickyRandom, seed=0, max_steps=steps, task="x")
    dataset = Dataset.open(tmp_path)
    return dataset.action_spec, dataset.actions(0)[:-1], inner.given


def test_numbers_keep_the_bounds_that_they_have(tmp_path):
    space = spaces.Box(np.array([0, -1, -np.inf], np.float32), np.array([np.inf, 1, 3e38], np.float32))
    spec, recorded, given = record(space, tmp_path)
    assert (spec.low, spec.high) == ((0.0, -1.0, -np.inf), (np.inf, 1.0, np.inf))
    assert spec.to_json()["low"] == [0.0, -1.0, None]
    np.testing.assert_array_equal(recorded, np.stack(given))
    assert recorded[:, 0].min() >= 0
    assert np.abs(recorded[:, 1]).max() <= 1
    assert np.unique(recorded[:, 2]).size > 3


def test_whole_numbers_are_recorded_as_they_were_done(tmp_path):
    spec, recorded, given = record(spaces.Box(0, 4, (2,), np.int64), tmp_path, steps=60)
    assert spec.whole == (True, True)
    np.testing.assert_array_equal(recorded, np.stack(given))
    assert {*np.unique(recorded)} == {0, 1, 2, 3, 4}
    assert spec.done([2.55, 9]).tolist() == [3, 4]


def test_finer_bounds_than_ours_are_not_passed_by_rounding(tmp_path):
    env = make_env(witness(spaces.Box(-0.1, 0.1, (2,), np.float64)), height=16, width=16)
    env.reset(seed=0)
    env.step(np.array([0.1, -0.1], np.float32))  # the float32 next to 0.1 is larger


def test_choices_that_begin_elsewhere_count_from_0(tmp_path):
    spec, recorded, given = record(spaces.Discrete(3, start=-1), tmp_path)
    assert (spec.kind, spec.size) == ("discrete", 3)
    assert {*recorded.tolist()} == {0, 1, 2}
    np.testing.assert_array_equal(recorded - 1, np.array(given))
    env = make_env(witness(spaces.Discrete(3, start=5)), height=16, width=16)
    env.reset(seed=0)
    env.step(env.action_space.sample())


@pytest.mark.parametrize(
    ("space", "names", "high"),
    [
        (spaces.MultiDiscrete([3, 4, 2]), ("choice_0", "choice_1", "choice_2"), (2, 3, 1)),
        (
            spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (2,), np.float32), spaces.MultiBinary(2))),
            ("0", "1_0", "1_1", "2_0", "2_1"),
            (1, 1, 1, 1, 1),
        ),
        (
            spaces.Dict(
                {"arm": spaces.Box(-1, 1, (1,), np.float64), "legs": spaces.Dict({"gait": spaces.Discrete(3)})}
            ),
            ("arm_0", "legs.gait"),
            (1, 2),
        ),
    ],
)
def test_mixed_actions_are_one_vector(tmp_path, space, names, high):
    spec, recorded, given = record(space, tmp_path)
    assert (spec.kind, spec.names, spec.high) == ("continuous", names, high)
    flat = [np.concatenate([np.ravel(part) for part in _leaves(each)]).astype(np.float32) for each in given]
    np.testing.assert_array_equal(recorded, np.stack(flat))
    assert ActionSpec.from_json(spec.to_json()) == spec


def _leaves(value):
    if isinstance(value, dict):
        value = tuple(value.values())
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, tuple) else [value]


def test_what_never_moved_stays_where_it_was():
    spec = ActionSpec("continuous", ("x", "locked"), mean=(1.0, 0.3), std=(2.0, 1e-9), low=(0.0, -1.0), high=(2.0, 1.0))
    numbers = torch.tensor([[-3.0, 0.2], [0.25, -1.0]])
    torch.testing.assert_close(from_numbers(numbers, spec), torch.tensor([[0.0, 0.3], [1.5, 0.3]]))


class NoSeed(Witness):
    def reset(self):
        return np.zeros(2, np.float32), {}


class NeedsLevel(Witness):
    def __init__(self, action_space, level, render_mode=None):
        super().__init__(action_space, render_mode, level)


class NoGL(Witness):
    def render(self):
        raise AttributeError("'NoneType' object has no attribute 'glGetError'")


class Old(Witness):
    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, {}


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (NoSeed, r"Gymnasium's reset\(\*, seed=None, options=None\) takes a seed"),
        (NeedsLevel, "'level'.*--env-args NAME=VALUE"),
        (NoGL, "glGetError.*MUJOCO_GL=egl"),
    ],
)
def test_what_keeps_an_environment_from_starting_is_one_line(cls, told):
    with pytest.raises(ValueError, match=rf"^gym:Witness-v0 cannot start [^\n]*{told}[^\n]*$"):
        make_env(witness(spaces.Discrete(2), cls))


def test_old_steps_are_named():
    env = make_env(witness(spaces.Discrete(2), Old))
    with pytest.raises(ValueError, match=r"its step\(\) returns 4 values; Gymnasium's returns 5"):
        env.step(0)


def test_arguments_reach_the_environment():
    env = make_env(witness(spaces.Discrete(2), NeedsLevel), arguments=read_arguments(["level=3"]))
    assert env.reset(seed=0)[0]["observation.state"].tolist() == [0, 3]
    assert env.fps == 30
    assert read_arguments(["a=1.5", "b=true", "c=forest", "d=[1]"]) == {"a": 1.5, "b": True, "c": "forest", "d": [1]}
    with pytest.raises(ValueError, match="'level' is no argument of an environment; write NAME=VALUE"):
        read_arguments(["level"])
    with pytest.raises(ValueError, match="doom:basic takes no arguments"):
        make_env("doom:basic", arguments={"level": 3})


def test_a_state_that_is_no_number_is_named_or_left_out(tmp_path):
    env = make_env(witness(spaces.Discrete(2), level=9), height=16, width=16)
    told = "the environment's state_1 is inf, which no dataset can hold; --no-state records without"
    with DatasetWriter.of(env, tmp_path / "a") as writer, pytest.raises(ValueError, match=told):
        record_episode(env, writer, StickyRandom, seed=0, max_steps=3, task="x")
    env = make_env("gym:Witness-v0", height=16, width=16, state=False)
    with DatasetWriter.of(env, tmp_path / "b") as writer:
        record_episode(env, writer, StickyRandom, seed=0, max_steps=3, task="x")
    assert Dataset.open(tmp_path / "b").state_names == ()
