"""The Video Former: condenses the features of every frame of a clip into a few tokens.

Latents, a group for each frame, read the features of their frame and then look at one another over time, layer by
layer. After Video Prediction Policy (arXiv 2412.14803, repository roboterax/video-prediction-policy, MIT), whose
trained weights load. Unlike there: clips may be shorter than `num_frames`, temporal attention is on by default, frames
that are masked are masked in the geometry variant too, and the language argument, which did nothing, is gone.

Legend: B batch, T frames, N features of a frame, C their width, Q extra tokens, M = N + Q, D width, L latents of a
frame.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from oneiros.nn.attention import check_counts, check_divides
from oneiros.video_former.frame_masks import MODES, check_frame_mask, draw_frame_mask, hide_frames
from oneiros.video_former.layers import ACTIVATIONS, PerceiverAttention, SelfAttention, feed_forward, over_time
from oneiros.video_former.reference_weights import take_over

# What a tensor of ours is called in the reference's state. The first pattern that fits a name's beginning counts.
_NAMES = {
    r"time_embedding$": "time_pos_emb",
    r"mask_token$": "learnable_mask_token",
    r"project\.": "goal_emb.",
    r"layers\.(\d+)\.read\.": r"layers.\1.0.",
    r"layers\.(\d+)\.temporal\.": r"layers.\1.1.",
    r"refine\.spatial\.": "spatial_attn.",
    r"refine\.temporal\.": "temporal_attn.",
    r"refine\.feed_forward\.": "feature_ffw.",
    r"geometry\.0\.": "norm_g.",
    r"geometry\.1\.": "vggt_emb.0.",
    r"geometry\.3\.": "vggt_emb.2.",
}


class _Former(nn.Module):
    """What the variants share; the options are those of `VideoFormer3D`."""

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        condition_dim: int = 1280,
        head_dim: int = 64,
        heads: int = 8,
        num_latents: int = 56,
        num_frames: int = 14,
        num_time_embeds: int | None = None,
        ff_mult: int = 4,
        activation: str = "gelu",
        use_temporal: bool = True,
        input_mask_mode: str = "zero",
        num_views: int = 1,
        features_per_view: int | None = None,
    ) -> None:
        super().__init__()
        num_time_embeds = num_frames if num_time_embeds is None else num_time_embeds
        counts = {"dim": dim, "depth": depth, "condition_dim": condition_dim, "head_dim": head_dim, "heads": heads}
        counts |= {"num_latents": num_latents, "num_frames": num_frames, "num_time_embeds": num_time_embeds}
        counts |= {"ff_mult": ff_mult, "num_views": num_views}
        check_counts(counts if features_per_view is None else counts | {"features_per_view": features_per_view})
        check_divides("heads", heads, "dim", dim)
        check_divides("num_frames", num_frames, "num_latents", num_latents)
        if 1 != num_time_embeds < num_frames:
            raise ValueError(
                f"num_time_embeds is {num_time_embeds} for {num_frames} frames; 1, shared by all, or at least "
                f"{num_frames} would do"
            )
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("input_mask_mode", input_mask_mode, MODES)
        self.dim, self.depth, self.condition_dim = dim, depth, condition_dim
        self.head_dim, self.heads = head_dim, heads
        self.num_latents, self.num_frames, self.num_time_embeds = num_latents, num_frames, num_time_embeds
        self.ff_mult, self.activation, self.use_temporal = ff_mult, activation, use_temporal
        self.num_views, self.features_per_view, self.input_mask_mode = num_views, features_per_view, input_mask_mode
        self._settings = {"heads": heads, "activation": activation, "input_mask_mode": input_mask_mode}
        self.project = nn.Sequential(nn.Linear(condition_dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.time_embedding = nn.Parameter(torch.randn(num_time_embeds, 1, dim))
        # zeros: until they are trained, weights of the reference mean what they mean there
        self.view_embedding = nn.Parameter(torch.zeros(num_views, 1, dim)) if num_views > 1 else None
        self.spatial_embedding = nn.Parameter(torch.zeros(features_per_view, dim)) if features_per_view else None
        self.latents = nn.Parameter(torch.randn(num_frames, num_latents // num_frames, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, dim)) if input_mask_mode == "learnable" else None
        self.layers = nn.ModuleList(
            Layer(dim, head_dim, heads, ff_mult, activation, use_temporal) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    @property
    def num_queries(self) -> int:
        """The reference's name for `num_latents`."""
        return self.num_latents

    @property
    def num_frame(self) -> int:
        """The reference's name for `num_frames`."""
        return self.num_frames

    def _gather(
        self,
        features: Tensor,
        padding_mask: Tensor | None,
        extra: Tensor | None = None,
        frame_mask: Tensor | None = None,
        frame_mask_prob: float = 0.0,
    ) -> tuple[Tensor, Tensor | None]:
        """What the latents read (B, T, M, D), and the frames they keep."""
        x = self._project(features)
        if not 0 <= frame_mask_prob <= 1:
            raise ValueError(f"frame_mask_prob is {frame_mask_prob}; it must lie in [0, 1]")
        if frame_mask is not None:
            check_frames("frame_mask", frame_mask, x)
            check_frame_mask(frame_mask)
        elif self.training and frame_mask_prob > 0:
            frame_mask = draw_frame_mask(*x.shape[:2], probability=frame_mask_prob, device=x.device)
        if frame_mask is not None:
            x = hide_frames(x, frame_mask, mode=self.input_mask_mode, token=self.mask_token)
        x = self._place(x)
        if extra is not None:
            if extra.ndim != 3 or len(extra) != len(x) or extra.shape[-1] != self.dim:
                raise ValueError(f"extra has shape {tuple(extra.shape)}; ({len(x)}, tokens, {self.dim}) is needed")
            x = torch.cat([x, extra[:, None].expand(-1, x.shape[1], -1, -1)], 2)
        return self._time(x, padding_mask), frame_mask

    def _project(self, features: Tensor) -> Tensor:
        """(B, T, N, C) -> (B, T, N, D)."""
        self._check(features)
        return self.project(features.to(self.latents.dtype))

    def _place(self, x: Tensor) -> Tensor:
        """Say of every feature (B, T, N, D) which camera and which part of its picture it comes from."""
        if self.view_embedding is None and self.spatial_embedding is None:
            return x
        x = x.unflatten(2, (self.num_views, -1))
        for embedding in (self.view_embedding, self.spatial_embedding):
            x = x if embedding is None else x + embedding
        return x.flatten(2, 3)

    def _time(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Say of every feature (B, T, M, D) which frame it comes from, but nothing of padding."""
        embedding = self.time_embedding[: x.shape[1]]
        if padding_mask is not None:
            check_frames("padding_mask", padding_mask, x)
            embedding = embedding * padding_mask[..., None, None].to(embedding.dtype)
        return x + embedding

    def _condense(self, x: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Features (B, T, M, D) -> tokens (B, T L, D)."""
        batch, num_frames = x.shape[:2]
        features = x.flatten(0, 1)
        latents = self.latents[:num_frames].expand(batch, -1, -1, -1)
        for layer in self.layers:
            latents = layer(features, latents, frame_mask)
        return self.norm(latents.flatten(1, 2))

    def _check(self, features: Tensor) -> None:
        if features.ndim != 4 or features.shape[-1] != self.condition_dim or not features.is_floating_point():
            raise ValueError(
                f"features are {features.dtype} {tuple(features.shape)}; floating (B, T, N, {self.condition_dim}) is "
                "needed"
            )
        num_frames, count = features.shape[1:3]
        if not 1 <= num_frames <= self.num_frames:
            raise ValueError(f"features have {num_frames} frames; this former takes 1 to {self.num_frames}")
        per_view = self.features_per_view
        if per_view is not None and count != self.num_views * per_view:
            raise ValueError(
                f"a frame has {count} features; {self.num_views} views of {per_view} are {self.num_views * per_view}"
            )
        if count % self.num_views:
            raise ValueError(f"a frame has {count} features, which {self.num_views} views cannot share evenly")

    def load_reference_weights(
        self, tensors: Mapping[str, Any], *, prefix: str = "", config: Mapping[str, Any] | None = None
    ) -> None:
        """Take over trained weights under the names of the reference's state, nothing changed where any does not fit.

        prefix: what stands before the names in a checkpoint of a whole policy, `Video_Former.` in the reference's;
        everything else in it is ignored. The reference has no view and spatial embeddings: they stay as they are.
        config: what the weights were made with, the reference's arguments, which checkpoints hold beside them. The
        tensors tell neither the heads nor the activation: without a config a warning says what they are taken for.
        Raises ValueError that names what is missing, unknown, of another shape, or made with another setting.
        """
        take_over(
            self,
            tensors,
            settings=self._settings,
            config=config,
            prefix=prefix,
            name_of=self._reference_name,
            optional=("view_embedding", "spatial_embedding"),
        )

    def reference_weights(self) -> dict[str, Tensor]:
        """All weights under the names that they have in the reference's state: `load_reference_weights` the other way.
        View and spatial embeddings, which the reference does not know, keep our names."""
        return {self._reference_name(name): tensor for name, tensor in self.state_dict().items()}

    def _reference_name(self, name: str) -> str:
        if match := re.match(r"layers\.(\d+)\.feed_forward\.", name):
            place = 2 if self.layers[0].temporal is not None else 1
            return f"layers.{match[1]}.{place}.{name[match.end() :]}"
        for pattern, theirs in _NAMES.items():
            if re.match(pattern, name):
                return re.sub(pattern, theirs, name, count=1)
        return name


class VideoFormer2D(_Former):
    """Condenses each frame by itself.

    dim: D. depth: layers. condition_dim: C. head_dim, heads: of the latents' reading; heads also divides dim.
    num_latents: tokens of a whole clip, the same number for each of its `num_frames`, at most, frames.
    num_time_embeds: 1 (shared by all frames) or at least num_frames; None is num_frames. ff_mult: hidden width of the
        feed-forward over D. activation: its, gelu, relu or sqrelu (relu squared).
    num_views: cameras whose features stand one after the other in a frame; above 1 each has a learned embedding.
    features_per_view: how many each camera has; given, each place has a learned embedding. Both start at zero.

    Raises ValueError for options that do not fit, naming them and what would do.
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        condition_dim: int = 1280,
        head_dim: int = 64,
        heads: int = 8,
        num_latents: int = 64,
        num_frames: int = 16,
        num_time_embeds: int | None = None,
        ff_mult: int = 4,
        activation: str = "gelu",
        num_views: int = 1,
        features_per_view: int | None = None,
    ) -> None:
        super().__init__(
            dim=dim,
            depth=depth,
            condition_dim=condition_dim,
            head_dim=head_dim,
            heads=heads,
            num_latents=num_latents,
            num_frames=num_frames,
            num_time_embeds=num_time_embeds,
            ff_mult=ff_mult,
            activation=activation,
            use_temporal=False,
            num_views=num_views,
            features_per_view=features_per_view,
        )
        del self._settings["input_mask_mode"]  # it masks nothing

    def forward(self, features: Tensor, *, padding_mask: Tensor | None = None) -> Tensor:
        """features (B, T, N, C), T at most num_frames -> tokens (B, T L, D).

        padding_mask: (B, T), True for real frames; the others get no time embedding, and nothing else happens to them
        (as in the reference, so that its weights mean the same). Raises ValueError for shapes that do not match.
        """
        return self._condense(*self._gather(features, padding_mask))


class VideoFormer3D(_Former):
    """Condenses frames, whose latents then look at one another over time.

    use_temporal: whether they do. input_mask_mode: what a dropped frame's features become: zeros ("zero"), standard
    normal noise ("gaussian"), one learned token ("learnable"), or what they were ("none"). Other arguments as in
    `VideoFormer2D`.

    Raises ValueError for options that do not fit, naming them and what would do.
    """

    def forward(
        self,
        features: Tensor,
        *,
        padding_mask: Tensor | None = None,
        extra: Tensor | None = None,
        frame_mask: Tensor | None = None,
        frame_mask_prob: float = 0.0,
    ) -> Tensor:
        """features (B, T, N, C), T at most num_frames -> tokens (B, T L, D).

        padding_mask: (B, T), True for real frames; the others get no time embedding, and nothing else happens to them
            (as in the reference, so that its weights mean the same). What drops frames is frame_mask.
        extra: (B, Q, D), tokens that every frame's latents read beside its features.
        frame_mask: bool (B, T), True = keep, at least one of each sample; also over time, nothing attends to what was
            dropped.
        frame_mask_prob: in training, without a frame_mask, draws one; see `draw_frame_mask`.
        Raises ValueError for shapes that do not match and masks that keep nothing.
        """
        return self._condense(*self._gather(features, padding_mask, extra, frame_mask, frame_mask_prob))


class Layer(nn.Module):
    """Latents read their frame, look at one another over time, and pass a feed-forward."""

    def __init__(self, dim: int, head_dim: int, heads: int, ff_mult: int, activation: str, use_temporal: bool) -> None:
        super().__init__()
        self.read = PerceiverAttention(dim=dim, head_dim=head_dim, heads=heads)
        self.temporal = SelfAttention(dim=dim, heads=heads, qkv_bias=True) if use_temporal else None
        self.feed_forward = feed_forward(dim=dim, ff_mult=ff_mult, activation=activation)

    def forward(self, features: Tensor, latents: Tensor, frame_mask: Tensor | None) -> Tensor:
        """features (B T, M, D), latents (B, T, L, D), frame_mask (B, T) -> latents."""
        frames = latents.shape[:2]
        latents = latents + self.read(features, latents.flatten(0, 1)).unflatten(0, frames)
        if self.temporal is not None:
            latents = latents + over_time(self.temporal, latents, frame_mask)
        return latents + self.feed_forward(latents)


def check_choice(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; one of {', '.join(choices)} would do")


def check_frames(name: str, mask: Tensor, x: Tensor) -> None:
    if mask.shape != x.shape[:2]:
        raise ValueError(f"{name} has shape {tuple(mask.shape)}; {tuple(x.shape[:2])}, batch and frames, is needed")
