"""Settings of `oneiros train tokenizer` and `oneiros train world`, and their presets. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from oneiros.train.settings import EpisodeSettings, Preset

TOKENIZER_PRESETS = {
    "tiny": Preset(
        model={
            "codebook_size": 64,
            "code_dim": 8,
            "codec_width": 16,
            "codec_depth": 1,
            "linear_path": True,
            "rotation_trick": False,
        },
        fit={"steps": 120, "batch_size": 16, "learning_rate": 2e-3, "save_every": 60, "picture_every": 60},
    ),
    "small": Preset(
        model={
            "codebook_size": 1024,
            "codebook_levels": 2,
            "code_dim": 32,
            "codec_width": 64,
            "codec_depth": 2,
            "linear_path": True,
            "rotation_trick": False,
        },
        fit={
            "steps": 1300,
            "batch_size": 24,
            "learning_rate": 1.5e-3,
            "final_lr_fraction": 0.05,
            "ema_decay": 0.99,
            "save_every": 500,
            "picture_every": 500,
        },
    ),
    "base": Preset(
        model={
            "codebook_size": 1024,
            "codebook_levels": 3,
            "code_dim": 64,
            "codec_width": 128,
            "codec_depth": 3,
            "linear_path": True,
            "rotation_trick": False,
        },
        fit={"steps": 50_000, "batch_size": 128, "learning_rate": 5e-4, "save_every": 1000, "picture_every": 1000},
    ),
}

# The last part of a tokenizer's training, after its codes are settled.
DECODER_PRESETS = {
    size: Preset(
        model={},
        fit={
            "steps": steps,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "final_lr_fraction": 0.1,
            "weight_decay": 0.0,
            "betas": (0.5, 0.95),
            "clip_norm": 0.0,
            "ema_decay": 0.98,
            "save_every": save_every,
            "picture_every": save_every,
        },
    )
    for size, steps, save_every in (("tiny", 20, 20), ("small", 600, 200), ("base", 20_000, 1000))
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


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings(EpisodeSettings):
    """Learn to turn frames into a few codes each, and back. The world model then dreams in those codes.

    --model.FIELD sets any other field of its config, such as --model.codebook-size 256; --help-model lists them all.
    """

    presets: ClassVar = TOKENIZER_PRESETS
    elsewhere: ClassVar = {
        "height": "is the option --height",
        "width": "is the option --width",
        "channels": "follows from --depth",
        "reference_frame": "is the option --reference-frame",
        "external_codec": "follows from --codec",
        "codec_name": "follows from --codec",
    }

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

    codec: str | None = None
    """A codec of your own, module:factory, found on Python's path or in this folder: factory() makes the module whose
    encode and decode are used (see oneiros.world.nn.codec). It is named again wherever the run is used: a run folder
    imports nothing by itself."""

    reference_frame: bool = False
    """For a camera that stands still, such as a robot's: show the decoder an earlier frame as well (in a dream, the
    last real one), so that codes need only say what has changed."""

    cache: Path | None = None
    """Where decoded frames and codes are kept for the next run. Default: cache/ in the tokenizer's run folder."""

    augment: bool = False
    """Learn from frames shifted and recoloured by chance as well: for a few dozen episodes or fewer."""

    sharpen_steps: int | None = None
    """Steps of the last part, in which the decoder learns to draw sharp (see train decoder); 0 leaves it out. Default:
    the preset's."""


@dataclass(frozen=True, kw_only=True)
class DecoderSettings(EpisodeSettings):
    """Make the decoder of a finished tokenizer or world draw sharp. Its codes stay, and what it dreams."""

    presets: ClassVar = DECODER_PRESETS

    run: tyro.conf.Positional[Path]
    """The run folder of the tokenizer or world. It stays as it is: --out becomes the same run with another decoder."""

    data: tyro.conf.Positional[Path]
    """The dataset to learn from, best the one that the run learned from."""

    camera: str | None = None
    """The dataset's camera to learn from. Default: the run's."""

    cache: Path | None = None
    """Where decoded frames are kept for the next run. Default: cache/ in the run folder of the tokenizer or world."""


@dataclass(frozen=True, kw_only=True)
class WorldSettings(EpisodeSettings):
    """Learn what happens next: from the codes of past frames and an action to the codes of the next frame. Where the
    data holds rewards and ends, also what a step pays and whether it ends the episode.

    --model.FIELD sets any other field of its config, such as --model.depth 8; --help-model lists them all.
    """

    presets: ClassVar = WORLD_PRESETS
    elsewhere: ClassVar = {
        "action_spec": "is the data's",
        "fps": "is the data's",
        "frame_stride": "is the option --frame-stride",
        "window": "is the option --context",
        "tokens_per_step": "is the option --tokens-per-step",
        "action_noise": "is the option --action-noise",
        "motion_weight": "is the option --motion-weight",
        "joint": "is the option --joint",
        "reward_values": "is the data's",
        "end_rate": "is the data's",
    }

    data: tyro.conf.Positional[Path | None] = None
    """The dataset to learn from. Not needed with --codes."""

    further: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Further datasets to learn from along with it, of the same camera, rate and actions. Where they have none, as
    films do, or not all are known (`oneiros record --without-actions`), the world learns what usually comes next. The
    first says how actions are spread, and is the one that pictures and starts are taken from."""

    tokenizer: Path | None = None
    """Run folder of the trained tokenizer. Not needed with --codes."""

    codec: str | None = None
    """The codec of the tokenizer, where it has one of your own: module:factory."""

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

    motion_weight: float = 0.0
    """Count codes more where something has just moved, in proportion to how much: 2 for a camera that stands still,
    where most of a frame stays as it is."""

    action_noise: float = 0.0
    """Noise on continuous actions in training, in their standard deviations: 0.3 for a few dozen episodes or fewer."""

    recent: float = 0.0
    """This share of the clips comes from the episodes from --recent-from on: of a dataset that grows, what it met
    last."""

    recent_from: int = 0
    """The number of the first of the recent episodes."""

    joint: bool = False
    """Train the tokenizer along with the world, from frames instead of codes."""
