"""`--model.FIELD`: the fields of a model's config as options of its training, and `--help-model`, which lists them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from oneiros.train.settings import Settings

_OPTION = "--model."


def split_options(arguments: list[str]) -> tuple[list[str], dict[str, str | None]]:
    """The other arguments, and the text of each `--model.FIELD`, None where nothing follows it. Raises ValueError for
    one that is given twice."""
    rest: list[str] = []
    given: dict[str, str | None] = {}
    waiting = iter(zip(arguments, [*arguments[1:], "--"], strict=True))
    for word, following in waiting:
        if not word.startswith(_OPTION):
            rest.append(word)
            continue
        name, equals, text = word.removeprefix(_OPTION).partition("=")
        name = name.replace("-", "_")
        if name in given:
            raise ValueError(f"{_OPTION}{_flag(name)} is given twice")
        given[name] = text if equals else None
        if not equals and not following.startswith("--"):
            given[name] = following
            next(waiting)
    return rest, given


def typed(given: Mapping[str, str | None], config: type, settings: type[Settings]) -> dict[str, Any]:
    """The texts as the config's fields take them. Raises ValueError for a field that is not there or not an option, and
    for a text of another type."""
    hints = get_type_hints(config)
    return {settings.model_field(name, config): _value(name, text, hints[name]) for name, text in given.items()}


def help_text(config: type, settings: type[Settings], preset: str) -> str:
    """Every option with its type, its value in the preset and what it means."""
    hints, said = get_type_hints(config), explanations(config)
    rows = []
    for each in fields(config):
        if each.name in settings.elsewhere:
            continue
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        value = settings.presets[preset].model.get(each.name, default)
        rows.append(f"  {_OPTION}{_flag(each.name)} {_named(hints[each.name])}  ({preset}: {_shown(value)})")
        rows.append(f"      {said[each.name]}")
    return "\n".join(rows)


def explanations(config: type) -> dict[str, str]:
    """What the config's docstring says of each field, after `name:` or `name, name:`."""
    names = {each.name for each in fields(config)}
    text = " ".join((config.__doc__ or "").split())
    heads = [match for match in re.finditer(r"(?<![\w-])((?:\w+, )*\w+): ", text) if names & set(match[1].split(", "))]
    ends = [match.start() for match in heads[1:]] + [len(text)]
    return {
        name: text[match.end() : end].strip()
        for match, end in zip(heads, ends, strict=True)
        for name in match[1].split(", ")
        if name in names
    }


def _value(name: str, text: str | None, hint: Any) -> Any:
    kind = _plain(hint)
    wanted = f"{_OPTION}{_flag(name)} takes {_named(hint)}"
    if kind is bool:
        if text in (None, "true", "false"):
            return text != "false"
        raise ValueError(f"{wanted}, not {text!r}")
    if text is None:
        raise ValueError(f"{wanted} after it")
    if get_origin(kind) is not None:
        if text in get_args(kind):
            return text
        raise ValueError(f"{wanted}, not {text!r}")
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{wanted}, not {text!r}") from None


def _plain(hint: Any) -> Any:
    """The type without None."""
    options = [each for each in get_args(hint) if each is not NoneType]
    return options[0] if NoneType in get_args(hint) and len(options) == 1 else hint


def _named(hint: Any) -> str:
    kind = _plain(hint)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return words.get(kind) or f"one of {', '.join(map(str, get_args(kind)))}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flag(name: str) -> str:
    return name.replace("_", "-")
