"""Functions that users attach to single tensors of weights by name, and their names in a configuration.

A rule is an initializer (fills a tensor), a regularizer (tensor to scalar), a constraint (tensor to tensor) or an
activation. It is given as a callable or by name: one of Keras's (`keras_rules`), `zeros_` in a module that the user of
this file chooses, or `package.module.function`; or as Keras serialises it, a mapping with `class_name` and `config`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from oneiros.points.nn import keras_rules

Rule = Callable[[Any], Any]
Named = Rule | str | Mapping[str, Any]
Rules = Named | Mapping[str, Named]

_NAMELESS_HOMES = ("torch.nn.functional", "torch")  # builtin functions do not know their module


def is_common(given: Rules | None) -> bool:
    """Whether it is one rule for all tensors, not a mapping from their names."""
    return given is not None and (not isinstance(given, Mapping) or "class_name" in given)


def by_tensor(given: Rules | None, tensors: tuple[str, ...], *, common: tuple[str, ...], option: str) -> dict:
    """Name of tensor -> callable, from one rule for those in `common`, or from a mapping; a tensor without a rule is
    left out.

    option: what to call `given` in the ValueError for a tensor that does not exist or a rule that cannot be called.
    """
    if given is None:
        return {}
    rules: Mapping[str, Any] = dict.fromkeys(common, given) if is_common(given) else given  # type: ignore[assignment]
    unknown = sorted(set(rules) - set(tensors))
    if unknown:
        raise ValueError(f"{option} names the tensor {unknown[0]!r}; the tensors are {', '.join(tensors)}")
    return {tensor: _resolve_rule(rule, option=option) for tensor, rule in rules.items()}


def _resolve_rule(rule: Named, *, option: str) -> Rule:
    try:
        found = keras_rules.find(rule) if isinstance(rule, str | Mapping) else None
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
    if found is None and isinstance(rule, Mapping):
        raise ValueError(f"{option} is Keras's {rule.get('class_name')!r}, which is not known here; give a function")
    return found or resolve(rule, option=option, home="torch.nn.init")  # type: ignore[arg-type]


def resolve(rule: Rule | str, *, option: str, home: str) -> Rule:
    """The callable itself, or the one of that name: in `home`, or with the dotted path of its module."""
    if isinstance(rule, str):
        module, _, name = rule.rpartition(".")
        try:
            rule = getattr(import_module(module or home), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{option} is {rule!r}, which is no function of {home} and cannot be imported") from error
    if not callable(rule):
        raise ValueError(f"{option} is {rule!r}; it must be a function, or the name of one")
    return rule


def to_config(given: Rules | None, *, option: str) -> Any:
    """`given` as JSON: names for what can be found by name again. The rest is left out, with a warning."""
    if isinstance(given, Mapping) and not is_common(given):
        named = {tensor: to_config(rule, option=f"{option}[{tensor!r}]") for tensor, rule in given.items()}
        return {tensor: name for tensor, name in named.items() if name is not None} or None
    if given is None or isinstance(given, str | Mapping):
        return given
    name = _name(given)
    if name is None:
        warnings.warn(f"{option} {given!r} cannot be imported by name: the configuration leaves it out", stacklevel=3)
    return name


def _name(function: Rule) -> str | None:
    """`package.module.function`, if importing that gives this very function."""
    name = getattr(function, "__name__", "")
    for module in (getattr(function, "__module__", None), *_NAMELESS_HOMES):
        try:
            if module not in (None, "__main__") and getattr(import_module(module), name) is function:
                return f"{module}.{name}"
        except (ImportError, AttributeError):
            continue
    return None
