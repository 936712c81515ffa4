"""Settings of `oneiros train policy` and `oneiros train cloning`, and their presets. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import tyro

from oneiros.train.settings import EpisodeSettings, Preset

Former = Literal["none", "2d", "3d", "geometry"]
Goal = Literal["table", "language"]

POLICY_PRESETS = {
    "tiny": Preset(
        model={
            "dim": 64,
            "former_depth": 1,
            "latents_per_frame": 2,
            "heads": 2,
            "encoder_depth": 1,
            "decoder_depth": 2,
        },
        fit={"steps": 200, "batch_size": 16, "learning_rate": 2e-3, "save_every": 100, "picture_every": 100},
    ),
    "small": Preset(
        model={
            "dim": 192,
            "former_depth": 2,
            "latents_per_frame": 4,
            "heads": 6,
            "encoder_depth": 2,
            "decoder_depth": 3,
            "noise_draws": 2,
            "denoising_steps": 5,
        },
        fit={
            "steps": 4000,
            "batch_size": 48,
            "learning_rate": 1e-3,
            "final_lr_fraction": 0.02,
            "weight_decay": 0.05,
            "ema_decay": 0.995,
            "save_every": 500,
            "picture_every": 500,
        },
    ),
    "base": Preset(  # Video Prediction Policy (arXiv 2412.14803, appendix): 224 latents over 16 frames, six layers
        model={
            "dim": 384,
            "former_depth": 6,
            "latents_per_frame": 14,
            "heads": 8,
            "encoder_depth": 4,
            "decoder_depth": 6,
        },
        fit={
            "steps": 100_000,
            "batch_size": 128,
            "learning_rate": 1e-4,
            "weight_decay": 0.05,
            "save_every": 1000,
            "picture_every": 1000,
        },
    ),
}

CLONING_PRESETS = {name: Preset(model={}, fit=POLICY_PRESETS[name].fit) for name in ("tiny", "small", "base")}

_OF_DIFFUSION = ("dim", "heads", "encoder_depth", "decoder_depth", "noise_draws", "denoising_steps")


@dataclass(frozen=True, kw_only=True)
class ActingSettings(EpisodeSettings):
    """What all that learns to act from demonstrations shares."""

    data: tyro.conf.Positional[Path]
    """A LeRobot dataset of demonstrations, such as `oneiros record metaworld:drawer-open-v3 --policy expert` writes."""

    camera: str | None = None
    """The dataset's camera to look through. Default: the world's, or without a world its first."""

    observed_frames: int = 2
    """Frames the policy looks back to, the newest included."""

    action_horizon: int = 10
    """Actions decided together."""

    execute: int = 4
    """Of those, how many are done before the next decision."""

    goal: Goal = "table"
    """What a task is to the policy: `table` learns a vector for each task of the dataset; `language` embeds its
    instruction with a sentence encoder, so that tasks of like instructions share what is learned (needs `pip install
    -e '.[language]'` in the repository). Either way a policy knows the tasks of its dataset, and no others."""

    cache: Path | None = None
    """Where decoded frames, codes and features are kept for the next run. Default: cache/ in the world's run folder,
    or in the run folder itself where there is no world."""


@dataclass(frozen=True, kw_only=True)
class PolicySettings(ActingSettings):
    """Learn to act from demonstrations, on what a frozen world imagines.

    --model.FIELD sets any other field of its config, such as --model.former-depth 3; --help-model lists them all.
    """

    presets: ClassVar = POLICY_PRESETS
    elsewhere: ClassVar = {
        **dict.fromkeys(("action_spec", "tasks", "state_mean", "state_std"), "is the data's"),
        **dict.fromkeys(("intrinsics", "max_depth"), "is the depth camera's"),
        **dict.fromkeys(("grid", "feature_mean", "feature_std"), "is the world's"),
        "geometry_dim": "is the teacher's",
        "goal_dim": "follows from --goal",
        "observed_frames": "is the option --observed-frames",
        "imagined_frames": "is the option --imagined-frames",
        "action_horizon": "is the option --action-horizon",
        "execute": "is the option --execute",
        "former": "is the option --former",
        "layers": "is the option --layers",
        "frame_mask": "is the option --frame-mask",
        "geometry_tokens": "is the option --geometry-tokens",
    }

    world: Path | None = None
    """Run folder of the trained world."""

    former: Former | None = None
    """What condenses the imagined frames: a Video Former over each frame (2d), over space and time (3d), over both and
    aligned with geometry (geometry), or none. Default: 3d, with --alignment geometry."""

    imagined_frames: int = 2
    """Frames to imagine beyond the newest, each the world's stride of rows after the last; 0 reads those seen alone."""

    layers: tuple[int, ...] = ()
    """The world's blocks whose features are used, joined, from 0: 1 3 5 reads three. Default: its output, which is had
    for nothing; others take one more pass over all frames."""

    every: int = 2
    """Learn from every so many rows of an episode: 1 is the most thorough, and takes the most room and time."""

    frame_mask: float = 0.0
    """How often, from 0 to 1, training hides the middle of the frames from the former, and the others the less the
    farther they are from it, so that it relies on no single one. Of --former 3d and geometry."""

    geometry_tokens: int = 0
    """Give the former this many tokens of the depth camera's points; 16 is a good number."""

    alignment: bool = False
    """Align the geometry former with what a point network, first taught to segment, knows of the same pixels."""

    teacher_steps: int = 300
    """Steps that this point network learns to segment."""


@dataclass(frozen=True, kw_only=True)
class CloningSettings(ActingSettings):
    """Learn to act from demonstrations straight from the pixels: the baselines beside a policy that imagines."""

    presets: ClassVar = CLONING_PRESETS

    height: int = 64
    """Of the frames in pixels; recordings are cropped and resized to it."""

    width: int = 64
    """Likewise."""

    depth: bool = False
    """See depth as a fourth channel."""

    frame_stride: int = 4
    """Rows of the dataset between two observed frames."""

    every: int = 1
    """Learn from every so many rows of an episode."""

    augment: bool = False
    """Learn from frames shifted and recoloured by chance."""

    diffusion: bool = False
    """Denoise chunks of actions by the transformer of a policy, on an image encoder that learns along, instead of by a
    regression: the policy without a world."""

    def model_of_preset(self) -> dict[str, Any]:
        """The preset's fields of the model's config: by diffusion, those of its policy."""
        if not self.diffusion:
            return dict(self.presets[self.preset].model)
        policy = POLICY_PRESETS[self.preset].model
        return {name: policy[name] for name in _OF_DIFFUSION if name in policy}
