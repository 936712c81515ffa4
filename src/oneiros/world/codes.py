"""Codes of whole datasets on disk, so that a world trains without decoding or encoding a frame twice.

A folder of codes is complete in itself: codes.json (episodes, fps, actions), codes.npy (rows, N), actions.npy
(rows, ...), outcomes.npy (rows,) where they were recorded, known.npy (rows,) where some actions are not known, and the
tokenizer. `oneiros train world --codes FOLDER` needs nothing else. Arrays are mapped, and looked at in pieces: they may
be larger than the memory.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from oneiros.data.episodes.clips import EpisodeArrays
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import Episodes, FrameSource
from oneiros.disk import inside, new_array, read_array, replacing
from oneiros.json_file import read_json
from oneiros.records import ActionSpec, Outcomes
from oneiros.run_folder import Origin, from_json
from oneiros.world.model import TOKENIZER
from oneiros.world.tokenizer import Tokenizer

_INDEX, _CODES, _ACTIONS, _KNOWN, _OUTCOMES = "codes.json", "codes.npy", "actions.npy", "known.npy", "outcomes.npy"
STEP = np.dtype([("reward", "<f4"), ("terminated", "?"), ("truncated", "?"), ("valid", "?")], align=True)
_EPISODES, _DAMAGED = "episodes", "damaged"  # in a shard, beside arrays that become files of these names
_ROWS_AT_ONCE = 2**14


@dataclass(frozen=True)
class _Listed:
    """An episode in codes.json. length: of its rows."""

    index: int
    length: int
    task: str | None = None


@dataclass(frozen=True)
class _Index:
    """What codes.json holds. tokenizer: the fingerprint of the one that made the codes. pays, ends: whether rewards
    and ends were recorded. task: of episodes that name none."""

    fps: float
    action_spec: ActionSpec | None
    tokenizer: str
    origin: Origin
    episodes: tuple[_Listed, ...]
    pays: bool = False
    ends: bool = False
    task: str = ""


def fingerprint_of(model: nn.Module) -> str:
    """A hash (16 hexadecimal digits) of the weights that a tokenizer or world uses, a learning quantiser left out."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(("quantiser.", "tokenizer.quantiser.")):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def write_shard(path: Path, dataset: Dataset, codes: dict[int, np.ndarray], damaged: Sequence[str]) -> None:
    """Keep the codes (T, N) of some episodes, by number, and what was done in these. damaged: a line for each that has
    none."""
    rows = [_columns(dataset, episode, content) for episode, content in codes.items()]
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]} if rows else {}
    told = {_EPISODES: np.array([*codes], np.int64), _DAMAGED: np.array(damaged, np.str_)}
    with replacing(path, "codes") as temporary, temporary.open("wb") as file:
        np.savez(file, **told, **columns)  # type: ignore[arg-type]


def shard_rows(path: Path) -> int:
    """How many rows a whole shard has. ValueError or OSError where there is none."""
    return sum(len(_member(path, name)) for name in _names(path) if name == _stem(_CODES))


def join_shards(folder: Path, shards: Sequence[Path], source: FrameSource, tokenizer: Tokenizer) -> None:
    """Make `folder`, whole or not at all, of files by `write_shard`, in this order.

    One warning lists the episodes that could not be decoded. ValueError where too few could.
    """
    episodes = [int(episode) for path in shards for episode in _member(path, _EPISODES)]
    damaged = [str(line) for path in shards for line in _member(path, _DAMAGED)]
    if damaged:
        told = f"{len(damaged)} of {len(damaged) + len(episodes)} episodes cannot be decoded: {', '.join(damaged)}"
        if not episodes:
            raise ValueError(f"{source.dataset.path}: {told}")
        warnings.warn(f"{source.dataset.path}: {told}", stacklevel=2)
    described = _describe(source, episodes, tokenizer)
    with replacing(folder, "codes") as temporary:
        tokenizer.save(temporary / TOKENIZER)
        rows = sum(episode["length"] for episode in described["episodes"])
        there = {path: _names(path) for path in shards}
        for name in sorted({name for names in there.values() for name in names}):
            parts = (_member(path, name) for path, names in there.items() if name in names)
            _join(temporary / f"{name}.npy", parts, rows)
        (temporary / _INDEX).write_text(json.dumps(described, separators=(",", ":")))


def _join(path: Path, parts: Iterator[np.ndarray], rows: int) -> None:
    whole, done = None, 0
    for part in parts:
        whole = new_array(path, part.dtype, (rows, *part.shape[1:])) if whole is None else whole
        whole[done : done + len(part)] = part
        done += len(part)
    assert whole is not None
    assert done == rows
    whole.flush()


def _names(path: Path) -> list[str]:
    """Of a shard's arrays that become files."""
    with np.load(path, allow_pickle=False) as arrays:
        return [name for name in arrays.files if name not in (_EPISODES, _DAMAGED)]


