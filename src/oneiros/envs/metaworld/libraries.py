"""MuJoCo and Meta-World, which are loaded when an environment is first made: MuJoCo looks for an OpenGL at once."""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib import import_module
from typing import Any


@cache
def load_mujoco() -> Any:
    """The module `mujoco`, without OpenGL where the one that MUJOCO_GL names fails.

    MuJoCo loads that at once, and not at all where it fails: then it is loaded with MUJOCO_GL=disable, which is as it
    was afterwards. Raises ModuleNotFoundError where MuJoCo is not installed.
    """
    try:
        return import_module("mujoco")
    except ModuleNotFoundError as error:
        if error.name == "mujoco":
            raise
    except (AttributeError, ImportError, OSError, RuntimeError):  # of the loaders of OpenGL, or of MuJoCo about a name
        pass
    chosen, os.environ["MUJOCO_GL"] = os.environ.get("MUJOCO_GL"), "disable"
    try:
        return import_module("mujoco")
    finally:
        del os.environ["MUJOCO_GL"]
        if chosen is not None:
            os.environ["MUJOCO_GL"] = chosen


def load_metaworld(module: str = "metaworld") -> Any:
    """A module of Meta-World's, after MuJoCo. Raises ModuleNotFoundError where Meta-World is not installed."""
    load_mujoco()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(module)
