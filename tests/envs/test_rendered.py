from importlib.util import find_spec

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from oneiros.envs.make import make_env
from tests.envs import echo_env


@pytest.mark.parametrize(
    ("name", "kind", "action", "stripes"),
    [
        ("EchoDiscrete-v0", "discrete", np.int64(2), [0, 0, 255, 0]),
        ("EchoKeys-v0", "keys", np.array([True, False, False, True]), [255, 0, 0, 255]),
        ("EchoBox-v0", "continuous", np.array([-2, 2, 0, 1], np.float32), [0, 255, 128, 191]),
    ],
)
def test_every_kind_of_action_reaches_the_environment(name, kind, action, stripes):
    env = make_env(f"gym:{name}", height=32, width=32)
    assert (env.action_spec.kind, env.action_spec.size) == (kind, echo_env.STRIPES)
    assert not env.reset(seed=0)[0]["observation.images.front"].any()
    frame = env.step(action)[0]["observation.images.front"]
    assert frame.shape == (32, 32, 3)
    np.testing.assert_array_equal(frame[16, 4::8, 0], stripes)
    np.testing.assert_array_equal(env.render(), frame)


def test_bounds_state_and_speed_are_taken_from_the_environment():
    env = make_env("gym:EchoBox-v0", frame_skip=3)
    assert (env.action_spec.low, env.action_spec.high) == ((-2.0,) * 4, (2.0,) * 4)
    assert (env.fps, env.state_names) == (3, ("state_0", "state_1"))
    env.reset(seed=0)
    observation, reward, *_ = env.step(np.zeros(4, np.float32))
    assert (observation["observation.state"][0], reward) == (3, 3.0)


def test_a_speed_that_is_wanted_chooses_the_frame_skip():
    env = make_env("gym:EchoBox-v0", fps=5)
    assert (env.frame_skip, env.fps) == (2, 5)
    same = make_env("gym:EchoBox-v0", fps=10)
    assert (same.frame_skip, same.fps) == (1, 10)
    nearest = make_env("gym:EchoBox-v0", fps=60)
    assert (nearest.frame_skip, nearest.fps) == (1, 10)
    with pytest.raises(ValueError, match="frame_skip is 2 and fps 5; one of them decides the other"):
        make_env("gym:EchoBox-v0", fps=5, frame_skip=2)


def test_what_an_environment_does_not_offer_has_a_default():
    env = make_env("gym:EchoBox-v0")
    assert (env.tasks, env.task, env.has_expert, env.camera_kind) == ((), "", False, None)
    with pytest.raises(ValueError, match="RenderedEnv has no expert"):
        env.expert_action()
    env.reset(seed=0)
    assert env.step(env.action_space.sample(), observe=False)[0].keys() == env.observation_space.keys()


def test_frame_skip_stops_where_the_episode_ends():
    env = make_env("gym:EchoKeys-v0", frame_skip=5)
    env.reset(seed=0)
    ends = [env.step(np.zeros(4, bool))[2] for _ in range(3)]
    assert ends == [False, False, True]


def test_the_same_seed_gives_the_same_episode():
    env = make_env("gym:EchoKeys-v0", seed=5)
    states = [env.reset(seed=seed)[0]["observation.state"][1] for seed in (1, 1, 2)]
    assert states[0] == states[1] != states[2]


@pytest.mark.parametrize("name", ["gym:CartPole-v1", "gym:Pendulum-v1"])
def test_real_environments_are_gymnasium_environments_still(name):
    env = make_env(name)
    check_env(env, skip_render_check=True)
    assert env.render().std() > 1
    env.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gym:CartPol-v1", "did you mean CartPole-v1"),
        ("gym:CartPole-v9", "not a registered environment"),
        ("gym:no_such_module:Env-v0", "not a registered environment"),
        ("gym:Mute-v0", "rgb_array is needed"),
        ("gym:Liar-v0", "renders NoneType"),
        ("gym:EchoText-v0", "takes Text actions"),
        ("gym:", "no environment"),
        ("atari:pong", "doom:SCENARIO, metaworld:TASK or gym:ENV_ID"),
    ],
)
def test_bad_names_and_environments_are_named(name, message):
    with pytest.raises(ValueError, match=message):
        make_env(name)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="no depth"):
        make_env("gym:EchoKeys-v0", depth=True)
    with pytest.raises(ValueError, match="0x64"):
        make_env("gym:EchoKeys-v0", height=0)
    with pytest.raises(ValueError, match="at least 1"):
        make_env("gym:EchoKeys-v0", frame_skip=0)


def test_a_module_of_ones_own_may_register_the_environment(tmp_path, monkeypatch):
    (tmp_path / "own_envs.py").write_text(
        "import gymnasium\ngymnasium.register('Own-v0', 'tests.envs.echo_env:Echo', "
        "kwargs={'action_space': gymnasium.spaces.Discrete(4)})"
    )
    monkeypatch.chdir(tmp_path)
    assert make_env("gym:own_envs:Own-v0").action_spec.size == 4
    with pytest.raises(ValueError, match="No module named 'nowhere'"):
        make_env("gym:nowhere:Own-v0")


def test_a_namespace_is_imported_like_the_module_it_is_called_after(tmp_path, monkeypatch):
    (tmp_path / "echo_house.py").write_text(
        "import gymnasium\n"
        "from tests.envs.echo_env import Echo\n"
        "space = gymnasium.spaces.Discrete(4)\n"
        "gymnasium.register('echo_house/Echo-v0', entry_point=Echo, kwargs={'action_space': space})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert make_env("gym:echo_house/Echo-v0").action_spec.kind == "discrete"


@pytest.mark.skipif(find_spec("gym_pusht") is not None, reason="gym_pusht is installed")
def test_what_pusht_needs_is_named():
    with pytest.raises(ValueError, match=r"pip install -e '\.\[pusht\]' in the repository"):
        make_env("gym:gym_pusht/PushT-v0")
