"""What a policy is made of, and what it must know of the data that it learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from oneiros.nn.attention import check_counts, check_divides
from oneiros.policy.carry import Chunking
from oneiros.policy.settings import Former
from oneiros.records import ActionSpec
from oneiros.run_folder import from_json

FORMERS = get_args(Former)


@dataclass(frozen=True)
class PolicyConfig:
    """action_spec: of the actions that the policy gives, with the statistics that standardise them.
    tasks: instructions, in the order of the batches' goals. state_mean, state_std: of each number of the state; empty
    = no state. grid: rows and columns of a frame's features; None = the world's. feature_mean, feature_std: of each of
    their channels.

    observed_frames, imagined_frames: of the world, at its stride. layers: of the world, whose hidden states are read,
    joined; none is the last. former: what condenses them: 2d, 3d or geometry (see `nn.video_former`), or none, where
    features, averaged to at most 16 a frame, are read as they are. dim: width of all tokens. former_depth: layers
    of the former. latents_per_frame: tokens that a former makes of a frame. heads: of every attention. encoder_depth,
    decoder_depth: layers of what joins the tokens, and of what denoises actions. denoising_steps: of a decision.
    action_horizon: actions of a chunk. execute: how many are done before the next chunk is planned.
    goal_dropout: how often training forgets the goal. goal_dim: width of the goals' embeddings (see `set_goals`); 0 = a
    learned table. noise_draws: noisy chunks that a training step makes of each sample: the decoder alone runs for each,
    and the gradient is steadier. feature_noise, state_noise: std of noise that training adds to standardised
    features and states. frame_mask: how often training hides a clip's middle frame, and others the less the farther
    they are from it, from a former over time (3d or geometry); see `oneiros.video_former.frame_masks`.
    geometry_tokens: tokens made of the depth image, 0 for none; intrinsics: its fx, fy, cx, cy in pixels; max_depth: in
    metres, from where depth counts as missing; num_points: pixels looked at. geometry_dim: width of the teacher's
    features. alignment_weight: of their loss, for former geometry.
    """

    action_spec: ActionSpec
    tasks: tuple[str, ...] = ()
    state_mean: tuple[float, ...] = ()
    state_std: tuple[float, ...] = ()
    grid: tuple[int, int] | None = None
    feature_mean: tuple[float, ...] = ()
    feature_std: tuple[float, ...] = ()
    observed_frames: int = 2
    imagined_frames: int = 2
    layers: tuple[int, ...] = ()
    former: Former = "3d"
    dim: int = 256
    former_depth: int = 3
    latents_per_frame: int = 8
    heads: int = 8
    encoder_depth: int = 2
    decoder_depth: int = 4
    action_horizon: int = 10
    execute: int = 4
    denoising_steps: int = 10
    goal_dropout: float = 0.1
    goal_dim: int = 0
    noise_draws: int = 4
    feature_noise: float = 0.0
    state_noise: float = 0.0
    frame_mask: float = 0.0
    geometry_tokens: int = 0
    intrinsics: tuple[float, ...] = ()
    max_depth: float = 10.0
    num_points: int = 1024
    geometry_dim: int = 0
    alignment_weight: float = 0.5

    def __post_init__(self) -> None:
        counts = ("dim", "latents_per_frame", "heads", "observed_frames", "action_horizon", "execute", "noise_draws")
        check_counts({name: getattr(self, name) for name in (*counts, "num_points")})
        depths = ("former_depth", "encoder_depth", "decoder_depth", "denoising_steps")
        check_counts({name: getattr(self, name) for name in depths}, most=1024)
        check_divides("heads", self.heads, "dim", self.dim)
        check_statistics("state", self.state_mean, self.state_std)
        check_statistics("feature", self.feature_mean, self.feature_std)
        if not self.feature_mean:
            raise ValueError("feature_mean is empty; a policy needs the statistics of its world's features")
        if self.execute > self.action_horizon:
            raise ValueError(f"execute is {self.execute}; a chunk has only action_horizon, {self.action_horizon}")
        if self.former not in FORMERS:
            raise ValueError(f"former is {self.former!r}; choose {', '.join(FORMERS)}")
        if self.former == "geometry" and self.geometry_dim < 1:
            raise ValueError("former geometry needs geometry_dim, the width of the teacher's features")
        if self.geometry_tokens and len(self.intrinsics) != 4:
            raise ValueError("geometry_tokens need intrinsics: fx, fy, cx, cy of the depth image, in pixels")
        if not 0 <= self.goal_dropout <= 1:
            raise ValueError(f"goal_dropout is {self.goal_dropout}; it must lie in [0, 1]")
        if not 0 <= self.frame_mask <= 1:
            raise ValueError(f"frame_mask is {self.frame_mask}; it must lie in [0, 1]")
        if self.frame_mask and self.former not in ("3d", "geometry"):
            raise ValueError(f"frame_mask hides frames from a former over time, 3d or geometry; this is {self.former}")
        if min(self.imagined_frames, self.goal_dim, self.geometry_tokens) < 0:
            raise ValueError("imagined_frames, goal_dim and geometry_tokens must be 0 or more")

    @property
    def num_frames(self) -> int:
        return self.observed_frames + self.imagined_frames

    @property
    def state_dim(self) -> int:
        return len(self.state_mean)

    def chunking(self, frame_stride: int) -> Chunking:
        return Chunking(self.observed_frames, frame_stride, self.execute)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PolicyConfig:
        """Raises ValueError for unknown fields and wrong types. Older runs name one layer, or None."""
        layer = values.get("layer")
        values = {name: value for name, value in values.items() if name != "layer"}
        return from_json(cls, values if layer is None else {**values, "layers": [layer]}, "the policy's config")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "action_spec": self.action_spec.to_json()}


def check_statistics(name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """ValueError unless there is a standard deviation for each mean."""
    if len(mean) != len(std):
        raise ValueError(f"{name}_mean has {len(mean)} values and {name}_std {len(std)}; both need one for each number")
