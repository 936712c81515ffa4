"""Modules that the user names on the command line or in Python; never for a name that stands in a file."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


def import_from_cwd(name: str) -> ModuleType:
    """Import the module that the user named, also one of the working directory, which stays on the path: what the
    module imports later is found there, too. Raises ImportError where there is none."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    return import_module(name)
