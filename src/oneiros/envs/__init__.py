"""Anything with Gymnasium's reset and step."""

from importlib import import_module

# found on first use, so that `oneiros doctor` needs neither torch nor ViZDoom
_HOMES = {"Dream": "oneiros.envs.dream", "make_env": "oneiros.envs.make"}


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'oneiros.envs' has no attribute {name!r}")
