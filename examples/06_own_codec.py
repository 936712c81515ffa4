"""Train a tokenizer around a codec of your own: here linear patches, in your work perhaps a pretrained VAE.

    python examples/06_own_codec.py [FOLDER]

Needs the dataset of example 01. `oneiros.world.nn.codec` says what a codec is, and its optional attributes.
"""

import shutil
import sys
from pathlib import Path

from torch import nn

from oneiros import Dataset, Tokenizer, load
from oneiros.data.episodes.clips import Clips, load_frames, split_episodes
from oneiros.train.fit import FitConfig, fit
from oneiros.train.order import Order
from oneiros.world.tokenizer import TokenizerConfig

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples")
out = folder / "patches"
shutil.rmtree(out, ignore_errors=True)


class Patches(nn.Module):
    """Frames (B, T, 3, H, W) in [-1, 1] <-> latents (B, T, 16, H/8, W/8)."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 16, 8, stride=8), nn.ConvTranspose2d(16, 3, 8, stride=8)

    def encode(self, frames):
        return self.enter(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def decode(self, latents):
        return self.leave(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])


dataset = Dataset.open(folder / "data")
training, held_out = split_episodes([episode.index for episode in dataset.episodes])
clips = Clips(load_frames(dataset, training, height=64, width=64), None, length=1)

tokenizer = Tokenizer(TokenizerConfig(codebook_size=64, code_dim=16, external_codec=True), Patches(), trainable=True)
config = FitConfig(steps=150, batch_size=16, learning_rate=3e-3, warmup_steps=10, precision="float32")
order = Order(len(clips), batch_size=config.batch_size, seed=config.seed)
fitted = fit(
    tokenizer,
    lambda step, samples: clips.batch(order.indices(step, samples), order.seeds(step, samples)),
    out=out,
    config=config,
    save_model=Tokenizer.save,
)

tokenizer = load(out, codec=Patches())  # bring the codec's class again; its weights are in the run folder
codes = tokenizer.encode(clips.batch([0]).frames)
print(f"loss {fitted.loss:.3f}; frame 0 is {codes.shape[-1]} codes, {len(codes.unique())} different ones")
