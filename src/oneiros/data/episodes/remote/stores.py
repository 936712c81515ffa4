"""Datasets on an object store, such as s3://bucket/data: `fsspec` downloads them into a cache, later what changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from oneiros.console import bars, say
from oneiros.data.episodes.metadata import INFO
from oneiros.disk import alone, check_room, inside, replacing
from oneiros.json_file import read_json

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(.+)")
_PARTS = ("meta/", "data/", "videos/")
_VERSIONS = ("ETag", "etag", "last_modified", "LastModified", "mtime", "created")  # as the stores call them
_LOG = ".fetched.json"


def address_of(path: Path) -> str | None:
    """SCHEME://PLACE, of which a path keeps one slash; None where it is no address."""
    found = _ADDRESS.fullmatch(path.as_posix())
    return found and f"{found[1]}://{found[2].rstrip('/')}"


@lru_cache(maxsize=16)  # all of a command's work is on one state
def mirrored(address: str) -> Path:
    """The folder on this machine that holds the dataset; files that are there and did not change are not downloaded.

    Without a network, what was downloaded before. ValueError where the store cannot be reached, or has none there.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "oneiros" / "stores"
    folder = home / f"{Path(address).name}-{hashlib.sha256(address.encode()).hexdigest()[:12]}"
    home.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        log = read_json(folder / _LOG) if (folder / _LOG).is_file() else None
        try:
            store, files = _listed(address)
        except Exception as error:  # every store raises what it likes
            if isinstance(log, dict):
                say(f"{address}: cannot be reached ({type(error).__name__}); {folder} is used, as it was downloaded")
                return folder
            raise ValueError(f"{address}: cannot be read ({type(error).__name__}: {str(error)[:200]})") from None
        if INFO not in files:
            raise ValueError(f"{address}: is no LeRobot dataset; it has no {INFO}")
        _fetch(store, address, files, folder, log if isinstance(log, dict) else {})
    return folder


def _listed(address: str) -> tuple[Any, dict[str, tuple[str, int, str]]]:
    """The store, and of each file of the dataset its name there, its size, and what changes when it does."""
    import fsspec

    store, root = fsspec.core.url_to_fs(address)
    found = store.find(root, detail=True)
    files = {}
    for name, about in found.items():
        place = name[len(root) :].lstrip("/")
        if place.startswith(_PARTS):
            version = next((str(about[key]) for key in _VERSIONS if about.get(key)), "")
            files[place] = (name, int(about.get("size") or 0), f"{version} {about.get('size')}")
    return store, files


def _fetch(
    store: Any, address: str, files: Mapping[str, tuple[str, int, str]], folder: Path, log: dict[str, Any]
) -> None:
    """Make the folder what the store has. What is complete stays where it fails, and counts when it is run again."""
    known = {place: version for place, version in log.items() if place in files and (folder / place).is_file()}
    for place in [place for place in log if place not in files]:
        inside(folder, place).unlink(missing_ok=True)
    wanted = {place: each for place, each in files.items() if known.get(place) != each[2]}
    check_room(folder, sum(size for _, size, _ in wanted.values()), f"{address} takes")
    try:
        with bars() as track:
            advance = track(f"downloading {address}", len(wanted))
            for place, (name, _, version) in wanted.items():
                with replacing(inside(folder, place)) as temporary:
                    _download(store, name, temporary, address)
                known[place] = version
                advance(1, place)
    finally:
        with replacing(folder / _LOG) as temporary:
            temporary.write_text(json.dumps(known), encoding="utf-8")


def _download(store: Any, name: str, out: Path, address: str) -> None:
    try:
        store.get_file(name, str(out))
    except Exception as error:
        told = f"{name}, {type(error).__name__}: {str(error)[:200]}"
        raise ValueError(f"{address}: cannot be downloaded ({told}); run again to go on") from None
