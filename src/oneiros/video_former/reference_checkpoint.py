"""A Video Former from a checkpoint of the reference, as people have it: within a policy, beside optimisers and configs.

Its sizes are read from its tensors. What they do not tell, how channels are split into heads, stands in the config
that such checkpoints hold (`Former_heads`), or is given by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from oneiros.bounded import BoundedTensors
from oneiros.console import say
from oneiros.video_former.geometry import GeometryVideoFormer
from oneiros.video_former.torch_file import read_torch_file
from oneiros.video_former.video_former import VideoFormer2D, VideoFormer3D

_FIRST = "time_pos_emb"  # of the tensors of every former
_SETTINGS = ("heads", "dim_head", "activation", "input_mask_mode")
_SHOWN = 4
_FOLD, _SLACK = 8, 2**26  # bytes that a former may take while it is built: so many times its weights, and so many more


def load_reference(
    path: str | PathLike[str], *, prefix: str | None = None, config: Mapping[str, Any] | None = None
) -> VideoFormer2D | VideoFormer3D:
    """The Video Former of a checkpoint, in eval mode, and a line on stderr of what was taken and what was left.

    path: what the reference saved: {"model": ..., "args": ...}, a state alone, of DataParallel, of a whole policy; or
        safetensors. Nothing in it is run, and neither OmegaConf nor the reference need be installed.
    prefix: what stands before the former's names, such as "model.module.Video_Former."; needed where there are several.
    config: the reference's arguments, in place of the file's own: `heads` or `dim_head`, `activation`,
        `input_mask_mode`. The tensors do not tell these; without any word of them a warning says what they are taken
        for.
    A former without temporal attention and mask token becomes a `VideoFormer2D`, unless the config's `use_Former` says
    3d: for the same features both compute the same.
    Raises FileNotFoundError, and ValueError in one line for a file that could be read only by running code, that holds
    no former, several, or one whose tensors do not belong together.
    """
    path = Path(path)
    content = read_torch_file(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected tensors by name")
    tensors = {name: value for name, value in _leaves(content) if isinstance(value, Tensor)}
    prefix = _prefix(tensors, path) if prefix is None else prefix
    state = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    said = _said(content) if config is None else dict(config)
    try:
        with BoundedTensors(_SLACK + _FOLD * sum(tensor.nbytes for tensor in state.values())):
            former = _made(state, said)
        told = {"heads": former.heads, "input_mask_mode": former.input_mask_mode}  # by other sizes, and by a token, too
        former.load_reference_weights(state, config=said | told if said else None)
    except KeyError as missing:
        raise ValueError(f"{path}: the former under {prefix!r} lacks {missing.args[0]}") from None
    except ValueError as wrong:
        raise ValueError(f"{path}: {wrong}") from None
    left = sorted(name for name in tensors if not name.startswith(prefix))
    sizes = f"dim {former.dim}, {former.depth} layers, {former.heads} heads of {former.head_dim}"
    frames = f"{former.num_latents} latents over {former.num_frames} frames, features of {former.condition_dim}"
    say(f"{path}: took {len(state)} tensors under {prefix!r} as a {type(former).__name__} ({sizes}, {frames})")
    if left:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        say(f"{path}: left {len(left)} tensors: {', '.join(left[:_SHOWN])}{more}")
    return former.eval()


def _leaves(values: Mapping[Any, Any], under: str = "") -> Iterator[tuple[str, Any]]:
    """What a nest of mappings holds, by names joined with dots."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{under}{name}.")
        else:
            yield f"{under}{name}", value


def _prefix(tensors: Mapping[str, Tensor], path: Path) -> str:
    """What stands before the names of the only former."""
    ends = [name.removesuffix(_FIRST) for name in tensors if re.search(rf"(^|\.){_FIRST}$", name)]
    found = [prefix for prefix in ends if {f"{prefix}latents", f"{prefix}goal_emb.0.weight"} <= tensors.keys()]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{path} holds several formers; choose by prefix= one of {', '.join(map(repr, found))}")
    shown = ", ".join(sorted(tensors)[:_SHOWN]) or "no tensors"
    raise ValueError(f"{path} holds no Video Former: nowhere stand {_FIRST}, latents and goal_emb together ({shown})")


