"""Demonstrations as a world's codes, checked against the data that the world was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from oneiros.agreement import Controls, check_agreement
from oneiros.data.episodes.clips import EpisodeArrays
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import Episodes, FrameSource
from oneiros.run_folder import read_origin
from oneiros.world.codes import fingerprint_of, read_codes
from oneiros.world.encoding import write_codes
from oneiros.world.model import World
from oneiros.world.tokenizer import Tokenizer


def frame_source(dataset: Dataset, world: World, run: Path, camera: str | None, cache: Path) -> FrameSource:
    """The dataset's frames as the world of `run` takes them.

    ValueError where the world was trained on another camera, larger frames, other actions or another frame rate.
    """
    tokenizer, where = world.tokenizer, f"the world in {run}"
    name = camera or read_origin(run).camera_name
    offered = [each.name for each in dataset.cameras if each.kind == "rgb"]
    if name is not None and name not in offered:
        why = "" if camera else f"; {where} was trained on that camera (--camera NAME takes another)"
        raise ValueError(f"{dataset.path}: has no camera {name}, only {', '.join(offered) or 'none'}{why}")
    rgb = dataset.camera(name)
    height, width = tokenizer.config.height, tokenizer.config.width
    if rgb.height < height or rgb.width < width:
        raise ValueError(
            f"{dataset.path}: frames of {rgb.name} are {rgb.height} x {rgb.width}; {where} was trained on "
            f"{height} x {width} (height x width)"
        )
    if tokenizer.config.channels == 4 and not any(each.kind == "depth" for each in dataset.cameras):
        raise ValueError(f"{dataset.path}: has no depth camera; {where} was trained with depth")
    fps = world.config.fps * world.config.frame_stride
    trained_on = Controls(where, world.config.action_spec, fps)
    check_agreement(Controls(str(dataset.path), dataset.action_spec, dataset.fps), trained_on)
    return FrameSource(dataset, tokenizer.config.size, tokenizer.config.depth, name, cache)


def read_episodes(source: FrameSource, world: World, caches: Sequence[Path]) -> list[EpisodeArrays]:
    """All readable episodes, in the dataset's order: of codes, or of frames where codes depend on the clip.

    caches: folders that may hold the codes already; where none does, they are made in the source's own.
    """
    episodes = source.episodes() if world.tokenizer.lookback > 0 else _codes(source, world.tokenizer, caches)
    return sorted([*episodes.train, *episodes.held_out], key=lambda episode: episode.index)


def _codes(source: FrameSource, tokenizer: Tokenizer, caches: Sequence[Path]) -> Episodes:
    name = f"codes-{fingerprint_of(tokenizer)}-{source.key}"
    for cache in (source.cache, *caches):
        if (cache / name).is_dir():
            return read_codes(cache / name, tokenizer)
    folder = source.cache / name
    frames = next((cache for cache in caches if (cache / "frames").is_dir()), source.cache)
    write_codes(folder, replace(source, cache=frames), tokenizer)
    return read_codes(folder, tokenizer)
