"""Files and folders that appear whole or not at all, names that stay in their folder, locks, and room on the disk."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

_PARTIAL = ".partial-"


@contextmanager
def replacing(path: Path, what: str | None = None) -> Iterator[Path]:
    """A temporary path beside `path`, with its ending, to write a file or a folder to.

    Renamed to `path` when the block ends well and the content is on the disk, else removed. A file takes the place of
    an older one; a folder needs a free place. Folders on the way to `path` are made. What killed processes left half
    written beside `path` is removed.
    what: names the content in the OSError of a full disk, and of others that tell of no file.
    """
    with _aside(path, path.name, what) as temporary:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)


@contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path`, gone afterwards, for what is needed to write it and may be larger than memory and /tmp.

    Errors are as in `replacing`.
    """
    with _aside(path, f"work-{path.name}", None) as temporary:
        temporary.mkdir()
        yield temporary


def new_array(path: Path, dtype: np.dtype | type, shape: tuple[int, ...]) -> np.memmap:
    """A new array in a file (.npy), mapped to be written to. Only `flush` brings all of it to the disk.

    Its room is taken at once: writing to a mapped file that the disk has no room for would kill the process.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return array


def map_array(path: Path) -> np.ndarray:
    """The array of a file (.npy), mapped. ValueError for anything else, and where the file ends before its array."""
    with path.open("rb") as file:
        begins = file.read(len(np.lib.format.MAGIC_PREFIX))
    if begins != np.lib.format.MAGIC_PREFIX:  # numpy would open an npz, too
        raise ValueError(f"{path}: cannot be read as npy: it begins with {begins!r}")
    try:
        with np.errstate(over="raise"):
            return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged header makes numpy and the tokenizer of Python stumble over
        raise ValueError(f"{path}: cannot be read as npy: damaged or cut off ({error})") from error


def read_array(path: Path, dtype: np.dtype | type, shape: Sequence[int | None]) -> np.ndarray:
    """The array of a file (.npy), mapped. ValueError for a file that is damaged, or holds another kind or shape.

    shape: None for a length that may be any.
    """
    if not path.is_file():
        raise ValueError(f"{path}: is {'no file' if path.exists() else 'missing'}")
    try:
        array = map_array(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    same = len(array.shape) == len(shape) and all(
        want in (None, has) for has, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not same:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(
            f"{path}: holds {array.dtype} of shape {array.shape}; it must be {np.dtype(dtype)} of ({wanted})"
        )
    return array


def inside(root: Path, name: str | Path) -> Path:
    """root/name, for a name that stands in a file, or of something that may be a link in a stranger's folder.

    Raises ValueError for an absolute name, one with `..`, and one whose symbolic links lead out of root. A snapshot of
    the Hugging Face hub may link to the blobs beside it, where all its content is.
    """
    parts = Path(name).parts
    if os.path.isabs(name) or ".." in parts:
        raise ValueError(f"{root}: the name {str(name)[:80]!r} leads out of this folder")
    path = os.fspath(root)
    if any(os.path.islink(path := os.path.join(path, part)) for part in parts):
        real, found = (Path(os.path.realpath(each)) for each in (root, root / name))
        blobs = [each.parent.parent / "blobs" for each in (real, *real.parents) if each.parent.name == "snapshots"]
        if not any(found.is_relative_to(home) for home in (real, *blobs)):
            raise ValueError(f"{root / name}: leads out of {root} through a symbolic link; put a copy in its place")
    return root / name


def contained(root: Path, name: str = "") -> Path:
    """root/name, a file or folder to write into that a stranger may have made; it need not exist.

    Raises ValueError where it, or anything in it, is a symbolic link that leads out of root: writing would follow it.
    """
    path, real = root / name, os.path.realpath(root)
    links = (Path(each) / entry for each, folders, files in os.walk(path) for entry in (*folders, *files))
    for each in (path, *(link for link in links if link.is_symlink())):
        if not Path(os.path.realpath(each)).is_relative_to(real):
            raise ValueError(f"{each}: leads out of {root} through a symbolic link; nothing is written there")
    return path


def locked(path: Path, *, wait: bool = False) -> BinaryIO:
    """The file `path`, open: until it is closed, or this process ends, nobody else gets it.

    wait: until it is free; else BlockingIOError where another has it. Who has the file may delete it before closing it:
    a lock on a file that is no longer at `path` does not count, neither for those who waited nor for those who come.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b", 0)
        except FileNotFoundError:
            if path.parent.is_dir():
                raise
            continue  # the folder was deleted meanwhile
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.lstat(path)):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Inside, no other process is inside for the same target (torchrun starts several that all need the same).

    What a killed process left half written of the target (see `replacing`) is removed.
    """
    with locked(target.with_name(f".{target.name}.lock"), wait=True):
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
        _remove(scratch)

    def new(self, name: str) -> Path:
        """Where to write the new version of root/name."""
        self._names.append(name)
        path = inside(self._scratch, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self) -> None:
        """Put the files in place in the order they were named, each in one step."""
        publish(self._scratch, self._root, self._names)


def publish(scratch: Path, root: Path, names: Sequence[str]) -> None:
    """Move files from `scratch` to the same places below `root`, in this order, each in one step.

    Raises ValueError, with nothing moved, for a name that leads out of root.
    """
    targets = [inside(root, name) for name in names]
    for name, target in zip(names, targets, strict=True):
        _flush(scratch / name)
        target.parent.mkdir(parents=True, exist_ok=True)
    for name, target in zip(names, targets, strict=True):
        os.replace(scratch / name, target)


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


@contextmanager
def _aside(path: Path, name: str, what: str | None) -> Iterator[Path]:
    """A temporary path beside `path`, removed afterwards. An OSError that tells of no file tells of `path`."""
    temporary = path.with_name(f"{_PARTIAL}{_host()}.{os.getpid()}-{name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent.absolute())
        _remove(temporary)  # a link that lies there would be followed
        yield temporary
    except OSError as error:
        named = str(error.filename or "")
        told = (named and not named.startswith(str(temporary))) or str(error).startswith(str(path))
        if told or isinstance(error, FileNotFoundError):
            raise
        failed = f"{what} could not be kept" if what else "could not be written"
        raise OSError(f"{path}: {failed} ({error.strerror or error})") from error
    finally:
        _remove(temporary)


@cache
def _sweep(folder: Path) -> None:
    """Remove what processes of this machine that are no more left half written in `folder`; once is enough."""
    for path in list(folder.iterdir()):
        if (found := re.match(rf"{re.escape(_PARTIAL)}{_host()}\.(\d+)-", path.name)) and not _runs(int(found[1])):
            _remove(path)


@cache
def _host() -> str:
    """The machine, or container, by which a process's number means something: folders may be shared between them."""
    space = Path("/proc/self/ns/pid")
    told = (os.uname().nodename, os.readlink(space) if space.exists() else "")
    return f"{zlib.crc32(' '.join(told).encode()):08x}"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return True


def _flush(path: Path) -> None:
    """Make sure the bytes are on the disk before the name is: a power cut must not leave a name without content."""
    for each in (path, *path.rglob("*")):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    """Links themselves, never what they lead to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
