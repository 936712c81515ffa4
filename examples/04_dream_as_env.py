"""Let an agent act inside the dream: a world is a Gymnasium environment like any other.

    python examples/04_dream_as_env.py [FOLDER]

Needs the world of example 02. The agent here draws its keys at random; yours need not.
"""

import sys
from pathlib import Path

import torch

from oneiros import Dream, Sampling
from oneiros.data.frames import to_uint8

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples")
env = Dream.from_run(folder / "world", max_steps=40)
names = env.action_spec.names
print(f"observations {env.observation_space}, actions {env.action_space}: {', '.join(names)}")

frame, info = env.reset(seed=0)  # the same seed and the same actions give the same dream
env.action_space.seed(0)
steps, total, over = 0, 0.0, False
while not over:
    frame, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    steps, total, over = steps + 1, total + reward, terminated or truncated
print(f"{steps} steps from start {info['start']} paid {total:.1f}, the last frame is {frame.shape} {frame.dtype}")

# Below the environment: a state is plain data, and `clone` branches it. Two futures of one moment:
now = env.world.init(env.starts[0])
futures = []
for held in ("TURN_LEFT", "TURN_RIGHT"):
    state, keys = now.clone(), torch.tensor([[name == held for name in names]])
    for _ in range(4):
        state, future = env.world.step(state, keys, sampling=Sampling(temperature=0.0))
    futures.append(to_uint8(future).float())
print(f"left and right differ by {(futures[0] - futures[1]).abs().mean():.1f} grey levels a pixel")
