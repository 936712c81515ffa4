"""A dense network described by a JSON file in the spirit of VL3D's: where its sections and keys have a meaning here,
they have the same names.

    {
      "class_names": ["ground", "vegetation", "building"],
      "pre_processing": {"num_points_per_depth": [2048, 512, 128], "num_pwise_neighbors": [16, 16, 16]},
      "feature_extraction": {"type": "KPConvX", "feature_space_dims": [32, 64, 128], "blocks": [1, 1, 2],
                             "shell_radii": [0, 1.25], "shell_points": [1, 14], "sigma": 2, "initializer": "he_normal"},
      "model_handling": {"class_weight": [1, 1, 2]}
    }
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oneiros.json_file import read_json
from oneiros.points.nn.dense import DensePointNetConfig
from oneiros.run_folder import from_json

_SECTIONS = ("class_names", "pre_processing", "feature_extraction", "model_handling")
_PRE_PROCESSING = {
    "pre_processor": None,
    "num_points_per_depth": "num_points",
    "num_pwise_neighbors": "num_neighbors",
    "num_downsampling_neighbors": "num_pooled",
}
_EXTRACTION = {
    "type": None,
    "feature_space_dims": "dims",
    "blocks": "blocks",
    "expansion": "expansion",
    "initializer": "initializers",
    "regularizer": "regularizers",
    "constraint": "constraints",
    **{name: name for name in ("shell_radii", "shell_points", "sigma", "groups", "deformable", "drop_path")},
    "bn_momentum": "bn_momentum",
}
_ELSEWHERE = {
    "training_epochs": "--steps",
    "batch_size": "--batch-size",
    "neighborhood": "--radius",
    "num_classes": "--classes",
    "fnames": "--features",
    "optimizer": "--learning-rate",
}


@dataclass(frozen=True)
class ModelFile:
    """network: with in_dim, num_classes and grid yet to be set. class_names, class_weight: empty where not given."""

    network: DensePointNetConfig
    class_names: tuple[str, ...] = field(default=())
    class_weight: tuple[float, ...] = field(default=())

    @classmethod
    def read(cls, path: Path) -> ModelFile:
        """Raises ValueError, in one line, for what is no such file, and for keys that mean nothing here."""
        content = read_json(path)
        content = content.get("model_args", content) if isinstance(content, Mapping) else content
        if not isinstance(content, Mapping) or not isinstance(content.get("feature_extraction"), Mapping):
            raise ValueError(f"{path}: describes no model: it has no section feature_extraction")
        _check_keys(path, "", content, _SECTIONS)
        extraction, processing = content["feature_extraction"], _section(path, content, "pre_processing")
        handling = _section(path, content, "model_handling")
        _check_keys(path, "feature_extraction.", extraction, _EXTRACTION)
        _check_keys(path, "pre_processing.", processing, _PRE_PROCESSING)
        _check_keys(path, "model_handling.", handling, ("class_weight",))
        if (kind := extraction.get("type", "KPConvX")) != "KPConvX":
            raise ValueError(f"{path}: feature_extraction.type is {kind!r}; here it is KPConvX")
        values = _renamed(extraction, _EXTRACTION) | _renamed(processing, _PRE_PROCESSING)
        names, weight = content.get("class_names", ()), handling.get("class_weight") or ()
        told = {"network": values, "class_names": names, "class_weight": weight}
        try:
            return from_json(cls, told, str(path))
        except ValueError as error:
            raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def _section(path: Path, content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = content.get(name, {})
    if not isinstance(section, Mapping):
        raise ValueError(f"{path}: {name} is {str(section)[:40]!r}; it must hold keys and values")
    return section


def _check_keys(path: Path, where: str, section: Mapping[str, Any], known: Any) -> None:
    for key in section:
        if key in _ELSEWHERE and key not in known:
            raise ValueError(f"{path}: {where}{key} is said on the command line here: {_ELSEWHERE[key]}")
        if key not in known:
            raise ValueError(f"{path}: {where}{key} means nothing here; keys are {', '.join(known)}")


def _renamed(section: Mapping[str, Any], names: Mapping[str, str | None]) -> dict[str, Any]:
    return {ours: section[theirs] for theirs, ours in names.items() if ours and section.get(theirs) is not None}
