"""Run folders: config.json and model.safetensors; a model made of others holds theirs in sub-folders.

config.json has `kind` and `model`, the fields of the model's config; `recipe`, the settings of its training; and
`data`, what it learned from. Weights are safetensors: loading a stranger's file runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from oneiros.bounded import BoundedTensors
from oneiros.disk import inside, replacing
from oneiros.json_file import read_json
from oneiros.records import Camera

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_FOLD, _SLACK = 8, 2**26  # bytes that a model may take while it is built: so many times its weights, and so many more

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class RunConfig:
    """What config.json holds. data: see `read_origin`."""

    kind: str
    model: Mapping[str, Any]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return _without_empty(asdict(self)) | {"model": dict(self.model)}


@dataclass(frozen=True)
class Origin:
    """The episodes that a run learned from; what is not known is None or empty.

    environment: which recorded them, such as doom:health_gathering. fps: rows a second. camera: as it recorded; its
    height and width are 0 where a run of an older version tells only its name. depth_camera: how the depth that the
    model takes is coded and seen. state_names: of the numbers of a robot's state. train, held_out: indices of episodes.
    revision: of a dataset by name, such as lerobot/pusht@COMMIT. further: of its other datasets.
    """

    path: str | None = None
    fingerprint: str | None = None
    environment: str | None = None
    fps: float | None = None
    camera: Camera | None = None
    depth_camera: Camera | None = None
    state_names: tuple[str, ...] = ()
    train: tuple[int, ...] = ()
    held_out: tuple[int, ...] = ()
    revision: str | None = None
    further: tuple[Origin, ...] = ()

    @property
    def camera_name(self) -> str | None:
        return self.camera.name if self.camera else None

    def learned_from(self, fingerprint: str | None) -> bool:
        """Whether a dataset of this fingerprint is the one; older runs know only its first digits."""
        return self.fingerprint is not None and (fingerprint or "").startswith(self.fingerprint)

    def of(self, fingerprint: str | None) -> Origin | None:
        """What it learned from the dataset of this fingerprint; None where that is none of its datasets."""
        return next((each for each in (self, *self.further) if each.learned_from(fingerprint)), None)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises ValueError for unknown fields and wrong types."""
        return from_json(cls, _renewed(values), "what it learned from")

    def to_json(self) -> dict[str, Any]:
        further = [each.to_json() for each in self.further]
        return _without_empty(asdict(replace(self, further=())) | {"further": tuple(further)})


@dataclass(frozen=True)
class CloudOrigin:
    """The clouds that a run learned from. train, held_out: their paths. features: of their points, beside heights.
    grid: side of the cells, in metres. profiles: what clouds of the training were like, as JSON, see
    `oneiros.points.profile.CloudProfile`."""

    train: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    grid: float | None = None
    profiles: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises ValueError for unknown fields and wrong types."""
        return from_json(cls, values, "what it learned from")

    def to_json(self) -> dict[str, Any]:
        return _without_empty(asdict(self))


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, (), {})}


def _renewed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an `Origin` from those of older runs: a camera's name alone, the size it had beside it, a policy's
    episodes, and the size of the model's frames, which its tokenizer's config tells."""
    new = {name: value for name, value in values.items() if name not in ("height", "width", "depth")}
    height, width = new.pop("recorded", None) or (0, 0)
    if isinstance(new.get("camera"), str):
        new["camera"] = {"name": new["camera"], "height": height, "width": width}
    if "episodes" in new:
        new["train"] = new.pop("episodes")
    return new


def read_config(folder: Path | str, kind: str | None = None) -> RunConfig:
    """config.json of a run folder. Raises ValueError where there is none, a damaged one, or one of another kind."""
    path = inside(Path(folder), CONFIG)
    if not path.is_file():
        raise ValueError(f"{folder} is no run folder: it has no {CONFIG}")
    try:
        values = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {str(error).removeprefix(f'{path}: ')}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(values).__name__}, not an object")
    known = {each.name for each in fields(RunConfig)}
    given = {name: value for name, value in values.items() if name in known and value is not None}
    try:
        config = from_json(RunConfig, given, "the run")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if kind not in (None, config.kind):
        raise ValueError(f"{folder} holds a {config.kind}; this needs a {kind} (see `oneiros train {kind} --help`)")
    return config


def read_origin(folder: Path | str, config: RunConfig | None = None) -> Origin:
    """The episodes that a run learned from. Raises ValueError as `read_config`, and for unknown or wrong fields.

    config: of the same folder, where it was read before.
    """
    return _read_data(folder, config or read_config(folder), Origin.from_json)


def held_out_before(
    run: Path, data: Path, fingerprint: str | None, episodes: Iterable[int], *, data_changed: bool, place: int = 0
) -> tuple[int, ...]:
    """For a run that goes on: the episodes that it held out so far. They stay so, or they would measure nothing.

    place: of the dataset among those of the run. ValueError where the data are no longer those that it learned from,
    unless `data_changed` says that this is known.
    """
    origin = read_origin(run)
    parts = (origin, *origin.further)
    if place >= len(parts):
        raise ValueError(f"{data}: {run} began with {len(parts)} of the datasets named, not with this; leave it out")
    before = parts[place]
    if not data_changed and before.fingerprint is not None and not before.learned_from(fingerprint):
        same = {*before.train, *before.held_out} == set(episodes)
        raise ValueError(
            f"{data}: has other {'files' if same else 'episodes'} than {run} began with, so go on with the data as "
            "they were, or with these, holding out what was held out (--data-changed), or start a new run from this "
            f"one (--from {run} and another --out)"
        )
    return before.held_out


def read_cloud_origin(folder: Path | str) -> CloudOrigin:
    """The clouds that a run learned from; likewise."""
    return _read_data(folder, read_config(folder), CloudOrigin.from_json)


