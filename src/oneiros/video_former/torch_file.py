"""What torch saved, read without running any of it: configs of strangers become plain mappings.

torch's loader of weights alone imports nothing and calls nothing but what it knows. Checkpoints of training code hold a
config beside their weights, often as objects of OmegaConf, argparse or pathlib: here such a class is stood in for by an
empty one that only remembers what it was given, whether or not its package is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

# Classes that hold settings and do nothing that reading them would need.
_SETTINGS = re.compile(
    r"omegaconf\.[\w.]+|argparse\.Namespace|types\.SimpleNamespace|typing\.\w+|collections\.(defaultdict|OrderedDict)|"
    r"pathlib\.(Pure)?(Posix|Windows)?Path|builtins\.(dict|list|tuple|set|int|float|bool|str|bytes|complex)"
)
_DEEPEST, _MOST = 50, 100_000  # levels of a config, and things in a file: shared parts may be counted often


class Remembered:
    """Stands in for an object of a stranger's config: nothing of its class is known, what it was given is kept."""

    def __new__(cls, *args: Any) -> Remembered:
        made = super().__new__(cls)
        made.args, made.state = args, {}
        return made

    def __init__(self, *args: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _mapping(*_: Any) -> dict[Any, Any]:
    return {}


def read_torch_file(path: Path) -> Any:
    """What is in a file that `torch.save` or safetensors wrote: containers, numbers, texts and tensors, on the CPU.

    Raises FileNotFoundError, and ValueError for a file that is damaged or that could be read only by running code,
    naming which.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        named = _named_in(path)
        if code := sorted(name for name in named if not _SETTINGS.fullmatch(name)):
            raise ValueError(f"it names {code[0]}, and no code is run")
        stands_in = [(_mapping if name.startswith("collections.") else _kind(name), name) for name in named]
        with safe_globals(stands_in):  # type: ignore[arg-type]
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _plain(content, iter(range(_MOST)))
    except UnpicklingError:  # torch's words for it tell how to run the code
        raise ValueError(f"{path} cannot be read: it is damaged, or only running code would read it") from None
    except (SafetensorError, BadZipFile, RuntimeError, EOFError, LookupError, TypeError, ValueError) as error:
        reason = (str(error).strip() or "it is damaged").splitlines()[0]
        raise ValueError(f"{path} cannot be read: {reason}") from None


def _named_in(path: Path) -> list[str]:
    """The classes and functions that a file names beside those that torch knows to be harmless. None in a file of
    torch before 1.6, which holds no archive: the loader of weights alone says what it makes of it."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return []
    return get_unsafe_globals_in_checkpoint(path)


def _kind(name: str) -> type:
    """A class of its own for each name: torch's loader tells them apart by it."""
    return type(name.rpartition(".")[2], (Remembered,), {"__module__": "remembered"})


def _plain(value: Any, left: Iterator[int], depth: int = 0) -> Any:
    """Configs as mappings, lists and what stands in them. OmegaConf keeps contents in `_content`, values in `_val`.
    left: runs out after as many things as are allowed."""
    if depth > _DEEPEST or next(left, None) is None:
        raise ValueError("what it holds is nested beyond reading")
    depth += 1
    if isinstance(value, Remembered):
        state = value.state if isinstance(value.state, Mapping) else {}
        for held in ("_content", "_val"):
            if held in state:
                return _plain(state[held], left, depth)
        return _plain(dict(state), left, depth) if state else "/".join(map(str, value.args))
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, Mapping):
        return {key: _plain(each, left, depth) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, left, depth) for each in value]
    return value
