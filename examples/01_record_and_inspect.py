"""Record a few episodes of ViZDoom as a LeRobot dataset, and look at them.

    python examples/01_record_and_inspect.py [FOLDER]

Running it again appends. On the command line: `oneiros record doom:health_gathering --out data`, `oneiros inspect
data`.
"""

import sys
from pathlib import Path

from oneiros import Dataset, DatasetWriter, make_env
from oneiros.data.episodes.inspection.contact_sheet import contact_sheet
from oneiros.envs.explore import StickyRandom
from oneiros.envs.record import record_episode

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples")

env = make_env("doom:health_gathering", height=64, width=64)
with DatasetWriter.of(env, folder / "data", outcomes=True) as writer:  # with rewards and ends, for example 09
    for _ in range(6):
        record_episode(env, writer, StickyRandom, seed=0, max_steps=60, task="explore")
env.close()

dataset = Dataset.open(folder / "data")
print(f"{len(dataset.episodes)} episodes at {dataset.fps} frames/s, keys {', '.join(dataset.action_spec.names)}")

# Row t holds what was seen at t and what was done then.
frames, actions = dataset.frames(0), dataset.actions(0)
print(f"episode 0: frames {frames.shape} {frames.dtype}, actions {actions.shape} {actions.dtype}")

contact_sheet(dataset).save(folder / "data-sheet.png")
print(f"wrote {folder / 'data-sheet.png'}")
