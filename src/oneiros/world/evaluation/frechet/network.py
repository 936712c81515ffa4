"""The feature network: two frames that follow each other -> 32 numbers. Its weights come with the package.

`benchmarks/feature_network.py` trained it, on recordings that it names, to tell how a pair of frames was spoiled (blur,
noise, checkerboard, blocks, misplaced patches), whether time runs backwards or stands still, and what is roughly where.

Legend: M pairs, h x w pixels, any size from 16 x 16 on.
"""

from __future__ import annotations

from importlib.resources import files
from itertools import pairwise

import torch
from safetensors.torch import load
from torch import Tensor, nn

from oneiros.data.frames import to_model

FEATURES = 32
WEIGHTS = "weights.safetensors"
_CHUNK = 256  # pairs a call


class FeatureNetwork(nn.Module):
    """Frames before and after, (M, 3, h, w) each in [-1, 1] -> features (M, 32).

    Over training frames, spoiled ones too, every feature has mean 0 and deviation 1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        widths = (6, 16, 32, 48, 64)
        layers: list[nn.Module] = []
        for number, (inner, outer) in enumerate(pairwise(widths)):
            stride = 2 if number else 1  # the first layer sees every pixel: what is finest is lost first
            layers += [nn.Conv2d(inner, outer, 3, stride=stride, padding=1), nn.BatchNorm2d(outer), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(4 * 64, FEATURES)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        maps = self.layers(torch.cat([after, after - before], dim=1))
        halves = nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1)  # upper left, upper right, lower left, ...
        return (self.last(halves) - self.mean) / self.deviation


def load_network() -> FeatureNetwork:
    """The one that comes with the package, in eval mode."""
    network = FeatureNetwork()
    network.load_state_dict(load(files("oneiros.world.evaluation.frechet").joinpath(WEIGHTS).read_bytes()))
    return network.eval()


@torch.no_grad()
def pair_features(network: FeatureNetwork, frames: Tensor) -> Tensor:
    """uint8 clips (B, 1 + H, h, w, 3) -> features of every frame with the one before it, float64 (B, H, 32)."""
    before, after = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
    pairs = zip(before.split(_CHUNK), after.split(_CHUNK), strict=True)
    found = torch.cat([network(to_model(a), to_model(b)) for a, b in pairs])
    return found.double().unflatten(0, (len(frames), -1))
