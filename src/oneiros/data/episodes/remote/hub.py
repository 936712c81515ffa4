"""LeRobot datasets by name, such as lerobot/pusht: `huggingface_hub` downloads them, once, into its own cache."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from oneiros.data.episodes.metadata import INFO
from oneiros.data.episodes.remote.stores import address_of, mirrored

_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")
_SNAPSHOTS, _PREFIX = "snapshots", "datasets--"  # CACHE/datasets--OWNER--NAME/snapshots/COMMIT
_PARTS = ("data/*", "videos/*")


def located(path: Path) -> Path:
    """The folder of a dataset: `path` as it is, or the downloaded one where it is no file or folder, but may be a name,
    OWNER/NAME or OWNER/NAME@REVISION, or an address (see `stores`). Without a network, what was downloaded before.

    ValueError where it is neither, or the download needs a package, a network or a permission that is not there.
    """
    address = address_of(path)
    if address is not None and not path.exists():
        return mirrored(address)
    name = _NAME.fullmatch(path.as_posix())
    return path if name is None or path.exists() else _downloaded(name[1], name[2])


def revision_of(folder: Path) -> str | None:
    """OWNER/NAME@COMMIT of a folder in the hub's cache, which names the same content again; None for any other."""
    home = folder.parent.parent
    if folder.parent.name != _SNAPSHOTS or not home.name.startswith(_PREFIX):
        return None
    return f"{home.name.removeprefix(_PREFIX).replace('--', '/', 1)}@{folder.name}"


@lru_cache(maxsize=16)  # all of a command's work is on one revision
def _downloaded(name: str, revision: str | None) -> Path:
    missing = f"{name}: there is no such folder"
    try:
        from huggingface_hub import errors, snapshot_download
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{missing}; datasets are downloaded by name with the package huggingface_hub, which is not installed "
            f"({error.name}; `oneiros doctor` says how to get it)"
        ) from None
    try:
        folder = Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=["meta/*"]))
        if not (folder / INFO).is_file():
            raise ValueError(f"{name}: is no LeRobot dataset; on the hub it has no {INFO}")
        snapshot_download(name, repo_type="dataset", revision=folder.name, allow_patterns=[*_PARTS])
    except errors.GatedRepoError:
        raise ValueError(f"{name}: its owner wants to be asked: accept on its page, then `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise ValueError(f"{missing}, and no dataset on the hub (or a private one: `hf auth login`)") from None
    except errors.RevisionNotFoundError:
        raise ValueError(f"{name}: has no revision {revision} on the hub") from None
    except errors.HFValidationError:
        raise ValueError(f"{missing}, and no dataset is called so") from None
    except errors.LocalEntryNotFoundError as error:
        cause = type(error.__cause__ or error).__name__
        raise ValueError(f"{missing}, and the hub cannot be reached to look for it there ({cause})") from None
    except (errors.HTTPError, OSError) as error:
        raise ValueError(
            f"{name}: cannot be downloaded ({type(error).__name__}: {error}); run again to go on"
        ) from None
    return folder
