"""Weights of the code a module comes from, under the names they have there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

SHOWN = 4  # names in a message
_DEFAULTS = {"heads": 8, "activation": "gelu", "input_mask_mode": "zero"}  # of the reference, where a config is silent


@torch.no_grad()
def take_over(
    module: nn.Module,
    tensors: Mapping[str, Any],
    *,
    settings: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    prefix: str = "",
    name_of: Callable[[str], str] = str,
    optional: tuple[str, ...] = (),
) -> None:
    """Copy `tensors` into a module's state: all of it, or, where anything does not fit, nothing.

    tensors: arrays by name; those whose names do not start with `prefix` are somebody else's. settings: of the module,
    which shapes do not tell and the mathematics depends on, as how channels are split into heads. config: what the
    weights were made with, under the reference's names; without it they are taken to fit, with a warning. name_of: what
    the reference calls a tensor of ours, without the prefix. optional: tensors of ours that the reference does not
    know; they stay as they are unless given under our name.
    Raises ValueError that names what is missing, what is left over, the tensor of another shape, or the setting.
    """
    given = {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}
    own = {name_of(name): tensor for name, tensor in module.state_dict().items()}
    missing = sorted(name for name in own.keys() - given.keys() if name not in optional)
    unknown = sorted(given.keys() - own.keys())
    if missing or unknown:
        message = f"weights are missing: {_listed(missing, prefix)}; unknown: {_listed(unknown, prefix)}"
        raise ValueError(message + _hint(missing, tensors, prefix))
    fitting = {name: torch.as_tensor(values) for name, values in given.items()}
    for name, values in fitting.items():
        if values.shape != own[name].shape:
            raise ValueError(f"{prefix}{name} has shape {tuple(values.shape)}; here it is {tuple(own[name].shape)}")
    _check_settings(settings, config)
    for name, values in fitting.items():
        own[name].copy_(values)


def _check_settings(settings: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    said = ", ".join(f"{name} {value}" for name, value in settings.items())
    if config is None:
        warnings.warn(
            f"weights do not tell all that they were made with; taken to be {said}. Give config=, the reference's "
            "arguments, to have it checked",
            stacklevel=5,
        )
        return
    config = {"heads": config.get("num_heads", _DEFAULTS["heads"])} | {name: config[name] for name in config}
    for name, own in settings.items():
        if (theirs := config.get(name, _DEFAULTS[name])) != own:
            raise ValueError(f"the weights were made with {name} {theirs}, this module with {own}; construct it alike")


def _listed(names: list[str], prefix: str) -> str:
    shown = ", ".join(prefix + name for name in names[:SHOWN])
    return (shown or "none") + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _hint(missing: list[str], tensors: Mapping[str, Any], prefix: str) -> str:
    """The prefix that was meant, if all that is missing stands under one."""
    for name in tensors:
        other = name.removesuffix(missing[0]) if missing and name.endswith("." + missing[0]) else prefix
        if other != prefix and all(other + lacked in tensors for lacked in missing):
            return f"; prefix={other!r} would find them"
    return ""
