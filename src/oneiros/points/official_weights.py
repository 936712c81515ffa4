"""Weights of the released KPConvX networks (repository apple/ml-kpconvx), as a `PointUNet`.

Depths, widths, kernel points and groups are read from the tensors; nothing in a file is executed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from oneiros.points.nn.unet import PRESETS, PointUNet, PointUNetConfig

WRAPPERS = ("model_state_dict", "state_dict")  # of the released training code, and of Pointcept
PREFIXES = ("module.", "backbone.")
LOSS = "criterion."  # class weights of the loss are saved along with the network
OUTER_SHELL = 0.8  # of the radius, of the released kernels
RADIUS_IN_GRIDS = PRESETS["official-L"].radius

# What a tensor of ours is called there. The first pattern that fits a whole name counts.
_BLOCK = {
    r"conv\.gate\.reduce\.weight": "conv.alpha_mlp.0.weight",
    r"conv\.gate\.reduce\.bias": "conv.alpha_mlp.1.norm.bias",
    r"conv\.gate\.expand\.weight": "conv.alpha_mlp.3.weight",
    r"conv\.gate\.gain": "conv.grpnorm.weight",
    r"conv\.gate\.shift": "conv.grpnorm.bias",
    r"conv\.(weights|kernel_points)": r"conv.\1",
    r"conv_norm\.(\w+)": r"conv_norm.norm.batch_norm.\1",
    r"expand\.weight": "up_mlp.0.weight",
    r"expand_norm\.(\w+)": r"up_mlp.1.norm.batch_norm.\1",
    r"contract\.weight": "down_mlp.0.weight",
    r"contract_norm\.(\w+)": r"down_mlp.1.norm.batch_norm.\1",
    r"shortcut\.0\.weight": "mlp_downcut.0.weight",
    r"shortcut\.1\.(\w+)": r"mlp_downcut.1.norm.batch_norm.\1",
}
_UNARY = {
    r"linear\.weight": "mlp.weight",
    r"linear\.bias": "norm.norm.bias",
    r"norm\.(\w+)": r"norm.norm.batch_norm.\1",
}
_STEM = {r"(weights|kernel_points)": r"conv.\1", r"norm\.(\w+)": r"norm.norm.batch_norm.\1"}


def load_official_weights(
    path: str | PathLike[str],
    *,
    grid: float | None = None,
    sigma: float | None = None,
    num_neighbors: tuple[int, ...] | None = None,
) -> PointUNet:
    """The network of a checkpoint (.safetensors, or anything else torch wrote), in evaluation mode.

    The file holds no sizes in metres. grid: metres between the points of the first level; None reads it off the kernel
    points, whose outer shell lies at 0.8 * 2.1 grids. sigma: reach of the first level's kernel points in metres, None
    takes 2.1 grids; the released classifiers were trained with -2.1 (their code took a missing size for -1).
    num_neighbors: of each level; None takes 12, 16, 20, 20, 20.
    Gates are normalised over the whole pack, as the weights were trained.
    Raises OSError for a file that cannot be read; ValueError, naming the tensor, for one that does not fit.
    """
    path = Path(path)
    state = _stripped(_read(path), path)
    try:
        config = _config(state, grid, sigma, num_neighbors)
    except KeyError as missing:
        raise ValueError(f"{path} is no KPConvX network: it lacks {missing.args[0]}") from None
    except ValueError as wrong:
        raise ValueError(f"{path}: {wrong}") from None
    network = PointUNet(config)
    theirs = {ours: official_name(ours) for ours in network.state_dict()}
    if unknown := sorted(state.keys() - theirs.values()):
        raise ValueError(f"{path}: {unknown[0]} and {len(unknown) - 1} more tensors have no place in the network")
    weights = {}
    for ours, expected in network.state_dict().items():
        name = theirs[ours]
        if name not in state and name.endswith("num_batches_tracked"):
            state[name] = expected  # says nothing once the statistics are there
        if name not in state:
            raise ValueError(f"{path}: {name} is missing")
        tensor = state[name].squeeze(1) if ours == "stem.weights" else state[name]
        if tensor.shape != expected.shape:
            raise ValueError(f"{path}: {name} is {tuple(tensor.shape)}; expected {tuple(expected.shape)}")
        weights[ours] = tensor.to(expected.dtype)
    network.load_state_dict(weights)
    return network.eval()


def official_name(name: str) -> str:
    """What the released code calls a tensor of `PointUNet`'s state."""
    if match := re.fullmatch(r"encoder\.(\d+)\.(\d+)\.(.+)", name):
        return f"encoder_{int(match[1]) + 1}.{match[2]}.{_renamed(match[3], _BLOCK)}"
    if match := re.fullmatch(r"decoder\.(\d+)\.unary\.(.+)", name):
        return f"decoder_unary_{int(match[1]) + 1}.{_renamed(match[2], _UNARY)}"
    if match := re.fullmatch(r"decoder\.(\d+)\.blocks\.0\.(.+)", name):
        return f"decoder_layer_{int(match[1]) + 1}.{_renamed(match[2], _BLOCK)}"
    if match := re.fullmatch(r"head\.0\.(.+)", name):
        return f"head.0.{_renamed(match[1], _UNARY)}"
    if match := re.fullmatch(r"stem\.(.+)", name):
        return f"stem.{_renamed(match[1], _STEM)}"
    return name


