"""Several files written whole, then put in place together."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


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
        for name in self._names:
            _flush(self._scratch / name)
            (self._root / name).parent.mkdir(parents=True, exist_ok=True)
        for name in self._names:
            os.replace(self._scratch / name, self._root / name)


def _flush(path: Path) -> None:
    """Make sure the bytes are on the disk before the name is: a power cut must not leave a name without content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
