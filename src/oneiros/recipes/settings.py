"""What `oneiros train` can be told, and the presets behind its one dial. Free of torch, so that `--help` is quick."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tyro

from oneiros.train.config import FitConfig, Precision


@dataclass(frozen=True)
class Preset:
    """model: fields of the model's config. fit: fields of `FitConfig`. clip_frames: how long training clips are."""

    model: Mapping[str, Any]
    fit: Mapping[str, Any]
    clip_frames: int = 1


TOKENIZER_PRESETS = {
    "tiny": Preset(
        model={"codebook_size": 64, "code_dim": 8, "codec_width": 16, "codec_depth": 1},
        fit={"steps": 120, "batch_size": 16, "learning_rate": 2e-3, "save_every": 60, "picture_every": 60},
    ),
    "small": Preset(
        model={"codebook_size": 512, "code_dim": 32, "codec_width": 64, "codec_depth": 2},
        fit={
            "steps": 2600,
            "batch_size": 24,
            "learning_rate": 1.5e-3,
            "final_lr_fraction": 0.05,
            "ema_decay": 0.99,
            "save_every": 500,
            "picture_every": 500,
        },
    ),
    "base": Preset(
        model={"codebook_size": 4096, "code_dim": 64, "codec_width": 128, "codec_depth": 3},
        fit={"steps": 50_000, "batch_size": 128, "learning_rate": 5e-4, "save_every": 1000, "picture_every": 1000},
    ),
}

# Clips are longer than the window, so that frames learn what it is to have lost sight of the beginning.
WORLD_PRESETS = {
    "tiny": Preset(
        model={"dim": 64, "depth": 2, "head_dim": 32, "window": 6},
        fit={"steps": 120, "batch_size": 8, "learning_rate": 2e-3, "save_every": 60, "picture_every": 60},
        clip_frames=8,
    ),
    "small": Preset(
        # Small batches learn most from each frame: at 18,000 frames, 4 clips a step had reached a loss that 12 did not.
        model={
            "dim": 192,
            "depth": 6,
            "window": 8,
            "action_dropout": 0.1,
            "corruption": 0.1,
            "target_spread": 0.7,
        },
        fit={
            "steps": 1500,
            "batch_size": 4,
            "learning_rate": 2e-3,
            "final_lr_fraction": 0.03,
            "weight_decay": 0.05,
            "betas": (0.9, 0.97),
            "ema_decay": 0.995,
            "save_every": 500,
            "picture_every": 500,
        },
        clip_frames=10,
    ),
    "base": Preset(
        model={"dim": 768, "depth": 12, "head_dim": 64, "window": 32},
        fit={"steps": 100_000, "batch_size": 64, "learning_rate": 3e-4, "save_every": 1000, "picture_every": 1000},
        clip_frames=40,
    ),
}

