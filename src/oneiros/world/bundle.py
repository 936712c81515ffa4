"""A world's run folder made small enough to ship with the package: see `oneiros.world.built_in`.

`python -m oneiros.world.bundle RUN OUT [DATA]` makes one: weights are kept in 16 bits, which play rounds them to anyway
where blocks run in bf16, and what only training needs is left out. The result is loaded and played like any other run
folder. DATA: the dataset whose held-out episodes dreams are to begin in; a world trained from codes alone has only its
tokenizer's frames to begin with.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from oneiros.data.episodes.dataset import Dataset
from oneiros.records import Clip
from oneiros.run_folder import CONFIG, WEIGHTS, RunConfig, read_config, read_origin
from oneiros.world.built_in import STARTS
from oneiros.world.model import TOKENIZER, World
from oneiros.world.recorded import held_out_episodes
from oneiros.world.starts import save_starts, starts_from_data

NUM_STARTS = 8


def bundle(run: Path, out: Path, data: Path | None = None) -> int:
    """Write `out`, a new folder; returns its size in bytes. data: where dreams begin, None = where the run's do.

    Raises ValueError for a run that is no world, or an `out` that exists.
    """
    world = World.load(run)  # or it says why not
    if out.exists():
        raise ValueError(f"{out} exists; name a new folder")
    for folder in (Path(), Path(TOKENIZER)):
        (out / folder).mkdir(parents=True)
        (out / folder / CONFIG).write_text(json.dumps(_without_paths(run / folder).to_json(), indent=2) + "\n")
        save_file(_halved(load_file(run / folder / WEIGHTS)), out / folder / WEIGHTS)
    if data is None:
        shutil.copy(run / STARTS, out / STARTS)
    else:
        save_starts(_beginnings(world, run, Dataset.open(data)), out)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def _beginnings(world: World, run: Path, dataset: Dataset) -> Clip:
    """The first frames of clips spread over the held-out episodes, as one batch."""
    starts = starts_from_data(world, run, dataset, held_out_episodes(run, dataset), count=NUM_STARTS)
    actions = [start.actions for start in starts if start.actions is not None]
    frames, valid = torch.cat([start.frames for start in starts]), torch.cat([start.valid for start in starts])
    return Clip(frames, torch.cat(actions) if actions else None, valid)


def _without_paths(run: Path) -> RunConfig:
    """What was trained and on what, but not where on a disk it lay."""
    config, origin = read_config(run), replace(read_origin(run), path=None)
    return RunConfig(config.kind, config.model, data=origin.to_json())


def _halved(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    halved = {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in tensors.items()}
    if broken := [name for name, tensor in halved.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{broken[0]} does not fit into 16 bits")
    return halved


if __name__ == "__main__":
    print(f"{bundle(*map(Path, sys.argv[1:])) / 1e6:.1f} MB")
