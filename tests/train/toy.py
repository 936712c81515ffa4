"""A small model and its data for the engine's tests; as a script, one training run that can be killed.

python toy.py OUT [--resume] [--steps N] [--slow SECONDS] [--batch N] [--accumulate N]
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from oneiros.records import Loss, Trainable
from oneiros.train.config import FitConfig
from oneiros.train.fit import FitResult, fit
from oneiros.train.order import Order

NUM_ITEMS, LENGTH, DIM = 50, 4, 6
CONFIG = FitConfig(
    steps=12, batch_size=8, learning_rate=1e-2, warmup_steps=3, precision="float32", save_every=4, log_every=3, seed=5
)


@dataclass(frozen=True)
class Batch:
    inputs: Tensor  # (B, T, D)
    targets: Tensor  # (B, T, D)
    valid: Tensor  # (B, T)

    def to(self, device: torch.device) -> "Batch":
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))


class Toy(Trainable):
    """Regression whose loss is a mean over valid frames, with a buffer that only `after_step` changes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(DIM, 16), nn.Tanh(), nn.Dropout(0.0), nn.Linear(16, DIM))
        self.gain = nn.Parameter(torch.ones(DIM))
        self.never_used = nn.Parameter(torch.ones(3))
        self.register_buffer("steps_seen", torch.zeros(()))

    def forward(self, batch: Batch) -> Loss:
        errors = (self.layers(batch.inputs) * self.gain - batch.targets).square().mean(-1)
        mean = (errors * batch.valid).sum() / batch.valid.sum()
        return Loss(mean, {"toy/error": mean.detach()})

    def after_step(self) -> None:
        self.steps_seen += 1

    def learning_rate_scale(self, name: str) -> float:
        return 0.5 if name == "gain" else 1.0


def batches(config: FitConfig):
    """A pure function of (step, samples); every third item has padding, so that frames must weigh equally."""
    items = torch.Generator().manual_seed(1)
    inputs = torch.randn(NUM_ITEMS, LENGTH, DIM, generator=items)
    valid = torch.ones(NUM_ITEMS, LENGTH, dtype=torch.bool)
    valid[::3, 1:] = False
    order = Order(NUM_ITEMS, batch_size=config.batch_size, seed=config.seed)

    def make_batch(step: int, samples: Sequence[int]) -> Batch:
        index = order.indices(step, samples)
        return Batch(inputs[index], inputs[index].flip(-1).sin(), valid[index])

    return make_batch


def save_weights(model: nn.Module, folder: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")


def train(out: Path, config: FitConfig = CONFIG, *, make_batch=None, resume: bool = False, **options) -> FitResult:
    make_batch = make_batch or batches(config)
    return fit(Toy(), make_batch, out=out, config=config, save_model=save_weights, resume=resume, **options)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--config", type=json.loads, default={})
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = replace(CONFIG, **arguments.config)
    make_batch = batches(config)

    def slowly(step: int, samples: Sequence[int]) -> Batch:
        time.sleep(arguments.slow)
        return make_batch(step, samples)

    train(arguments.out, config, make_batch=slowly, resume=arguments.resume)


if __name__ == "__main__":
    main()
