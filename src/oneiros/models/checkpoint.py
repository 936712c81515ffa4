"""Run folders: config.json and model.safetensors; a world's folder holds its tokenizer's in `tokenizer/`.

Weights are safetensors: loading a stranger's file runs no code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from oneiros.models.tokenizer import Tokenizer, TokenizerConfig
from oneiros.models.world import World, WorldConfig

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer"


def save(model: nn.Module, folder: Path | str, extra: Mapping[str, Any] | None = None) -> None:
    """Write a model that `load` reads back bitwise. extra: more entries for config.json (recipe, data, ...).

    Each file appears whole or not at all. Raises ValueError for a model of no known kind.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, World):
        kind, config = "world", model.config.to_json()
        save(model.tokenizer, folder / TOKENIZER)
        skip: tuple[str, ...] = ("tokenizer.",)
    elif isinstance(model, Tokenizer):
        kind, config, skip = "tokenizer", asdict(model.config), ("quantiser.",)
    else:
        raise ValueError(f"a {type(model).__name__} is neither a Tokenizer nor a World")
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if not name.startswith(skip)}
    _replace(folder / WEIGHTS, lambda path: save_file(weights, path))
    text = json.dumps({"kind": kind, "model": config, **(extra or {})}, indent=2)
    _replace(folder / CONFIG, lambda path: path.write_text(text))


def load(
    folder: Path | str, *, device: torch.device | str = "cpu", codec: nn.Module | None = None, trainable: bool = False
) -> Tokenizer | World:
    """The model of a run folder, in eval mode. codec: the caller's own, for a tokenizer that was built with one.

    Raises ValueError, in one line, for a folder that is no run or whose files are missing or damaged.
    """
    folder = Path(folder)
    config = read_config(folder)
    kind = config.get("kind")
    if kind == "world":
        tokenizer = load(folder / TOKENIZER, codec=codec, trainable=trainable)
        if not isinstance(tokenizer, Tokenizer):
            raise ValueError(f"{folder / TOKENIZER} holds a {type(tokenizer).__name__}, not the world's tokenizer")
        model: Tokenizer | World = World(_parse(WorldConfig.from_json, config, folder), tokenizer)
    elif kind == "tokenizer":
        model = Tokenizer(_parse(_tokenizer_config, config, folder), codec, trainable=trainable)
        if model.quantiser is not None:
            model.start_codebook(_read_weights(folder)["codebook"])
    else:
        raise ValueError(f"{folder / CONFIG}: kind is {kind!r}; this version knows 'tokenizer' and 'world'")
    weights = _read_weights(folder)
    expected = {
        name: tensor.shape
        for name, tensor in model.state_dict().items()
        if not name.startswith(("tokenizer.", "quantiser."))
    }
    found = {name: tensor.shape for name, tensor in weights.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise ValueError(
            f"{folder / WEIGHTS} does not fit {CONFIG}: {wrong[0]} and {len(wrong) - 1} more tensors differ"
        )
    model.load_state_dict(weights, strict=False)
    return model.to(device).eval()


def read_config(folder: Path | str) -> dict[str, Any]:
    """config.json of a run folder. Raises ValueError where there is none, or a damaged one."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} is no run folder: it has no {CONFIG}")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(config).__name__}, not an object")
    return config


def _tokenizer_config(values: Mapping[str, Any]) -> TokenizerConfig:
    unknown = sorted(set(values) - {field.name for field in fields(TokenizerConfig)})
    if unknown:
        raise ValueError(f"unknown fields in the tokenizer's config: {', '.join(unknown)}")
    return TokenizerConfig(**values)


def _parse(parse: Any, config: Mapping[str, Any], folder: Path) -> Any:
    try:
        return parse(config["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG} does not describe a model: {error}") from None


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}: its training did not save a model yet")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _replace(path: Path, write: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
