"""Run folders: config.json and model.safetensors; a world's folder holds its tokenizer's in `tokenizer/`, and a
policy's its world's in `world/`.

Weights are safetensors: loading a stranger's file runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from oneiros.disk import replacing
from oneiros.models.cloning import Cloning, CloningConfig
from oneiros.models.policy import Policy
from oneiros.models.policy_config import PolicyConfig
from oneiros.models.segmenter import Segmenter, SegmenterConfig
from oneiros.models.tokenizer import Tokenizer, TokenizerConfig
from oneiros.models.world import World, WorldConfig

Model = Tokenizer | World | Segmenter | Policy | Cloning
CONFIG, WEIGHTS, TOKENIZER, WORLD = "config.json", "model.safetensors", "tokenizer", "world"


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
    elif isinstance(model, Segmenter):
        kind, config, skip = "segmenter", model.config.to_json(), ()
    elif isinstance(model, Policy):
        if model.world is None:
            raise ValueError("a policy is saved with its world: it cannot act without")
        kind, config, skip = "policy", model.config.to_json(), ("world.",)
        save(model.world, folder / WORLD)
    elif isinstance(model, Cloning):
        kind, config, skip = "cloning", model.config.to_json(), ()
    else:
        raise ValueError(
            f"a {type(model).__name__} is neither a Tokenizer, a World, a Segmenter, a Policy nor a Cloning"
        )
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if not name.startswith(skip)}
    with replacing(folder / WEIGHTS) as aside:
        save_file(weights, aside)
    text = json.dumps({"kind": kind, "model": config, **(extra or {})}, indent=2)
    with replacing(folder / CONFIG) as aside:
        aside.write_text(text)


def load(
    folder: Path | str, *, device: torch.device | str = "cpu", codec: nn.Module | None = None, trainable: bool = False
) -> Model:
    """The model of a run folder, in eval mode. codec: the caller's own, for a tokenizer that was built with one.

    Raises ValueError, in one line, for a folder that is no run, whose files are missing or damaged, and for a device
    that is not there.
    """
    folder = Path(folder)
    config = read_config(folder)
    kind = config.get("kind")
    if kind == "world":
        tokenizer = load(folder / TOKENIZER, codec=codec, trainable=trainable)
        if not isinstance(tokenizer, Tokenizer):
            raise ValueError(f"{folder / TOKENIZER} holds a {type(tokenizer).__name__}, not the world's tokenizer")
        model = _build(lambda values: World(WorldConfig.from_json(values), tokenizer), config, folder)
    elif kind == "tokenizer":
        model = _build(lambda values: Tokenizer(_tokenizer_config(values), codec, trainable=trainable), config, folder)
    elif kind == "segmenter":
        model = _build(lambda values: Segmenter(SegmenterConfig.from_json(values)), config, folder)
    elif kind == "policy":
        world = load(folder / WORLD, codec=codec)
        if not isinstance(world, World):
            raise ValueError(f"{folder / WORLD} holds a {type(world).__name__}, not the policy's world")
        model = _build(lambda values: Policy(PolicyConfig.from_json(values), world), config, folder)
    elif kind == "cloning":
        model = _build(lambda values: Cloning(CloningConfig.from_json(values)), config, folder)
    else:
        raise ValueError(
            f"{folder / CONFIG}: kind is {kind!r}; this version knows tokenizer, world, segmenter, policy and cloning"
        )
    weights = _read_weights(folder)
    expected = {
        name: tensor.shape
        for name, tensor in model.state_dict().items()
        if not name.startswith(("tokenizer.", "quantiser.", "world."))
    }
    found = {name: tensor.shape for name, tensor in weights.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise ValueError(
            f"{folder / WEIGHTS} does not fit {CONFIG}: {wrong[0]} and {len(wrong) - 1} more tensors differ"
        )
    model.load_state_dict(weights, strict=False)
    if isinstance(model, Tokenizer) and model.quantiser is not None:
        model.start_codebook(model.codebook)
    try:
        return model.to(device).eval()
    except (AssertionError, RuntimeError) as error:  # what torch says of a device that it does not know or have
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {str(device)!r} cannot hold the model: {reason}") from None


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


def _build(build: Callable[[Mapping[str, Any]], Any], config: Mapping[str, Any], folder: Path) -> Model:
    values = config.get("model")
    if not isinstance(values, dict):
        raise ValueError(f"{folder / CONFIG} is damaged: it describes no model")
    try:
        return build(values)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:  # whatever a wrong value runs into
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{folder / CONFIG} describes no model that can be built: {reason}") from None


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}: its training did not save a model yet")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
