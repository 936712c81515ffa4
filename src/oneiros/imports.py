"""Modules that the user names on the command line or in Python; never for a name that stands in a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


def import_from_cwd(name: str) -> ModuleType:
    """Import the module that the user named, also one of the working directory, which stays on the path: what the
    module imports later is found there, too. Raises ImportError where there is none."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    return import_module(name)


def find_function(name: str) -> Callable[..., Any]:
    """The function that `module:function` names. Raises ValueError, in one line, where there is none."""
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ValueError(f"{name!r} names no function; write module:function, such as my_networks:lpips")
    try:
        function = getattr(import_from_cwd(module_name), function_name, None)
    except ImportError as error:
        raise ValueError(f"{name!r} cannot be imported: {error}") from None
    if not callable(function):
        raise ValueError(f"{module_name} has no function {function_name!r}")
    return function
