"""`oneiros import`: recordings of other kinds become a LeRobot dataset that trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

_DESCRIPTION = """Turn recordings into a LeRobot dataset (v3.0), episode by episode. The source stays as it is.

  oneiros import films --out data                     a folder of films (mp4, mkv, webm, avi, gif) or of folders of
                                                      pictures, with NAME.csv, .json or .jsonl of actions beside each
  oneiros import films --actions steer,gas --out data only these columns are actions
  oneiros import demo.hdf5 --out data                 robomimic; a folder of ALOHA's or ACT's episodes
  oneiros import pusht.zarr --out data                diffusion policy; npz files of DreamerV3 or CALVIN likewise
  oneiros import ~/.minari/datasets/NAME --out data   Minari, with its rewards and ends
  oneiros import data --shift 1 --out mended          a dataset whose row t holds the action of row t - 1

Tables have a row for each frame, or a column frame or time (seconds); events have the columns key, event (down, up) and
frame or time. Without a table there are no actions. Run again, it goes on where it was; what cannot be read is left
out and listed. `oneiros inspect` then says whether actions belong to their frames.
"""


@dataclass(frozen=True)
class Import:
    source: Annotated[Path, tyro.conf.Positional]
    """A file or a folder."""
    out: Path
    """The dataset's folder: new, empty, or what an earlier run began."""
    format: Literal["films", "hdf5", "minari", "zarr", "npz", "lerobot"] | None = None
    """What the source is. Default: what it looks like."""
    actions: str | None = None
    """Columns that are actions, joined by commas. Default: all that are not of frame, time or reward."""
    shift: int = 0
    """The action of the source's row t + SHIFT is done between frames t and t + 1."""
    fps: int | None = None
    """Frames a second. Default: what the source says (pictures, CALVIN and Minari 30, robomimic
    20, ALOHA 50, diffusion policy 10, DreamerV3 15)."""
    unlabelled: bool = False
    """Where some films have a table of actions, import those without as well, their actions unknown: `oneiros actions`
    infers them."""
    task: str | None = None
    """The instruction of every episode. Default: what the source says, else its name."""


def main(arguments: list[str]) -> None:
    import_data(tyro.cli(Import, prog="oneiros import", args=arguments, description=_DESCRIPTION))


def import_data(command: Import) -> None:
    """Raises ValueError for a source that cannot be read, OSError for a full disk; complete episodes stay."""
    from oneiros.console import bars, say
    from oneiros.data.episodes.imports.open import open_source
    from oneiros.data.episodes.imports.recording import Options
    from oneiros.data.episodes.imports.write import write_recordings

    if command.fps is not None and command.fps < 1:
        raise ValueError(f"fps is {command.fps}; it must be a whole number above 0")
    named = tuple(name.strip() for name in (command.actions or "").split(",") if name.strip())
    source = open_source(command.source, Options(command.fps, named, command.task, command.unlabelled), command.format)
    if command.out.resolve() == command.source.resolve():
        raise ValueError(f"{command.out}: is the source itself; name another folder")
    with bars() as track:
        advance = track("importing episodes", len(source.recordings))
        done = write_recordings(source, command.source, command.out, shift=command.shift, advance=advance)
    for name, why in done.left_out.items():
        say(f"left out: {name} ({why})")
    if not done.episodes:
        raise ValueError(f"{command.source}: none of its episodes could be imported")
    new = done.episodes - done.before
    spec = source.action_spec
    what = "no actions" if spec is None else f"{spec.kind} actions: {', '.join(spec.names[:8])}"
    left = f", {len(done.left_out)} left out" if done.left_out else ""
    print(f"{command.out}: {done.episodes} episodes ({new} new, {done.frames:,} frames{left}); {what}")
    print(f"Next: oneiros inspect {command.out}")
