"""Settings that all trainings share, and the presets behind their one dial. Free of torch, so `--help` is quick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_type_hints

import tyro

from oneiros.train.config import FitConfig, Precision

# Not kept in the run's recipe, nor taken from one: a file's word for a codec would be code to import.
_OF_THIS_CALL = ("resume", "data_changed", "codec")


T = TypeVar("T")


@dataclass(frozen=True)
class Preset:
    """model: fields of the model's config. fit: fields of `FitConfig`. clip_frames: how long training clips are."""

    model: Mapping[str, Any]
    fit: Mapping[str, Any]
    clip_frames: int = 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all trainings share: of tokenizers, worlds, policies, cloning and segmenters.

    It remembers which settings were given, at their defaults or not: a run that goes on takes the others from before.
    """

    presets: ClassVar[Mapping[str, Preset]]
    elsewhere: ClassVar[Mapping[str, str]] = {}  # fields of the model's config that `model` cannot set, and what does

    out: Path
    """The run folder to write: config.json, model.safetensors, state.pt, metrics.jsonl, pictures/."""

    preset: Literal["tiny", "small", "base"] = "small"
    """Size of the model and length of training: tiny takes seconds, small minutes on a CPU, base wants a GPU."""

    steps: int | None = None
    """Optimiser steps. Default: the preset's."""

    batch_size: int | None = None
    """Samples per optimiser step, over all processes and micro-batches. Default: the preset's."""

    accumulate: int = 1
    """Micro-batches per step: less memory, same result."""

    lr: float | None = None
    """Highest learning rate. Default: the preset's."""

    precision: Precision = "auto"
    """auto computes in bf16 where this machine does that faster, else in float32."""

    seed: int = 0
    """Of the initial weights and of everything drawn in training."""

    save_every: int | None = None
    """Steps between checkpoints. Default: the preset's."""

    picture_every: int | None = None
    """Steps between pictures and numbers of what was learned. Default: the preset's."""

    resume: bool = False
    """Go on with the run in --out, after Ctrl-C or anything worse. Settings not given are that run's."""

    warm_start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Begin with the weights of this run instead of random ones; its model size replaces the preset's."""

    model: tyro.conf.SuppressFixed[tyro.conf.Fixed[Mapping[str, Any]]] = field(default_factory=dict)
    """Fields of the model's config, in place of the preset's: --model.FIELD on the command line."""

    def __new__(cls, **given: Any) -> Self:
        settings = super().__new__(cls)
        settings.__dict__["_given"] = frozenset(given)  # no field: nothing to compare, to save or to ask for
        return settings

    def fit_config(self) -> FitConfig:
        """The preset's, with what was given in its place."""
        given = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.lr,
            "save_every": self.save_every,
            "picture_every": self.picture_every,
        }
        preset = self.presets[self.preset].fit
        values = dict(preset) | {name: value for name, value in given.items() if value is not None}
        values.setdefault("warmup_steps", min(100, values["steps"] // 10))
        return FitConfig(**values, accumulate=self.accumulate, precision=self.precision, seed=self.seed)

    @classmethod
    def model_field(cls, name: str, config: type) -> str:
        """The name of a field of the config that `model` may set. Raises ValueError for any other."""
        if name in cls.elsewhere:
            raise ValueError(f"--model.{name.replace('_', '-')} cannot be set: it {cls.elsewhere[name]}")
        known = [each.name for each in fields(config) if each.name not in cls.elsewhere]
        if name not in known:
            near = get_close_matches(name, known, 3, 0.4)
            meant = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"the model has no field {name!r}; {meant}--help-model lists all")
        return name

    def model_fields(self, config: type) -> dict[str, Any]:
        """The preset's fields of the model's config, with those of `model` in their place. Raises ValueError for a name
        that is none."""
        given = {self.model_field(name, config): value for name, value in self.model.items()}
        return dict(self.presets[self.preset].model) | given

    def to_json(self) -> dict[str, Any]:
        return recipe_of(self)

    def begun_with(self) -> Self | None:
        """The settings that the run to resume began with; None where there is none. ValueError for damaged ones."""
        return settings_of_run(type(self), self.out) if self.resume else None

    def completed(self) -> Self:
        """For a run to resume: settings not given become those that the run in `out` began with."""
        before, given = self.begun_with(), self.__dict__["_given"]
        return replace(before, **{name: getattr(self, name) for name in given}) if before else self


@dataclass(frozen=True, kw_only=True)
class EpisodeSettings(Settings):
    """What all that learn from episodes share."""

    data_changed: bool = False
    """With --resume: go on though the data have other episodes or files by now. What was held out stays held out."""


def check_as_begun(settings: Settings, config: Any) -> None:
    """For a run that goes on: ValueError where a setting, or a field of `model`, is not what its model's config has."""
    given = shared(settings, type(config)) | {
        settings.model_field(name, type(config)): value for name, value in settings.model.items()
    }
    for name, value in given.items():
        if (before := getattr(config, name)) != value:
            flag = ("model." if name in settings.model else "") + name
            raise ValueError(
                f"--{flag.replace('_', '-')} is {value}, but {settings.out} was begun with {before}: a run goes on as "
                "it began; leave the option out, or begin another (--from RUN takes over what fits)"
            )


def shared(settings: Settings, config_class: type) -> dict[str, Any]:
    """Values of the settings that the config has a field of the same name and type for.

    A setting may be None where the field may not: it is left out then, so that the field's default stands.
    """
    ours, theirs = get_type_hints(type(settings)), get_type_hints(config_class)
    names = [each.name for each in fields(config_class)]
    agreeing = [name for name in names if ours.get(name) in (theirs[name], theirs[name] | None)]
    values = {name: getattr(settings, name) for name in agreeing}
    return {name: value for name, value in values.items() if value is not None}


def recipe_of(settings: Any) -> dict[str, Any]:
    """Settings of a training, any dataclass, as a run's recipe keeps them."""
    values = {each.name: getattr(settings, each.name) for each in fields(settings) if each.name not in _OF_THIS_CALL}
    return {name: _plain(value) for name, value in values.items()}


def settings_of_run(cls: type[T], out: Path, *, kind: str | None = None) -> T | None:
    """What `recipe_of` kept in the run folder `out`, to be gone on with; None where there is no run.

    Raises ValueError for a recipe that is damaged, and for a run of another kind than the one named.
    """
    path = out / "config.json"
    if not path.is_file():
        return None
    from oneiros.run_folder import from_json, read_config  # imports torch

    names = {each.name for each in fields(cls)} - set(_OF_THIS_CALL)  # type: ignore[arg-type]
    found = read_config(out, kind).recipe.items()
    values = {name: value for name, value in found if name in names and value is not None}
    return from_json(cls, values | {"out": out, "resume": True}, f"the recipe in {path}")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