SEGMENTER_PRESETS = {
    "tiny": Preset(
        model={"network": "tiny", "max_points": 2048},
        fit={"steps": 100, "batch_size": 4, "learning_rate": 3e-3, "save_every": 50, "picture_every": 50},
    ),
    "small": Preset(
        model={"network": "small", "max_points": 8192, "label_smoothing": 0.05},
        fit={
            "steps": 1000,
            "batch_size": 4,
            "learning_rate": 3e-3,
            "final_lr_fraction": 0.02,
            "weight_decay": 0.05,
            "ema_decay": 0.99,
            "save_every": 200,
            "picture_every": 200,
        },
    ),
    "base": Preset(
        model={"network": "official-S", "max_points": 30_000},
        fit={"steps": 50_000, "batch_size": 8, "learning_rate": 2e-3, "save_every": 1000, "picture_every": 1000},
    ),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What tokenizers, worlds and segmenters share."""

    out: Path
    """The run folder to write: config.json, model.safetensors, state.pt, metrics.jsonl, pictures/."""

    preset: Literal["tiny", "small", "base"] = "small"
    """Size of the model and length of training: tiny takes seconds, small minutes on a CPU, base wants a GPU."""

    steps: int | None = None
    """Optimiser steps. Default: the preset's."""

    batch_size: int | None = None
    """Clips per optimiser step, over all processes and micro-batches. Default: the preset's."""

    accumulate: int = 1
    """Micro-batches per step: less memory, same result."""

    lr: float | None = None
    """Highest learning rate. Default: the preset's."""

    precision: Precision = "auto"
    """auto computes in bf16 where this machine does that faster, else in float32."""

    seed: int = 0
    """Of the initial weights and of everything drawn in training."""

    save_every: int | None = None
    """Steps between checkpoints. Default: the preset's."""

    picture_every: int | None = None
    """Steps between pictures of real frames beside the model's. Default: the preset's."""

    resume: bool = False
    """Go on with the run in --out, after Ctrl-C or anything worse. Settings not given are that run's."""

    warm_start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Begin with the weights of this run instead of random ones; its model size replaces the preset's."""

    def fit_config(self, preset: Preset) -> FitConfig:
        """The preset's, with what was given in its place."""
        given = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.lr,
            "save_every": self.save_every,
            "picture_every": self.picture_every,
        }
        values = dict(preset.fit) | {name: value for name, value in given.items() if value is not None}
        values.setdefault("warmup_steps", min(100, values["steps"] // 10))
        return FitConfig(**values, accumulate=self.accumulate, precision=self.precision, seed=self.seed)

    def to_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "resume"}
        return {name: _plain(value) for name, value in values.items()}

    def completed(self) -> Self:
        """For a run to resume: settings left at their defaults become those that the run in `out` began with."""
        path = self.out / "config.json"
        if not self.resume or not path.is_file():
            return self
        try:
            before = json.loads(path.read_text())["recipe"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: it does not tell the run's recipe") from error
        silent = [field for field in fields(self) if getattr(self, field.name) == field.default]
        known = {field.name: before[field.name] for field in silent if before.get(field.name) is not None}
        holds_paths = {field.name: "Path" in str(field.type) for field in silent}
        return replace(self, **{name: _revived(value, holds_paths[name]) for name, value in known.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _revived(value: Any, is_path: bool) -> Any:
    if isinstance(value, list):
        return tuple(_revived(each, is_path) for each in value)
    return Path(value) if is_path else value


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings(Settings):
    """Learn to turn frames into a few codes each, and back. The world model then dreams in those codes."""

    data: tyro.conf.Positional[Path]
    """A LeRobot dataset (v2.1 or v3.0), such as `oneiros record` writes."""

    height: int = 64
    """Of the model's frames in pixels, a multiple of 8; recordings are cropped and resized to it."""

    width: int = 64
    """Likewise."""

    camera: str | None = None
    """The dataset's camera to learn from. Default: its first."""

    depth: bool = False
    """Learn depth as a fourth channel, so that dreams have geometry."""

    cache: Path | None = None
    """Where decoded frames and codes are kept for the next run. Default: cache/ in the tokenizer's run folder."""

    augment: bool = False
    """Learn from frames shifted and recoloured by chance as well: for a few dozen episodes or fewer."""


@dataclass(frozen=True, kw_only=True)
class WorldSettings(Settings):
    """Learn what happens next: from the codes of past frames and an action to the codes of the next frame."""

    data: tyro.conf.Positional[Path | None] = None
    """The dataset to learn from. Not needed with --codes."""

    tokenizer: Path | None = None
    """Run folder of the trained tokenizer. Not needed with --codes."""

    codes: Path | None = None
    """Train from a folder of codes alone (see `cache`), on a machine without the dataset."""

    camera: str | None = None
    """The dataset's camera to learn from. Default: the tokenizer's."""

    frame_stride: int = 1
    """Dataset rows from one model frame to the next: 6 turns a 30 fps recording into 5 frames a second."""

    context: int | None = None
    """Frames the world looks back to, the newest included. Default: the preset's."""

    tokens_per_step: int | None = None
    """Codes drawn together: 1 is slowest and most careful. Default: the preset's."""

    cache: Path | None = None
    """Where decoded frames and codes are kept for the next run. Default: cache/ in the tokenizer's run folder."""

    augment: bool = False
    """Learn from clips shifted and recoloured by chance: for a few dozen episodes or fewer, which are learned by heart
    otherwise. Encodes frames while training, which takes a little longer."""

    carry_detail: float = 0.0
    """Add what the tokenizer loses of the last real frame to dreamed ones, where those hardly differ from it: 0.1 for a
    camera that stands still, such as a robot's. Pixels run from -1 to 1."""

    action_noise: float = 0.0
    """Noise on continuous actions in training, in units of their deviation: 0.3 for a few dozen episodes or fewer."""

    joint: bool = False
    """Train the tokenizer along with the world, from frames instead of codes."""


@dataclass(frozen=True, kw_only=True)
class SegmenterSettings(Settings):
    """Learn to classify the points of clouds, such as airborne lidar, from clouds that are classified already."""

    clouds: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Classified clouds: LAS, LAZ (COPC too), PLY, npy."""

    classes: str = "2,3-5,6"
    """Classification codes to learn, a class for each part between commas; 3-5 are learned as one class. Points of
    other codes are looked at, but neither learned nor measured."""

    names: tuple[str, ...] = ()
    """What to call the classes. Default: as ASPRS calls their codes."""

    held_out: tuple[Path, ...] = ()
    """Clouds of those given to measure on instead of learning from. Default: the last one; of a single cloud, a fifth
    of its length."""

    grid: float | None = None
    """Points are averaged over cells of this side before anything else, in the clouds' unit. Default: 2.5
    times the usual distance between neighbours, rounded."""

    radius: float | None = None
    """Of the vertical cylinders that the network looks at. Default: 30 cells."""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """A demo to run. The default takes a quarter of an hour on two cores."""

    out: Path = Path("demo")
    """Where everything goes: data/, tokenizer/, world/."""

    env: str = "doom:health_gathering"
    """doom:SCENARIO or gym:ENV_ID."""

    episodes: int = 200
    """To record; the last tenth is held out and never trained on."""

    preset: Literal["tiny", "small", "base"] = "small"
    """Of the tokenizer and the world: tiny takes a minute and dreams mud."""
