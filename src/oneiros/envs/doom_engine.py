"""ViZDoom's engine is a process of its own: it ends with ours, and what a killed one left behind is swept."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import sys
import tempfile
import time
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path

_PREFIX = "oneiros-doom-"
_SHARED_MEMORY, _SHARED_NAMES = Path("/dev/shm"), "ViZDoom*"
_YOUNG = 60.0  # seconds in which what nobody holds may only just have been made

# The parent-death signal stays in force over exec. A parent that died before it was set is no parent any more.
_LAUNCHER = """#!/bin/sh
exec {python} -I -S -c '
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
' {parent} {engine} "$@"
"""


class Scratch:
    """A folder for what an engine writes into its working directory; locked, so that others see whether it is used."""

    def __init__(self) -> None:
        _sweep()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.close = weakref.finalize(self, _remove, self.path, lock)  # also where nobody calls it

    def launcher(self, engine: Path) -> str:
        """The path of a program that becomes the engine and is killed when this process ends, however that ends; of
        the engine itself where that is impossible."""
        launcher = self.path / "engine"
        words = {"python": sys.executable, "parent": str(os.getpid()), "engine": str(engine)}
        launcher.write_text(_LAUNCHER.format(**{name: shlex.quote(word) for name, word in words.items()}))
        launcher.chmod(0o700)
        can_run = sys.platform == "linux" and os.access(launcher, os.X_OK)  # /tmp may be mounted noexec
        return str(launcher) if can_run else str(engine)


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


@cache  # once for each process
def _sweep() -> None:
    """Remove folders and shared memory of this user's engines whose processes are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # locked, or somebody else's, or swept by another just now
            if _is_old_and_ours(folder):
                held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
                finally:
                    os.close(held)
    old = [path for path in _SHARED_MEMORY.glob(_SHARED_NAMES) if _is_old_and_ours(path)]
    used = _mapped_files() if old else ""
    for path in old:
        if str(path) not in used:
            path.unlink(missing_ok=True)


def _is_old_and_ours(path: Path) -> bool:
    try:
        about = path.lstat()
    except OSError:
        return False
    return about.st_uid == os.getuid() and time.time() - about.st_ctime > _YOUNG


def _mapped_files() -> str:
    """The memory maps of all processes that can be looked at."""
    maps = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            maps.append((process / "maps").read_text(errors="replace"))
    return "\n".join(maps)
