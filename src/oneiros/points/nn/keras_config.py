"""The configuration of VL3D's KPConvX, a Keras layer, as options of ours.

Its keys are blocks, DH, drop_path, sigma, shell_radii, shell_points, mq, groups, deformable, Q_initializer,
initializer, regularizer, constraint, sigmoid, activation, bn_momentum, bn_phi, bn_htilde, bn_hhat, dim_in and built_*,
beside Keras's own (name, trainable, dtype, build_config). Rules are names or objects as Keras serialises them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAME = ("blocks", "drop_path", "sigma", "shell_radii", "shell_points", "groups", "deformable", "bn_momentum")
_RENAMED = {
    "DH": "hidden_channels",
    "dim_in": "channels",
    "initializer": "initializers",
    "regularizer": "regularizers",
    "constraint": "constraints",
}
_READ = ("mq", "Q_initializer", "sigmoid", "activation", "bn_phi", "bn_htilde", "bn_hhat", "build_config")
_KERAS = ("name", "trainable", "dtype")  # say nothing of the mathematics
_KERAS_SLOPE = 0.2  # of the activation that Keras calls leaky_relu


def options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `KPConvX` from its own `get_config`, which is left as it is, or from the Keras layer's.

    Raises ValueError, for the latter, for a key or a value that cannot be followed.
    """
    if not _is_keras(config):
        return dict(config)
    config = config.get("config", config)
    found = {key: config[key] for key in _SAME if config.get(key) is not None}
    found |= {ours: config[key] for key, ours in _RENAMED.items() if config.get(key) is not None}
    if unknown := sorted(key for key in config if not _is_known(key)):
        raise ValueError(f"{unknown[0]} is no key of the Keras layer's configuration that is known here")
    if "channels" not in found:
        found["channels"] = _width(config)
    if (gate := _class_name(config.get("sigmoid"))) not in (None, "sigmoid"):
        raise ValueError(f"sigmoid is {gate!r}; here the gate is always the sigmoid")
    return found | _kernel(config) | _activation(config.get("activation")) | _norms(config)


def _is_keras(config: Mapping[str, Any]) -> bool:
    """Ours names its width `channels`, and Keras serialises a whole layer as class_name and config."""
    return "channels" not in config and ("config" in config or any(map(_is_known, config)))


def _is_known(key: str) -> bool:
    return key in (*_SAME, *_RENAMED, *_READ, *_KERAS) or key.startswith("built")


def _class_name(value: Any) -> str | None:
    return value.get("class_name") if isinstance(value, Mapping) else value


def _width(config: Mapping[str, Any]) -> int:
    """D, from the shapes that the layer was built for: of X, F and N."""
    shapes = (config.get("build_config") or {}).get("input_shape")
    try:
        return int(shapes[1][-1])  # type: ignore[index]
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ValueError(
            "the configuration tells no width: it has neither dim_in nor the shapes it was built for"
        ) from error


def _kernel(config: Mapping[str, Any]) -> dict[str, Any]:
    """Shells may stand in the initializer of the kernel points."""
    given = config.get("Q_initializer")
    name = _class_name(given)
    if name not in (None, "FibonacciShellInitializer", "fibonacci_shell_initializer"):
        raise ValueError(f"Q_initializer is {name!r}; kernel points of other kinds are given as kernel_points")
    inside = given.get("config", {}) if isinstance(given, Mapping) else {}
    shells = {key: list(inside[key]) for key in ("shell_radii", "shell_points") if inside.get(key) is not None}
    counts = config.get("shell_points") or shells.get("shell_points")
    if config.get("mq") is not None and counts is not None and config["mq"] != sum(counts):
        raise ValueError(f"mq is {config['mq']}, but shell_points {list(counts)} are {sum(counts)} kernel points")
    return {key: value for key, value in shells.items() if config.get(key) is None}


def _activation(given: Any) -> dict[str, Any]:
    name, inside = _class_name(given), given.get("config", {}) if isinstance(given, Mapping) else {}
    if name == "LeakyReLU":
        return {"negative_slope": inside.get("negative_slope", inside.get("alpha", 0.3))}
    match name:
        case None:
            return {}
        case "leaky_relu":
            return {"negative_slope": _KERAS_SLOPE}
        case "linear":
            return {"activation": "oneiros.points.nn.keras_rules.linear"}
        case _:
            return {"activation": name}  # of torch.nn.functional


def _norms(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the serialised batch norms agree on."""
    given = [config[key] for key in ("bn_phi", "bn_htilde", "bn_hhat") if config.get(key)]
    layers = [layer for each in given for layer in (each if isinstance(each, list | tuple) else [each])]
    found: dict[str, Any] = {}
    for theirs, ours in (("momentum", "bn_momentum"), ("epsilon", "bn_eps")):
        values = {layer["config"][theirs] for layer in layers if isinstance(layer, Mapping) and "config" in layer}
        if len(values) > 1:
            raise ValueError(f"batch norms differ in {theirs}: {sorted(values)}; hand them in as modules")
        if values:
            found[ours] = values.pop()
    return found
