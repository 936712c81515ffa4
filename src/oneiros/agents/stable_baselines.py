"""Many worlds as a VecEnv of stable-baselines3, whose algorithms take no Gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from oneiros.agents.vector import WorldVector


class StableBaselinesEnv(VecEnv):
    """A `DreamVector` or `RealVector` for stable-baselines3: PPO("MlpPolicy", StableBaselinesEnv(dreams)).learn(...).

    Where an episode ends, infos hold "terminal_observation", and "TimeLimit.truncated" where it was only cut off, as
    that library has it; and "episode", its return and length.
    """

    def __init__(self, env: WorldVector) -> None:
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions = np.zeros(0)
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, int)

    def reset(self) -> np.ndarray:
        seed = next((seed for seed in self._seeds if seed is not None), None)
        self._reset_seeds()
        self._returns[:], self._lengths[:] = 0, 0
        return self.env.reset(seed=seed)[0]

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        actions = self._actions.astype(bool) if isinstance(self.action_space, spaces.MultiBinary) else self._actions
        observations, rewards, terminated, truncated, found = self.env.step(actions)
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        over = terminated | truncated
        for row in np.flatnonzero(over):
            infos[row] = {
                "terminal_observation": found["final_obs"][row],
                "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
                "episode": {"r": float(self._returns[row]), "l": int(self._lengths[row]), "t": 0.0},
            }
        self._returns[over], self._lengths[over] = 0, 0
        return observations, rewards.astype(np.float32), over, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise ValueError("the environments are one: none has attributes of its own to set")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise ValueError("the environments are one: none has methods of its own to call")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * len(self._rows(indices))

    def get_images(self) -> Sequence[np.ndarray]:
        return list(self.env.render())

    def _rows(self, indices: Any) -> Sequence[int]:
        return range(self.num_envs) if indices is None else [indices] if isinstance(indices, int) else list(indices)
