"""The Video Former written a second time, from the spec: one sample, one frame, one head at a time, in float64.

Weights go by the reference's names: T frames, N features of a frame, D width, L latents of a frame.
"""

import math

import torch
from torch import Tensor


def layer_norm(x: Tensor, w: dict, name: str) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: Tensor, w: dict, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(()))


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """One head: (queries, d), (keys, d), (keys, d); seen: bool (keys,) or (queries, keys)."""
    scores = query @ key.T / math.sqrt(query.shape[-1])
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    return torch.softmax(scores, -1) @ value


def by_head(q: Tensor, k: Tensor, v: Tensor, heads: int, seen: Tensor | None = None) -> Tensor:
    return torch.cat(
        [
            attend(*parts, seen)
            for parts in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True)
        ],
        -1,
    )


def perceiver(features: Tensor, latents: Tensor, w: dict, name: str, heads: int) -> Tensor:
    latents = layer_norm(latents, w, f"{name}norm_latents")
    seen = torch.cat([layer_norm(features, w, f"{name}norm_media"), latents])
    q, k, v = linear(latents, w, f"{name}to_q"), linear(seen, w, f"{name}to_k"), linear(seen, w, f"{name}to_v")
    return linear(by_head(q, k, v, heads), w, f"{name}to_out")


def self_attention(x: Tensor, w: dict, name: str, heads: int, seen: Tensor | None = None) -> Tensor:
    q, k, v = linear(x, w, f"{name}qkv").chunk(3, -1)
    return linear(by_head(q, k, v, heads, seen), w, f"{name}proj")


def feed_forward(x: Tensor, w: dict, name: str, activation: str) -> Tensor:
    act = {"gelu": gelu, "relu": lambda z: z.clamp_min(0), "sqrelu": lambda z: z.clamp_min(0) ** 2}[activation]
    return linear(act(linear(layer_norm(x, w, f"{name}0"), w, f"{name}1")), w, f"{name}3")


def condense(
    features: Tensor,
    w: dict,
    *,
    heads: int,
    depth: int,
    activation: str = "gelu",
    padding: list[bool] | None = None,
    extra: Tensor | None = None,
    kept: list[bool] | None = None,
    mode: str = "zero",
) -> tuple[Tensor, Tensor | None]:
    """One sample (T, N, C) -> tokens (T L, D), and geometry (T, N + Q, G) where the weights tell it."""
    num_frames = len(features)
    seen = None if kept is None else torch.tensor(kept)
    frames = []
    for t in range(num_frames):
        x = linear(gelu(linear(features[t], w, "goal_emb.0")), w, "goal_emb.2")
        if kept is not None and not kept[t] and mode != "none":
            x = torch.zeros_like(x) + (w["learnable_mask_token"][0, 0] if mode == "learnable" else 0)
        x = x if extra is None else torch.cat([x, extra])
        time = w["time_pos_emb"]
        if padding is None or padding[t]:
            x = x + time[t if len(time) > 1 else 0]
        frames.append(x)
    geometry = None
    if "norm_g.weight" in w:
        frames = [x + self_attention(x, w, "spatial_attn.", heads) for x in frames]
        x = torch.stack(frames)
        moved = [self_attention(x[:, i], w, "temporal_attn.", heads, seen) for i in range(x.shape[1])]
        x = x + torch.stack(moved, 1)
        frames = [y + feed_forward(y, w, "feature_ffw.", activation) for y in x]
        geometry = torch.stack(
            [linear(gelu(linear(layer_norm(y, w, "norm_g"), w, "vggt_emb.0")), w, "vggt_emb.2") for y in frames]
        )
    latents = [w["latents"][t] for t in range(num_frames)]
    temporal = "layers.0.1.qkv.weight" in w
    for i in range(depth):
        latents = [z + perceiver(x, z, w, f"layers.{i}.0.", heads) for x, z in zip(frames, latents, strict=True)]
        if temporal:
            z = torch.stack(latents)
            moved = [self_attention(z[:, j], w, f"layers.{i}.1.", heads, seen) for j in range(z.shape[1])]
            latents = list(z + torch.stack(moved, 1))
        latents = [z + feed_forward(z, w, f"layers.{i}.{2 if temporal else 1}.", activation) for z in latents]
    return layer_norm(torch.cat(latents), w, "norm"), geometry