def _said(content: Mapping[Any, Any]) -> dict[str, Any]:
    """What the file's configs say of the former: `Former_heads` and the like wherever they stand, or the arguments of a
    former alone. ValueError where two of them disagree."""
    said: dict[str, Any] = {}
    for name, value in _leaves(content):
        *above, last = name.split(".")
        of_former = last == "use_Former" or last.startswith("Former_")
        alone = last in _SETTINGS and len(above) == 1  # of {"model": ..., "args": {"heads": ...}}
        if isinstance(value, Tensor) or not (of_former or alone):
            continue
        known = last.removeprefix("Former_")
        if said.setdefault(known, value) != value:
            raise ValueError(f"its config says {known} twice, {said[known]} and {value}; give config=")
    return said


def _made(state: Mapping[str, Tensor], said: Mapping[str, Any]) -> VideoFormer2D | VideoFormer3D:
    """A former of the sizes of the tensors. KeyError for one that is missing."""
    layers = {int(match[1]) for name in state if (match := re.match(r"layers\.(\d+)\.", name))}
    if gaps := set(range(len(layers))) - layers:
        raise KeyError(f"layers.{min(gaps)}")
    temporal = "layers.0.1.qkv.weight" in state
    place = 2 if temporal else 1
    hidden, (dim, _) = _shape(state, f"layers.0.{place}.1.weight", 2)[0], _shape(state, "goal_emb.2.weight", 2)
    num_frames, each, _ = _shape(state, "latents", 3)
    inner = _shape(state, "layers.0.0.to_q.weight", 2)[0]
    heads, head_dim = _split(inner, said)
    sizes: dict[str, Any] = {
        "dim": dim,
        "depth": len(layers),
        "condition_dim": _shape(state, "goal_emb.0.weight", 2)[1],
        "head_dim": head_dim,
        "heads": heads,
        "num_latents": num_frames * each,
        "num_frames": num_frames,
        "num_time_embeds": _shape(state, _FIRST, 3)[0],
        "ff_mult": hidden // dim,
        "activation": said.get("activation", "gelu"),
    }
    learnable = "learnable_mask_token" in state
    if not (temporal or learnable or "norm_g.weight" in state or str(said.get("use_Former", "2d")).lower() == "3d"):
        return VideoFormer2D(**sizes)
    sizes["use_temporal"] = temporal
    sizes["input_mask_mode"] = "learnable" if learnable else said.get("input_mask_mode", "zero")
    if "norm_g.weight" in state:
        return GeometryVideoFormer(**sizes, geometry_dim=_shape(state, "vggt_emb.2.weight", 2)[0])
    return VideoFormer3D(**sizes)


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int) -> Sequence[int]:
    """Of a tensor by which a former's sizes are told."""
    shape = state[name].shape
    if len(shape) != dimensions or 0 in shape:
        raise ValueError(f"{name} has shape {tuple(shape)}; {dimensions} numbers of at least 1 are needed")
    return shape


def _split(inner: int, said: Mapping[str, Any]) -> tuple[int, int]:
    """Heads, and channels of each, that make `inner`; by the config, or 8 heads, the reference's default."""
    heads, head_dim = said.get("heads", said.get("num_heads")), said.get("dim_head")
    if heads is None:
        heads = 8 if head_dim is None else inner // head_dim
    if not isinstance(heads, int) or heads < 1 or inner % heads or head_dim not in (None, inner // heads):
        told = f"{heads} heads" + (f" of {head_dim}" if head_dim else "")
        raise ValueError(f"attention is {inner} wide, which {told} do not make; give config={{'heads': ...}}")
    return heads, inner // heads
