"""What decides a world's shape and how it learns, as it stands in its run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from oneiros.nn.attention import check_counts
from oneiros.records import ActionSpec
from oneiros.run_folder import from_json
from oneiros.world.nn.actions import KeyShape


@dataclass(frozen=True)
class WorldConfig:
    """A world's shape, and how it learns.

    action_spec: what the player can do; None = the data has no actions. frame_stride: dataset rows per model frame.
    fps: model frames per second of real time. dim: width of the transformer. depth: its blocks. head_dim: channels of
    a head. heads: of every attention; None = dim / head_dim, else heads x head_dim may differ from dim (then dreams on
    a CPU run the plain blocks, not the compiled ones, which takes about twice as long). tokens_per_step: codes drawn
    together; 1 is raster order. window: frames a frame can look back to, itself included. num_meta_tokens: elements in
    front of the sequence that all others see; 0 = none. residual_streams: above 1, hyper-connections.
    action_dropout: how often a whole clip's actions are forgotten in training, which makes guidance possible.
    action_noise: standard deviation of the noise that training adds to standardised continuous actions; a few episodes
    can be told apart by their exact actions, and then are recited.
    corruption: up to this fraction of a clip's context codes are replaced at random, which steadies long dreams.
    target_spread: codes this near one another, in units of the codebook's standard deviation, share their target: the
    likeliest code is a better guess then, and drawn ones are noisier; 0 is plain cross-entropy. motion_weight: how much
    more codes count where something has just moved, see `motion_weights`. learn_first_frame: also learn to dream a
    first frame from nothing.
    carry_detail: what worlds had for a camera that stands still before tokenizers had a `reference_frame`.
    state_weight: of the codes' cross-entropy in the loss. action_weight: of the action head's loss; 0 builds no head.
    reward_values: what a step can pay, ascending: the values that the data knows, or the centres of buckets; empty =
    steps do not pay. end_rate: the share of the data's steps that ended an episode; 0 = dreams never end.
    reward_weight, end_weight: of the losses of these two.
    scale_learning_rate: of the logits' scale, relative to the rest. max_keys: the most keys that a frame may hold
    together. key_depth: layers of the decoder of held keys, which the action head has where actions are keys.
    key_heads, key_head_dim: its heads, and channels of each. key_gated: its feed-forward is gated (SwiGLU).
    joint: train the tokenizer along with the dynamics, by the weights of its own config.
    """

    action_spec: ActionSpec | None = None
    frame_stride: int = 1
    fps: float = 30.0
    dim: int = 256
    depth: int = 6
    head_dim: int = 64
    heads: int | None = None
    tokens_per_step: int = 16
    window: int = 16
    num_meta_tokens: int = 16
    residual_streams: int = 1
    action_dropout: float = 0.5
    action_noise: float = 0.0
    corruption: float = 0.0
    target_spread: float = 0.0
    learn_first_frame: bool = False
    carry_detail: float = 0.0
    state_weight: float = 1.0
    motion_weight: float = 0.0
    action_weight: float = 0.1
    reward_values: tuple[float, ...] = ()
    end_rate: float = 0.0
    reward_weight: float = 0.5
    end_weight: float = 0.5
    scale_learning_rate: float = 10.0
    max_keys: int = 10
    key_depth: int = 2
    key_heads: int = 4
    key_head_dim: int = 64
    key_gated: bool = False
    joint: bool = False

    def __post_init__(self) -> None:
        counts = ("frame_stride", "dim", "head_dim", "tokens_per_step", "max_keys", "key_heads", "key_head_dim")
        check_counts({name: getattr(self, name) for name in counts})
        check_counts({"key_depth": self.key_depth, "heads": 1 if self.heads is None else self.heads}, most=1024)
        check_counts({name: getattr(self, name) for name in ("depth", "window", "residual_streams")}, most=1024)
        if not 0 <= self.num_meta_tokens <= 1024:
            raise ValueError(f"num_meta_tokens is {self.num_meta_tokens}; it must be a whole number from 0 to 1024")
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps}; it must be above 0")
        if any(low >= high for low, high in pairwise(self.reward_values)) or len(self.reward_values) > 1024:
            raise ValueError("reward_values must be ascending, and 1024 at most")
        if not 0 <= self.end_rate < 1:
            raise ValueError(f"end_rate is {self.end_rate}; it must be from 0 to below 1")

    @property
    def pays(self) -> bool:
        """Whether steps are rewarded."""
        return bool(self.reward_values)

    @property
    def ends(self) -> bool:
        """Whether episodes can end by themselves."""
        return self.end_rate > 0

    @property
    def keys(self) -> KeyShape:
        """Of the decoder of held keys."""
        return KeyShape(
            max_keys=self.max_keys,
            depth=self.key_depth,
            heads=self.key_heads,
            head_dim=self.key_head_dim,
            gated=self.key_gated,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> WorldConfig:
        return from_json(cls, values, "the world's config")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "action_spec": self.action_spec.to_json() if self.action_spec else None}
