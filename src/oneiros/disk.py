"""Files and folders that appear whole or not at all, locks between processes, and whether there is room."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_PARTIAL = ".partial-"


@contextmanager
def replacing(path: Path, what: str | None = None) -> Iterator[Path]:
    """A temporary path beside `path`, with its ending, to write a file or a folder to.

    Renamed to `path` when the block ends well and the content is on the disk, else removed. A file takes the place of
    an older one; a folder needs a free place. Folders on the way to `path` are made.
    what: names the content in the OSError of a block that fails with one; without, such an error is passed on.
    """
    aside = path.with_name(f"{_PARTIAL}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        _flush(aside)
        os.replace(aside, path)
    except OSError as error:
        if what is None:
            raise
        raise OSError(f"{path}: {what} could not be kept ({error.strerror or error})") from error
    finally:
        _remove(aside)


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Inside, no other process is inside for the same target (torchrun starts several that all need the same).

    What a killed process left half written of the target (see `replacing`) is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in list(target.parent.iterdir()):
            if path.name.startswith(_PARTIAL) and path.name.removeprefix(_PARTIAL).partition("-")[2] == target.name:
                _remove(path)
        yield


class Batch:
    """New versions of files below `root`, collected in `scratch` (a folder on the same disk) until `publish`.

    A full disk shows while writing, when nothing has changed yet; renaming needs no space.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root, self._scratch = root, scratch
        self._names: list[str] = []
        shutil.rmtree(scratch, ignore_errors=True)

    def new(self, name: str) -> Path:
        """Where to write the new version of root/name."""
        self._names.append(name)
        path = self._scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self) -> None:
        """Put the files in place in the order they were named, each in one step."""
        publish(self._scratch, self._root, self._names)


def publish(scratch: Path, root: Path, names: Sequence[str]) -> None:
    """Move files from `scratch` to the same places below `root`, in this order, each in one step."""
    for name in names:
        _flush(scratch / name)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        os.replace(scratch / name, root / name)


def check_room(folder: Path, needed: int, what: str, *, there: bool = False) -> str:
    """A line with the bytes that something takes in `folder` (which is made) and how many are free.

    what: its beginning, such as "a checkpoint takes". there: what the folder holds already is part of what is needed.
    Raises OSError where it does not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if there else 0
    if free + held < needed:
        raise OSError(f"{folder}: {what} {needed / 1e6:,.0f} MB, only {free / 1e6:,.0f} MB are free")
    return f"{what} {needed / 1e6:,.1f} MB in {folder}, {free / 1e6:,.0f} MB are free"


def _flush(path: Path) -> None:
    """Make sure the bytes are on the disk before the name is: a power cut must not leave a name without content."""
    for each in (path, *path.rglob("*")):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
