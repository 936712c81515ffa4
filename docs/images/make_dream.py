"""The picture in the README: real frames above, dreamed ones below, of clips held out of training.

python docs/images/make_dream.py demo
"""

import sys
from pathlib import Path

import torch

from oneiros import Dataset, Sampling
from oneiros.data.pictures import frame_rows, save_strips
from oneiros.records import Clip
from oneiros.world.recorded import held_out_episodes, load_clips
from oneiros.world.rollout import context_of
from oneiros.world.starts import load_world

GIVEN, DREAMED, SHOWN = 8, 10, 2
CLIPS = [(2, 30), (7, 60), (12, 90), (15, 20)]  # held-out episode, and the row where its clip begins

demo = Path(sys.argv[1])
world, data = load_world(demo / "world"), Dataset.open(demo / "data")
clips = load_clips(world, demo / "world", data, held_out_episodes(demo / "world", data), length=GIVEN + DREAMED)
episodes = sorted({clips.where(index)[0] for index in range(len(clips))})
wanted = [(episodes[episode], row) for episode, row in CLIPS]
batch = clips.batch([index for index in range(len(clips)) if clips.where(index) in wanted])
assert isinstance(batch, Clip)
assert batch.actions is not None
dream = world.generate(
    context_of(batch, GIVEN),
    batch.actions[:, GIVEN - 1 :],
    sampling=Sampling(),  # as in play
    generator=torch.Generator().manual_seed(0),
)
first = GIVEN - SHOWN
groups = [
    [*frame_rows("real", batch.frames[i, first:]), *frame_rows("dreamed", dream.frames[i, first:])]
    for i in range(len(batch.frames))
]
title = f"health_gathering, held out of training: {SHOWN} of {GIVEN} given frames, then {DREAMED} from the keys alone"
save_strips(Path(__file__).with_name("dream.png"), title, groups, num_given=SHOWN)