def _member(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[name]


def read_codes(folder: Path, tokenizer: Tokenizer) -> Episodes:
    """Episodes of codes, mapped from disk.

    Raises ValueError for a folder that holds none, is damaged, or was made by another tokenizer.
    """
    if not (folder / _INDEX).is_file():
        raise ValueError(f"{folder} is no folder of codes: it has no {_INDEX}")
    try:
        values = read_json(inside(folder, _INDEX))
        index = from_json(_Index, values if isinstance(values, dict) else {}, _INDEX)
        ends = [*accumulate((max(0, episode.length) for episode in index.episodes), initial=0)]
        actions = index.action_spec and _read_actions(inside(folder, _ACTIONS), index.action_spec, ends[-1])
        outcomes = _read_outcomes(inside(folder, _OUTCOMES), index, ends[-1])
        known = inside(folder, _KNOWN)
        known = read_array(known, np.bool_, (ends[-1],)) if known.is_file() else None
        codes = read_array(inside(folder, _CODES), code_type(tokenizer), (ends[-1], None))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{folder} is damaged: {error}; delete it and encode again") from error
    if index.tokenizer != fingerprint_of(tokenizer):
        raise ValueError(f"the codes in {folder} were made by another tokenizer; use the one in {folder / TOKENIZER}")
    if codes.shape[1] != tokenizer.num_codes or not _lie_in(codes, tokenizer.config.num_entries):
        raise ValueError(
            f"{folder} is damaged: {_CODES} holds codes that the tokenizer lacks; delete it and encode again"
        )
    loaded = [
        EpisodeArrays(
            codes[a:b],
            None if actions is None else actions[a:b],
            index.task if episode.task is None else episode.task,
            episode.index,
            None if outcomes is None else outcomes.part(a, b),
            None if known is None else known[a:b],
        )
        for (a, b), episode in zip(pairwise(ends), index.episodes, strict=True)
    ]
    held_out = {*index.origin.held_out}
    return Episodes(
        train=[episode for episode in loaded if episode.index not in held_out],
        held_out=[episode for episode in loaded if episode.index in held_out],
        action_spec=index.action_spec,
        fps=index.fps,
        origin=index.origin,
    )


def _read_actions(path: Path, spec: ActionSpec, rows: int) -> np.ndarray:
    dtype = {"discrete": np.int64, "keys": np.bool_, "continuous": np.float32}[spec.kind]
    actions = read_array(path, dtype, (rows, *spec.shape()))
    if spec.kind == "discrete" and not _lie_in(actions, spec.size):
        raise ValueError(f"{_ACTIONS} has actions that are not 0 to {spec.size - 1}")
    if not all(np.isfinite(piece).all() for piece in _pieces(actions)):
        raise ValueError(f"{_ACTIONS} has an action that is no number")
    return actions


def _read_outcomes(path: Path, index: _Index, rows: int) -> Outcomes | None:
    if not index.pays and not index.ends:
        return None
    steps = read_array(path, STEP, (rows,))
    if not all(np.isfinite(piece["reward"]).all() for piece in _pieces(steps)):
        raise ValueError(f"{_OUTCOMES} has an outcome that is no number")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the file is not to be written to
        mapped = {name: torch.from_numpy(steps[name]) for name in STEP.names or ()}
    return Outcomes(
        mapped["reward"] if index.pays else None,
        mapped["terminated"] if index.ends else None,
        mapped["truncated"] if index.ends else None,
        mapped["valid"],
    )


def _lie_in(numbers: np.ndarray, size: int) -> bool:
    """Whether all are 0 to size - 1."""
    return all(0 <= piece.min() <= piece.max() < size for piece in _pieces(numbers))


def _pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[first : first + _ROWS_AT_ONCE] for first in range(0, len(rows), _ROWS_AT_ONCE))


def code_type(tokenizer: Tokenizer) -> type[np.integer]:
    """The smallest that all codes fit in."""
    return np.uint16 if tokenizer.config.num_entries <= 2**16 else np.int32


def _describe(source: FrameSource, episodes: Sequence[int], tokenizer: Tokenizer) -> dict[str, Any]:
    """What codes.json holds of these episodes of the source."""
    dataset, by_index = source.dataset, {episode.index: episode for episode in source.dataset.episodes}
    listed = [by_index[index] for index in episodes]
    tasks = {episode.task for episode in listed}
    return {
        "fps": dataset.fps,
        "action_spec": dataset.action_spec.to_json() if dataset.action_spec else None,
        "tokenizer": fingerprint_of(tokenizer),
        "origin": source.origin(*source.split(episodes)).to_json(),
        "pays": dataset.pays,
        "ends": dataset.ends,
        "task": listed[0].task,
        "episodes": [
            {"index": each.index, "length": each.length} | ({"task": each.task} if len(tasks) > 1 else {})
            for each in listed
        ],
    }


def _columns(dataset: Dataset, episode: int, codes: np.ndarray) -> dict[str, np.ndarray]:
    """All that is kept of an episode, by the name of the file that it comes to lie in."""
    actions, outcomes, confidence = dataset.actions(episode), dataset.outcomes(episode), dataset.confidence(episode)
    columns = {_stem(_CODES): codes}
    if actions is not None:
        columns[_stem(_ACTIONS)] = actions
    if outcomes is not None:
        steps = np.zeros(len(codes), STEP)
        for name in STEP.names or ():
            if (values := getattr(outcomes, name)) is not None:
                steps[name] = values.numpy()
        columns[_stem(_OUTCOMES)] = steps
    if confidence is not None:
        columns[_stem(_KNOWN)] = confidence > 0
    return columns


def _stem(name: str) -> str:
    return name.removesuffix(".npy")
