"""Which frames of a film belong to which episode, by the number of frames that the film really has.

Frame t of an episode is row t's. Where one film holds several episodes (v3.0), its metadata says at what second each
begins; converters round these times, and some count rows where they mean frames. So they are believed as far as they
agree with the film.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path

from oneiros.data.episodes.metadata import DatasetMetadata, EpisodeFiles, VideoSlice
from oneiros.data.video import DamagedVideoError, count_frames, frame_times, is_complete

_MOST_WITHOUT = 1  # rows at an episode's end without a frame, as recorders leave that stop cameras first


@dataclass(frozen=True)
class Placed:
    """Metadata whose episodes begin where their films say.

    damage: by episode, why nobody can say which frame is which row's. notes: what was made good, and how. unclaimed:
    films with frames at their end that are no episode's, as killed recorders leave them.
    """

    metadata: DatasetMetadata
    damage: Mapping[int, str]
    notes: tuple[str, ...]
    unclaimed: tuple[str, ...]


def place_films(metadata: DatasetMetadata) -> Placed:
    """Compare every film with the rows that it belongs to. Only indices of films are read."""
    episodes = {files.index: files for files in metadata.episodes}
    absent = [key for key in metadata.video_keys if not any(e.videos[key].path.is_file() for e in episodes.values())]
    damage: dict[int, str] = {}
    notes: list[str] = []
    unclaimed: list[str] = []
    if absent and (len(absent) < len(metadata.video_keys) or metadata.image_keys):
        notes += [f"camera {key} is in the metadata, but none of its films is there; it is left out" for key in absent]
        episodes = {index: _without(files, absent) for index, files in episodes.items()}
    for key in metadata.video_keys:
        shared: dict[Path, list[EpisodeFiles]] = {}
        for files in episodes.values():
            if key in files.videos:
                shared.setdefault(files.videos[key].path, []).append(files)
        for path, sharing in shared.items():
            found = _place(metadata, key, path, sharing)
            if isinstance(found, str):
                damage |= dict.fromkeys((files.index for files in sharing), found)
                continue
            if (rest := _unclaimed(path, found)) > 0 and metadata.is_ours(key):
                unclaimed.append(
                    f"{path.relative_to(metadata.root)} has {rest} frames at its end that are no episode's"
                )
            for files, part in zip(sharing, found, strict=True):
                episodes[files.index] = replace(
                    episodes[files.index], videos={**episodes[files.index].videos, key: part}
                )
    for index, files in episodes.items():
        found = _match(metadata.root, files)
        if isinstance(found, str):
            damage.setdefault(index, found)
        else:
            episodes[index] = found[0]
            notes += found[1]
    return Placed(replace(metadata, episodes=tuple(episodes.values())), damage, tuple(notes), tuple(unclaimed))


def _without(files: EpisodeFiles, absent: Sequence[str]) -> EpisodeFiles:
    return replace(files, videos={key: video for key, video in files.videos.items() if key not in absent})


def _place(metadata: DatasetMetadata, key: str, path: Path, sharing: Sequence[EpisodeFiles]) -> list[VideoSlice] | str:
    """Each episode's part of a film, or why that cannot be known."""
    slices = [files.videos[key] for files in sharing]
    rows = [files.length for files in sharing]
    total = _count(path, sum(rows))
    if total is None:
        return [replace(each, num_frames=None) for each in slices]
    order = sorted(range(len(slices)), key=lambda place: (slices[place].first_frame, sharing[place].index))
    counted = [*accumulate((rows[place] for place in order), initial=0)]
    told = [*(slices[place].first_frame for place in order), _end(slices[order[-1]], total)]
    tiles = told[0] == 0 and told[-1] == total and all(a < b for a, b in pairwise(told))
    spans = [b - a for a, b in pairwise(told)]
    if total == counted[-1] and not (
        tiles and any(abs(span - rows[place]) > 1 for span, place in zip(spans, order, strict=True))
    ):
        return _parts(slices, order, counted)
    if metadata.is_ours(key) and total > counted[-1]:
        return _parts(slices, order, counted)
    if len(sharing) == 1 and told[0] == 0:
        return [VideoSlice(path, 0, total)]
    if tiles:
        return _parts(slices, order, told)
    return (
        f"{path.relative_to(metadata.root)} has {total} frames, its {len(sharing)} episodes {counted[-1]} rows; which "
        "frame is which row's cannot be known"
    )


def _unclaimed(path: Path, parts: Sequence[VideoSlice]) -> int:
    """How many frames lie behind those of the last episode."""
    stops = [part.first_frame + part.num_frames for part in parts if part.num_frames is not None]
    return (count_frames(path) or 0) - max(stops) if stops else 0


def _end(last: VideoSlice, total: int) -> int:
    """Where the metadata lets the last episode of a film end; where it does not say, at the film's end."""
    return total if last.num_frames is None else last.first_frame + last.num_frames


def _parts(slices: Sequence[VideoSlice], order: Sequence[int], starts: Sequence[int]) -> list[VideoSlice]:
    parts = list(slices)
    for place, (start, stop) in zip(order, pairwise(starts), strict=True):
        parts[place] = VideoSlice(slices[place].path, start, stop - start)
    return parts


def _count(path: Path, rows: int) -> int | None:
    """How many frames a film has; None where that is not known before it is decoded."""
    if path.suffix != ".mp4" or not path.is_file():
        return None
    listed = count_frames(path)
    if listed in (None, rows) or not is_complete(path):
        return listed
    try:
        return len(frame_times(path)) or None  # leaves out what an edit list hides
    except DamagedVideoError:
        return None


def _match(root: Path, files: EpisodeFiles) -> tuple[EpisodeFiles, list[str]] | str:
    """The episode without rows that no frame belongs to, and what is to be said of it; or why it cannot be used."""
    notes: list[str] = []
    length = files.length
    for video in files.videos.values():
        frames, name = video.num_frames, video.path.relative_to(root)
        if frames is None or frames == files.length:
            continue
        told = f"{name} has {frames} frames of it, where it has {files.length} rows"
        if frames < files.length - _MOST_WITHOUT or not frames:
            return f"{told}; which frame is which row's cannot be known"
        if frames > files.length:
            notes.append(f"episode {files.index}: {told}; the first {files.length} are taken")
        else:
            notes.append(f"episode {files.index}: {told}; the last row is left out")
            length = min(length, frames)
    return replace(files, length=length, without_frame=files.length - length), notes
