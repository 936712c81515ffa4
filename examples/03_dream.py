"""Dream on from a held-out start with scripted keys, and save the dream as a GIF.

    python examples/03_dream.py [FOLDER]

Needs the world of example 02. On the command line: `oneiros dream world data --episode 5 --out dream.mp4`.
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from oneiros import Sampling
from oneiros.data.frames import to_uint8
from oneiros.envs.actions import parse_script
from oneiros.world.starts import load_world, starts_from_run

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples")
world = load_world(folder / "world")

# A start is a Clip of 8 real frames; training left a few in the run folder.
start = starts_from_run(world, folder / "world")[0]
script = parse_script("MOVE_FORWARD*8,TURN_LEFT*8", world.config.action_spec)
dream = world.generate(
    start,
    torch.from_numpy(script)[None],
    sampling=Sampling(temperature=0.7, min_p=0.1),
    generator=torch.Generator().manual_seed(0),
)

frames = to_uint8(dream.frames[0]).numpy()  # (8 + 16, 64, 64, 3)
images = [Image.fromarray(frame).resize((256, 256), Image.Resampling.NEAREST) for frame in frames]
duration = round(1000 / world.config.fps)
images[0].save(folder / "dream.gif", save_all=True, append_images=images[1:], duration=duration, loop=0)
print(f"{len(frames)} frames -> {folder / 'dream.gif'}")
