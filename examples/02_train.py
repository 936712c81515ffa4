"""Train a tiny tokenizer and a tiny world on the episodes of example 01. Seconds, so blurred: it shows the way.

    python examples/02_train.py [FOLDER]

On the command line: `oneiros train tokenizer data --out tokenizer`, `oneiros train world data --tokenizer tokenizer
--out world`. The folders hold config.json, model.safetensors, metrics.jsonl and pictures/.
"""

import shutil
import sys
from pathlib import Path

from oneiros.world.settings import TokenizerSettings, WorldSettings
from oneiros.world.training import tokenizer, world

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples")
for name in ("tokenizer", "world"):
    shutil.rmtree(folder / name, ignore_errors=True)  # a run folder is never overwritten

# Frames become codes: 64 for a frame of 64 x 64 pixels.
fitted = tokenizer.run(
    TokenizerSettings(data=folder / "data", out=folder / "tokenizer", preset="tiny", steps=40, precision="float32")
)
print(f"tokenizer: {fitted.step} steps, loss {fitted.loss:.3f}")

# The world learns the next frame's codes from those before it and the keys held in between.
settings = WorldSettings(
    data=folder / "data",
    tokenizer=folder / "tokenizer",
    out=folder / "world",
    preset="tiny",
    steps=40,
    batch_size=4,
    precision="float32",
)
fitted = world.run(settings)
print(f"world: {fitted.step} steps, loss {fitted.loss:.3f}")
