"""Train a world around a codec of your own and play it: linear patches, and an autoencoder of diffusers if you have it.

    python examples/06_own_codec.py [FOLDER]

Needs the dataset of example 01. The codecs are in my_codecs.py beside this file. On the command line, in a folder with
that file: `oneiros train tokenizer data --codec my_codecs:patches --out tokenizer`, and --codec again with
`oneiros train world`, eval, dream and play: a run folder knows what its codec was called, but imports none by itself.
"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import my_codecs

from oneiros import Dream
from oneiros.world.settings import TokenizerSettings, WorldSettings
from oneiros.world.training import tokenizer, world

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples")
codecs = {"patches": my_codecs.patches}
if find_spec("diffusers"):
    codecs["diffusers_vae"] = my_codecs.diffusers_vae

for name, make in codecs.items():
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)
    shared = {"data": folder / "data", "preset": "tiny", "precision": "float32", "codec": f"my_codecs:{name}"}
    tokenizer.run(TokenizerSettings(out=out / "tokenizer", steps=100, **shared))
    world.run(WorldSettings(tokenizer=out / "tokenizer", out=out / "world", steps=20, batch_size=4, **shared))

    dream = Dream.from_run(out / "world", codec=make())  # its weights are in the run folder
    dream.reset(seed=0)
    for _ in range(8):
        frame = dream.step(dream.action_space.sample())[0]
    rows, columns = dream.world.tokenizer.grid
    print(f"{name}: frames of {rows * columns} codes, 8 dreamed, the last {frame.shape} with mean {frame.mean():.0f}")
