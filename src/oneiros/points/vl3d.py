"""The weights of VL3D's KPConvX, a Keras layer, in ours.

In Keras, `np.savez("layer.npz", **{v.path: v.numpy() for v in layer.weights})` writes them (Keras 2: `v.name`), and
`json.dump(layer.get_config(), file)` the configuration; neither file needs Keras to be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from oneiros.json_file import read_json
from oneiros.points.nn import keras_config
from oneiros.points.nn.kpconvx import KPConvX
from oneiros.points.nn.kpconvx_block import BATCH_NORMS, BLOCK_TENSORS

_STATISTICS = {"gamma": "gamma", "beta": "beta", "moving_mean": "mean", "moving_variance": "var"}
_STATISTICS |= {"mean": "mean", "var": "var", "variance": "var"}
_BN = "batch_normalization"  # what Keras calls those that nobody named


def from_vl3d(
    config: Mapping[str, Any] | str | PathLike[str], weights: Mapping[str, Any] | str | PathLike[str]
) -> KPConvX:
    """A layer with the configuration and the weights of a Keras layer, in eval mode.

    config: what its `get_config()` gives, or a JSON file of it. weights: arrays by their variables' names, or an .npz
        file of them. A name ends in the tensor (W, Phi, ..., bn_phi/gamma, bn_phi/moving_mean, ...), with the block's
        number anywhere in it where there are several, or W is stacked (blocks, ...); what stands before is the layer's
        name. Batch norms that Keras named itself are taken in their order: phi, htilde, hhat of each block.
    Raises ValueError for what is missing, unknown or of another shape, OSError for files that are not there.
    """
    given = config if isinstance(config, Mapping) else read_json(Path(config))
    tensors = dict(weights) if isinstance(weights, Mapping) else _read(Path(weights))
    if not tensors:
        raise ValueError("there are no weights")
    if not {"dim_in", "build_config", "channels"} & given.keys():
        given = {**given, "dim_in": _width(tensors)}
    options = keras_config.options(given)
    layer = KPConvX(**options)
    layer.load_reference_weights(_reference(tensors, len(layer.blocks), given_q=layer.Q.numpy(force=True)))
    return layer.eval()


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError:
        raise
    except Exception as error:  # whatever a damaged archive makes zipfile and numpy stumble over
        raise ValueError(f"{path}: cannot be read as npz ({error})") from error


def _width(tensors: Mapping[str, Any]) -> int:
    widths = {np.shape(value)[-1] for name, value in tensors.items() if _words(name)[-1:] == ["W"]}
    if len(widths) != 1:
        raise ValueError(f"the weights' names end in no W, from which the width is read: {', '.join(tensors)[:200]}")
    return int(widths.pop())


def _words(name: str) -> list[str]:
    """A variable's name in words, without the layer's own and without Keras's `:0`. Numbers that hang on a tensor's
    name stand alone: `kp_conv_x_1/W_0:0` -> kp_conv_x_1, 0, W."""
    words: list[str] = []
    for word in re.split(r"[/.]", name.removesuffix(":0")):
        stem, number = re.fullmatch(r"(.*?)_?(\d*)", word).groups()  # type: ignore[union-attr]
        own = stem in (*BLOCK_TENSORS, *BATCH_NORMS, *_STATISTICS, "Q", "block", "blocks", "")
        words += ([number] if number else []) + ([stem] if stem else []) if own else [word]
    return words


def _reference(tensors: Mapping[str, Any], blocks: int, *, given_q: np.ndarray) -> dict[str, np.ndarray]:
    """By the names of `KPConvX.load_reference_weights`. Kernel points that are not learned may be left out."""
    named = _with_norms_named(tensors, blocks)
    found: dict[str, np.ndarray] = {}
    for name, value in named.items():
        words, array = _words(name), np.asarray(value)
        tail = words[-1]
        if tail == "Q":
            found["Q"] = array
            continue
        numbers = [int(word) for word in words[:-1] if word.isdigit()]
        norm = next((word for word in words if word in BATCH_NORMS), None)
        if norm and tail in _STATISTICS:
            place = f"{norm}.{_STATISTICS[tail]}"
        elif tail in BLOCK_TENSORS:
            place = tail
        else:
            raise ValueError(f"{name} is no variable of the layer that is known here")
        stacked = not numbers and blocks > 1
        if stacked and (not array.ndim or len(array) != blocks):
            raise ValueError(f"{name} tells no block, and has shape {array.shape}; there are {blocks} blocks")
        parts = enumerate(array) if stacked else [(numbers[-1] if numbers else 0, array)]
        for block, part in parts:
            if (key := f"blocks.{block}.{place}") in found:
                raise ValueError(f"{name} is block {block}'s {place}, which is there already under another name")
            found[key] = part
    return {"Q": given_q} | found


def _with_norms_named(tensors: Mapping[str, Any], blocks: int) -> dict[str, Any]:
    """Batch norms that Keras named itself get the names of the blocks' in their order."""
    own = sorted({match[0] for name in tensors if (match := re.search(rf"{_BN}(_\d+)?", name))}, key=_number)
    if not own:
        return dict(tensors)
    if len(own) != 3 * blocks:
        raise ValueError(f"there are {len(own)} batch norms for {blocks} blocks, which have three each")
    places = {each: f"{index // 3}/{BATCH_NORMS[index % 3]}" for index, each in enumerate(own)}
    return {re.sub(rf"{_BN}(_\d+)?", lambda match: places[match[0]], name): value for name, value in tensors.items()}


def _number(name: str) -> int:
    return int(name.rpartition("_")[2]) if name[-1].isdigit() else 0