def _read_data(folder: Path | str, config: RunConfig, read: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        return read(config.data)
    except ValueError as error:
        raise ValueError(f"{Path(folder) / CONFIG} is damaged: {error}") from None


def save_model(
    model: nn.Module,
    folder: Path | str,
    kind: str,
    config: Mapping[str, Any],
    *,
    recipe: Mapping[str, Any] | None = None,
    data: Origin | CloudOrigin | None = None,
    skip: tuple[str, ...] = (),
) -> None:
    """Write a run folder that `load_model` reads back bitwise. skip: prefixes of tensors that are kept elsewhere.

    Each file appears whole or not at all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in _own_weights(model, skip).items()}
    content = RunConfig(kind, config, recipe or {}, data.to_json() if data else {})
    with replacing(folder / WEIGHTS) as temporary:
        save_file(weights, temporary)
    with replacing(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(content.to_json(), indent=2))


def load_model(
    folder: Path | str,
    config: RunConfig,
    build: Callable[[Mapping[str, Any]], M],
    *,
    device: torch.device | str = "cpu",
    skip: tuple[str, ...] = (),
) -> M:
    """The model of a run folder, in eval mode. build: makes it from `config.model`. skip: see `save_model`.

    Raises ValueError, in one line, for a config that no model can be built from or that promises far more than the
    weights hold, before the memory is taken; for weights that are missing, damaged, not finite or of another model; and
    for a device that is not there.
    """
    folder = Path(folder)
    most = _SLACK + _FOLD * _weights_of(folder).stat().st_size
    try:
        with BoundedTensors(most):
            model = build(config.model)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:  # wrong values
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{folder / CONFIG} describes no model that can be built: {reason}") from None
    _load_weights(model, folder, skip)
    try:
        return model.to(device).eval()
    except (AssertionError, RuntimeError) as error:  # what torch says of a device that it does not know or have
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {str(device)!r} cannot hold the model: {reason}") from None


def _own_weights(model: nn.Module, skip: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(skip)}


def _load_weights(model: nn.Module, folder: Path, skip: tuple[str, ...]) -> None:
    weights = _read_weights(folder)
    expected = {name: tensor.shape for name, tensor in _own_weights(model, skip).items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise ValueError(
            f"{folder / WEIGHTS} does not fit {CONFIG}: {wrong[0]} and {len(wrong) - 1} more tensors differ"
        )
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise ValueError(
            f"{folder / WEIGHTS} is damaged: {broken[0]} and {len(broken) - 1} more hold no finite numbers"
        )
    model.load_state_dict(weights, strict=False)


def _weights_of(folder: Path) -> Path:
    path = inside(folder, WEIGHTS)
    if not path.is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}: its training did not save a model yet")
    return path


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = _weights_of(folder)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


# -- dataclasses from JSON ---------------------------------------------------------------------------------------------


def from_json(cls: type[T], values: Mapping[str, Any], what: str) -> T:
    """A dataclass from what `dataclasses.asdict` makes of it, through JSON or not: lists become tuples, strings paths.

    Raises ValueError, in one line that names the field of `what`, for unknown and missing fields and for wrong types.
    """
    known = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - known.keys()):
        raise ValueError(f"unknown fields in {what}: {', '.join(unknown)}")
    needed = [name for name, each in known.items() if each.default is MISSING and each.default_factory is MISSING]
    if missing := [name for name in needed if name not in values]:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    hints = get_type_hints(cls)
    return cls(**{name: _typed(value, hints[name], f"{name} of {what}") for name, value in values.items()})


def _typed(value: Any, hint: Any, where: str) -> Any:
    """The value as a field of this type takes it. Raises ValueError where it cannot."""
    kind, options = get_origin(hint), get_args(hint)
    accepted: Any = (int, float) if hint is float else kind or hint
    if hint in (int, float) and not _is_number(value):
        raise ValueError(f"{where} is {str(value)[:40]!r}, not {_named(hint)}")
    if kind in (Union, UnionType):
        return None if value is None else _typed(value, _fitting(value, options), where)
    if is_dataclass(hint) and isinstance(value, Mapping):
        return _record(hint, value, where)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if kind is tuple and isinstance(value, list | tuple):
        each = options[:1] * len(value) if options[-1] is Ellipsis else options
        if len(each) == len(value):
            return tuple(_typed(part, wanted, where) for part, wanted in zip(value, each, strict=True))
    elif kind is Literal:
        if value in options:
            return value
    elif isinstance(value, accepted):
        return value
    raise ValueError(f"{where} is {str(value)[:40]!r}, not {_named(hint)}")


def _fitting(value: Any, options: tuple[Any, ...]) -> Any:
    """Of the types that a field may have, the one for a value that is not None: of several dataclasses the first that
    knows all its fields."""
    kinds = [each for each in options if each is not NoneType]
    records = [each for each in kinds if is_dataclass(each)] if isinstance(value, Mapping) else []
    knowing = (each for each in records if value.keys() <= {one.name for one in fields(each)})
    return next(knowing, kinds[0])


def _record(hint: Any, value: Mapping[str, Any], where: str) -> Any:
    """A dataclass in a field, by its own `from_json` if it has one, whose fields are of the right types then."""
    own: Any = getattr(hint, "from_json", None)
    if own:
        try:
            value = vars(own(value))
        except (AttributeError, LookupError, TypeError):
            raise ValueError(f"{where} is {str(value)[:40]!r}, not {_named(hint)}") from None
    return from_json(hint, value, where)


def _is_number(value: Any) -> bool:
    """One that computers reckon with: no truth value, neither infinite nor of a thousand digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -(2**63) <= value < 2**64


def _named(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    return hint.__name__ if isinstance(hint, type) else str(hint)
