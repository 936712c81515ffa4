"""The Video Former that also predicts a teacher's features of geometry.

Legend: B batch, T frames, N features of a frame, Q extra tokens, M = N + Q, D width, L latents of a frame, G width of
geometry.
"""

from __future__ import annotations

from torch import Tensor, nn

from oneiros.nn.attention import check_counts
from oneiros.video_former.layers import SelfAttention, feed_forward, over_time
from oneiros.video_former.video_former import VideoFormer3D


class GeometryVideoFormer(VideoFormer3D):
    """A `VideoFormer3D` whose features first attend to one another, and which also predicts geometry.

    geometry_dim: G, width of the teacher's features that the geometry is aligned with (`alignment_loss`); 2048 is
    VGGT's. Other arguments as in `VideoFormer3D`; use_temporal is about the latents, features look over time always.

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
        num_latents: int = 56,
        num_frames: int = 14,
        num_time_embeds: int | None = None,
        ff_mult: int = 4,
        activation: str = "gelu",
        use_temporal: bool = True,
        input_mask_mode: str = "zero",
        geometry_dim: int = 2048,
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
            use_temporal=use_temporal,
            input_mask_mode=input_mask_mode,
            num_views=num_views,
            features_per_view=features_per_view,
        )
        check_counts({"geometry_dim": geometry_dim})
        self.refine = Refinement(dim=dim, heads=heads, ff_mult=ff_mult, activation=activation)
        self.geometry = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, geometry_dim), nn.GELU(), nn.Linear(geometry_dim, geometry_dim)
        )

    def forward(  # type: ignore[override]
        self,
        features: Tensor,
        *,
        padding_mask: Tensor | None = None,
        extra: Tensor | None = None,
        frame_mask: Tensor | None = None,
        frame_mask_prob: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Arguments of `VideoFormer3D` -> its tokens (B, T L, D), and geometry (B, T, N + Q, G)."""
        x, frame_mask = self._gather(features, padding_mask, extra, frame_mask, frame_mask_prob)
        x = self.refine(x, frame_mask)
        return self._condense(x, frame_mask), self.geometry(x)


class Refinement(nn.Module):
    """Features look at one another within their frame, then over time at their place, and pass a feed-forward."""

    def __init__(self, *, dim: int, heads: int, ff_mult: int, activation: str) -> None:
        super().__init__()
        self.spatial = SelfAttention(dim=dim, heads=heads, qkv_bias=True)
        self.temporal = SelfAttention(dim=dim, heads=heads, qkv_bias=True)
        self.feed_forward = feed_forward(dim=dim, ff_mult=ff_mult, activation=activation)

    def forward(self, x: Tensor, frame_mask: Tensor | None) -> Tensor:
        """x (B, T, M, D), frame_mask (B, T) -> x."""
        x = x + self.spatial(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        x = x + over_time(self.temporal, x, frame_mask)
        return x + self.feed_forward(x)
