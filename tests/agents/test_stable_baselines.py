"""The same dreams as stable-baselines3 takes them."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO

from oneiros.agents.dream_vector import DreamVector
from oneiros.agents.stable_baselines import StableBaselinesEnv
from tests.agents.line_world import STAY, line_starts, line_world

RIGHT = 2


def test_it_tells_of_ends_as_that_library_does():
    dreams = DreamVector(line_world(), line_starts(), num_envs=4, max_steps=7)
    env = StableBaselinesEnv(dreams)
    env.seed(0)
    env.reset()
    for step in range(7):
        always = np.array([RIGHT, RIGHT, STAY, STAY])
        _, rewards, dones, infos = env.step(always)
        assert rewards.dtype == np.float32
        assert dones.all() == (step == 6)
    assert all(info["TimeLimit.truncated"] and info["episode"]["l"] == 7 for info in infos)
    assert infos[0]["terminal_observation"].shape == env.observation_space.shape


def test_its_algorithms_learn_in_dreams():
    env = StableBaselinesEnv(DreamVector(line_world(), line_starts(), num_envs=4, max_steps=10))
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
    model.learn(64)
    actions, _ = model.predict(env.reset())
    assert actions.shape == (4,)