def _renamed(name: str, table: Mapping[str, str]) -> str:
    for pattern, replacement in table.items():
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    raise AssertionError(f"{name} has no name in the released code")


def _read(path: Path) -> Mapping[str, object]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"{path} cannot be read as tensors alone: {reason[0] if reason else 'it is damaged'}"
        ) from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected tensors by name")
    return content


def _stripped(content: Mapping[str, object], path: Path) -> dict[str, Tensor]:
    """Tensors by their names in the released code, without what wrapped the network or belongs to its loss."""
    state = {}
    for full_name, value in content.items():
        name = str(full_name)
        while name.startswith(PREFIXES):
            name = name.split(".", 1)[1]
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: {full_name} is a {type(value).__name__}; expected a tensor")
        if not name.startswith(LOSS):
            state[name] = value
    return state


def _config(
    state: Mapping[str, Tensor], grid: float | None, sigma: float | None, num_neighbors: tuple[int, ...] | None
) -> PointUNetConfig:
    """KeyError for a tensor that every such network has and this one lacks; ValueError for shapes of another kind."""
    official = PRESETS["official-L"]
    depths = _depths(state)
    convs = [state[f"encoder_{level + 1}.0.conv.weights"] for level in range(len(depths))]
    dims, num_kernel_points = tuple(conv.shape[-1] for conv in convs), convs[0].shape[0]
    stem = state["stem.conv.weights"]
    if stem.ndim != 4 or stem.shape[1] != 1:
        raise ValueError(f"stem.conv.weights is {tuple(stem.shape)}; expected (K, 1, inputs, width), a rigid kernel")
    gated = [f"encoder_{level + 1}.0.conv.alpha_mlp.3.weight" in state for level in range(len(depths))]
    last = state[f"encoder_{len(depths)}.{depths[-1] - 1}.up_mlp.0.weight"]
    expansion = last.shape[0] // last.shape[1]
    widest = state[f"encoder_1.{depths[0] - 1}.up_mlp.0.weight"]
    classifies = "head.2.weight" in state
    radii = [_radius(state[f"encoder_{level + 1}.0.conv.kernel_points"]) for level in range(len(depths))]
    grid = _grid(radii) if grid is None else grid
    shells = (official.shell_radii, official.shell_points)
    if num_kernel_points != sum(official.shell_points):  # only to be replaced by the file's
        shells = ((0.0, OUTER_SHELL), (1, num_kernel_points - 1)) if num_kernel_points > 1 else ((0.0,), (1,))
    return PointUNetConfig(
        in_dim=stem.shape[2],
        num_classes=state["head.2.weight" if classifies else "head.1.weight"].shape[0],
        task="classification" if classifies else "segmentation",
        grid=grid,
        scaling=_scaling(radii),
        dims=dims,
        depths=depths,
        num_neighbors=num_neighbors or official.num_neighbors[: len(depths)],
        shell_radii=shells[0],
        shell_points=shells[1],
        radius=RADIUS_IN_GRIDS,
        sigma=RADIUS_IN_GRIDS if sigma is None else sigma / grid,
        groups=_groups(state),
        gated_from=gated.index(True) if any(gated) else len(depths),
        gated_decoder="decoder_layer_1.conv.alpha_mlp.3.weight" in state,
        gate_norm="pack",
        decoder_depth=int("decoder_layer_1.conv.weights" in state),
        expansion=expansion,
        expand_output=len(depths) > 1 and widest.shape[0] == expansion * dims[1],
    )


def _depths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Blocks of each encoder level, counted."""
    depths: list[int] = []
    while f"encoder_{len(depths) + 1}.0.conv.weights" in state:
        level, depth = len(depths) + 1, 1
        while f"encoder_{level}.{depth}.conv.weights" in state:
            depth += 1
        depths.append(depth)
    if not depths:
        raise KeyError("encoder_1.0.conv.weights")
    return tuple(depths)


def _groups(state: Mapping[str, Tensor]) -> int:
    """Channels that share a gate, of the first block that has gates; any number where none has."""
    for name, weight in state.items():
        if name.endswith("conv.alpha_mlp.3.weight"):
            num_kernel_points, dim = state[name.replace("alpha_mlp.3.weight", "weights")].shape
            return num_kernel_points * dim // weight.shape[0]
    return PRESETS["official-L"].groups


def _grid(radii: list[float]) -> float:
    """Metres between the points of the first level, to three digits."""
    grid = radii[0] / RADIUS_IN_GRIDS
    if not grid > 0:
        raise ValueError("its kernel points all lie at the centre and tell no size; give the grid")
    return round(grid, 2 - math.floor(math.log10(grid)))


def _scaling(radii: list[float]) -> float:
    """How much larger each level's kernel is than the one before; the paper's number where they do not grow evenly."""
    official = PRESETS["official-L"].scaling
    if len(radii) < 2 or not min(radii) > 0:
        return official
    steps = [large / small for small, large in pairwise(radii)]
    return round(steps[0], 2) if steps[0] > 1 and max(steps) < 1.02 * min(steps) else official


def _radius(kernel_points: Tensor) -> float:
    """Of a released kernel, whose points were moved by a thousandth of it: from the mean of its outer shell."""
    norms = kernel_points.double().norm(dim=1)
    return float(norms[norms > 0.75 * norms.max()].mean()) / OUTER_SHELL if norms.max() > 0 else 0.0
