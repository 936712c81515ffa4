"""A folder of films (mp4, mkv, webm, avi, mov, gif), or of folders of pictures, with a table of actions beside each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageSequence

from oneiros.data.episodes.imports.actions import ENDINGS as TABLES
from oneiros.data.episodes.imports.actions import Table, read_spec
from oneiros.data.episodes.imports.recording import ImportedEpisode, Options, Source
from oneiros.data.video import MOST_PIXELS, DamagedVideoError, decode, frame_times, probe
from oneiros.disk import inside
from oneiros.records import ActionSpec, Camera

FILMS, PICTURES, GIF = (".mp4", ".mkv", ".webm", ".avi", ".mov"), (".png", ".jpg", ".jpeg", ".webp"), ".gif"
_CAMERA = "observation.images.front"
_FPS = 30  # of what does not say


@dataclass(frozen=True)
class FoundFilm:
    """path: a film's, or a folder's of pictures. times: of its frames in seconds, (T,)."""

    path: Path
    height: int
    width: int
    fps: float
    times: np.ndarray
    frames: Callable[[], Iterator[np.ndarray]]


def find_films(path: Path) -> list[Path]:
    """Films and folders of pictures in `path` (itself where it is one), by name. Links that lead out are refused."""
    if path.is_file() or _pictures(path):
        return [path]
    every = sorted(each for each in path.rglob("*") if not each.name.startswith("."))
    found = [each for each in every if each.suffix.lower() in (*FILMS, GIF) or (each.is_dir() and _pictures(each))]
    return [inside(path, each.relative_to(path)) for each in found]


def open_films(path: Path, options: Options) -> Source:
    """ValueError where there is no film that can be read. Films of another size or rate than the first are named."""
    films, unusable = [], {}
    for each in find_films(path):
        name = str(each.relative_to(path)) if each != path else each.name
        try:
            films.append((name, open_film(each)))
        except ValueError as error:
            unusable[name] = str(error)
    if not films:
        told = next(iter(unusable.values()), "there is no film in it, nor folders of pictures")
        raise ValueError(f"{path}: {told}")
    first = films[0][1]
    fps = options.fps or max(1, round(first.fps))
    tables: dict[str, Table] = {}
    for name, film in films:
        if (film.height, film.width) != (first.height, first.width) or abs(film.fps - first.fps) > 0.02 * first.fps:
            unusable[name] = (
                f"{film.path}: is {film.height} x {film.width} at {film.fps:g} fps, the first film {first.height} x "
                f"{first.width} at {first.fps:g}; import it into a dataset of its own"
            )
            continue
        beside = _table(film.path)
        if beside is not None:
            tables[name] = Table(beside)
    spec, column = read_spec(list(tables.values()), options.actions) if tables else (None, "")
    recordings = []
    for name, film in films:
        if name in unusable:
            continue
        if spec is not None and name not in tables and not options.unlabelled:
            unusable[name] = (
                f"{film.path}: has no table of actions ({', '.join(TABLES)}) beside it, as others have; --unlabelled "
                "imports it with its actions unknown"
            )
            continue
        recordings.append(_recording(name, film, tables.get(name), spec, column, options))
    _add_lonely(path, films, unusable)
    camera = Camera(_CAMERA, first.height, first.width)
    partly = spec is not None and options.unlabelled
    return Source("films", fps, (camera,), spec, (), tuple(recordings), unusable, partly=partly)


def _recording(
    name: str, film: FoundFilm, table: Table | None, spec: ActionSpec | None, column: str, options: Options
) -> ImportedEpisode:
    def images() -> Iterator[Mapping[str, np.ndarray]]:
        return ({_CAMERA: frame} for frame in film.frames())

    actions = None if table is None or spec is None else partial(table.read, spec, column, film.times, film.fps)
    return ImportedEpisode(
        name=name,
        task=options.task or f"film {Path(name).stem}",
        length=len(film.times),
        images=images,
        actions=actions,
        film=film.path if film.path.suffix.lower() in FILMS else None,
    )


def open_film(path: Path) -> FoundFilm:
    """ValueError where it cannot be read, or is too short for a step."""
    if path.is_dir():
        film = _folder(path)
    elif path.suffix.lower() == GIF:
        film = _gif(path)
    else:
        film = _film(path)
    if len(film.times) < 2:
        raise ValueError(f"{path}: has {len(film.times)} frames; it takes two")
    return film


def _film(path: Path) -> FoundFilm:
    info, times = probe(path), frame_times(path)
    if not len(times):
        raise DamagedVideoError(
            f"{path}: does not say when its frames are shown; write it anew, as ffmpeg -i {path.name}"
        )
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base or 0
    seconds = times * float(base)
    fps = (len(times) - 1) / seconds[-1] if seconds[-1] > 0 else info.fps or _FPS
    return FoundFilm(path, info.height, info.width, fps, seconds, partial(decode, path, 0, len(times)))


def _gif(path: Path) -> FoundFilm:
    def frames() -> Iterator[np.ndarray]:
        with Image.open(path, formats=["GIF"]) as image:
            for each in ImageSequence.Iterator(image):
                yield np.array(each.convert("RGB"))

    try:
        with Image.open(path, formats=["GIF"]) as image:
            _check_pixels(image, path)
            size = (image.height, image.width)
            waits = [each.info.get("duration") or 100 for each in ImageSequence.Iterator(image)]
    except (OSError, SyntaxError, EOFError) as error:
        raise DamagedVideoError(f"{path}: is no readable gif ({error})") from error
    return FoundFilm(path, *size, 1000 / float(np.mean(waits)), np.cumsum([0, *waits[:-1]]) / 1000, frames)


def _folder(path: Path) -> FoundFilm:
    """Pictures in the order of the numbers in their names."""
    files = [inside(path, each.name) for each in _pictures(path)]

    def frames() -> Iterator[np.ndarray]:
        return (_picture(file, size) for file in files)

    with _opened(files[0]) as image:
        size = (image.height, image.width)
    return FoundFilm(path, *size, _FPS, np.arange(len(files)) / _FPS, frames)


def _picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    with _opened(path) as image:
        try:
            frame = np.array(image.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise DamagedVideoError(f"{path}: is no readable picture ({error})") from error
    if frame.shape[:2] != size:
        raise ValueError(f"{path}: is {frame.shape[0]} x {frame.shape[1]}, the first picture {size[0]} x {size[1]}")
    return frame


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=["PNG", "JPEG", "WEBP"])
    except (OSError, SyntaxError) as error:
        raise DamagedVideoError(f"{path}: is no readable picture ({error})") from error
    _check_pixels(image, path)
    return image


def _check_pixels(image: Image.Image, path: Path) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise DamagedVideoError(f"{path}: claims {image.height} x {image.width} pixels; too many to be read")


def _pictures(path: Path) -> list[Path]:
    files = (
        [each for each in path.iterdir() if each.suffix.lower() in PICTURES and each.is_file()] if path.is_dir() else []
    )
    return sorted(
        files, key=lambda each: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", each.name)]
    )


def _table(film: Path) -> Path | None:
    """The table of actions beside a film: NAME.csv beside NAME.mp4 or NAME/, or actions.csv in NAME/."""
    places = [film.with_suffix(ending) if film.is_file() else film.with_name(film.name + ending) for ending in TABLES]
    places += [film / f"actions{ending}" for ending in TABLES] if film.is_dir() else []
    return next((place for place in places if place.is_file()), None)


def _add_lonely(path: Path, films: Sequence[tuple[str, FoundFilm]], unusable: dict[str, str]) -> None:
    """Name tables of actions that no film belongs to."""
    used = {_table(film.path) for _, film in films}
    for each in sorted(path.rglob("*")) if path.is_dir() else []:
        if each.suffix.lower() in TABLES and each not in used and each.is_file():
            unusable[str(each.relative_to(path))] = f"{each}: actions without a film beside them"
