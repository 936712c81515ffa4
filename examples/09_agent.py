"""Learn to play inside the dream: many dreams side by side are one Gymnasium vector environment.

    python examples/09_agent.py [FOLDER]

Needs the data and the world of examples 01 and 02; with stable-baselines3 (the extra `agents`), its PPO learns too, and
torchrl collects in them as they are. On the command line: `oneiros train agent world --env doom:health_gathering --out
agent`.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import torch

from oneiros import Agent, DreamVector
from oneiros.agents.learning import Learner
from oneiros.agents.model import AgentConfig
from oneiros.agents.settings import LearningConfig
from oneiros.agents.starts import recorded_starts
from oneiros.world.starts import load_world

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples")
world = load_world(folder / "world")

# Dreams begin at recorded moments, pay and end as the world has learned, and begin anew in the same step.
starts = recorded_starts(world, folder / "world", folder / "data", count=64)
dreams = DreamVector(world, starts, num_envs=16, max_steps=30)
print(f"{dreams.num_envs} dreams, observations {dreams.single_observation_space.shape}, {dreams.single_action_space}")

# What learns is a small actor and critic over the world's hidden state. No frame is ever drawn.
features, _ = dreams.reset(seed=0)
agent = Agent(AgentConfig(world.config.action_spec, features.shape[1], width=64))
agent.standardise_by(torch.from_numpy(features))
learner = Learner(agent, dreams, LearningConfig(horizon=8))
for _ in range(3):
    measured = learner.learn()
print(f"reward {measured['reward']:.2f} a step, entropy {measured['entropy']:.2f}")

if find_spec("stable_baselines3"):
    from stable_baselines3 import PPO

    from oneiros.agents.stable_baselines import StableBaselinesEnv

    PPO("MlpPolicy", StableBaselinesEnv(dreams), n_steps=8, batch_size=64, device="cpu").learn(128)
    print("PPO of stable-baselines3 has learned in the same dreams")

if find_spec("torchrl"):
    from torchrl.envs import GymWrapper

    collected = GymWrapper(dreams).rollout(8, break_when_any_done=False)
    print(f"torchrl has collected {collected.shape[0]} x {collected.shape[1]} steps of the same dreams")
