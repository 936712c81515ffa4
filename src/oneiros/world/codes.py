"""Codes of whole datasets on disk, so that a world trains without decoding or encoding a frame twice.

A folder of codes is complete in itself: codes.json (episodes, fps, actions), codes.npy (rows, N), actions.npy
(rows, ...), outcomes.npy (rows,) where they were recorded, known.npy (rows,) where some actions are not known, and the
tokenizer. `oneiros train world --codes FOLDER`
needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from oneiros.console import bars, say
from oneiros.data.episodes.clips import Clips, EpisodeArrays
from oneiros.data.episodes.source import Episodes
from oneiros.disk import check_room, inside, new_array, read_array, replacing
from oneiros.json_file import read_json
from oneiros.records import ActionSpec, Clip, Outcomes
from oneiros.run_folder import Origin, from_json
from oneiros.world.model import TOKENIZER
from oneiros.world.tokenizer import Tokenizer

_INDEX, _CODES, _ACTIONS, _KNOWN, _OUTCOMES = "codes.json", "codes.npy", "actions.npy", "known.npy", "outcomes.npy"
_FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class _Listed:
    """An episode in codes.json. length: of its rows."""

    index: int
    length: int
    task: str


@dataclass(frozen=True)
class _Index:
    """What codes.json holds. tokenizer: the fingerprint of the one that made the codes. pays, ends: whether rewards
    and ends were recorded."""

    fps: float
    action_spec: ActionSpec | None
    tokenizer: str
    origin: Origin
    episodes: tuple[_Listed, ...]
    pays: bool = False
    ends: bool = False


def fingerprint_of(model: nn.Module) -> str:
    """A hash (16 hexadecimal digits) of the weights that a tokenizer or world uses, a learning quantiser left out."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(("quantiser.", "tokenizer.quantiser.")):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def write_codes(folder: Path, episodes: Episodes, tokenizer: Tokenizer) -> None:
    """Encode all frames of `episodes` into `folder`, which appears whole or not at all."""
    with replacing(folder, "codes") as temporary:
        tokenizer.save(temporary / TOKENIZER)
        every = [*episodes.train, *episodes.held_out]
        _encode(every, tokenizer, temporary / _CODES)
        if episodes.action_spec:
            np.save(temporary / _ACTIONS, np.concatenate([_actions(episode) for episode in every]))
        if every[0].outcomes is not None:
            np.save(temporary / _OUTCOMES, np.concatenate([_packed(episode) for episode in every]))
        if any(episode.known is not None for episode in every):
            known = [np.ones(len(each.content), bool) if each.known is None else each.known for each in every]
            np.save(temporary / _KNOWN, np.concatenate(known))
        (temporary / _INDEX).write_text(json.dumps(_describe(episodes, tokenizer), indent=1))


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
        codes = read_array(inside(folder, _CODES), _kind(tokenizer), (ends[-1], None))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{folder} is damaged: {error}; delete it and encode again") from error
    if index.tokenizer != fingerprint_of(tokenizer):
        raise ValueError(f"the codes in {folder} were made by another tokenizer; use the one in {folder / TOKENIZER}")
    if (
        codes.shape[1] != tokenizer.num_codes
        or not 0 <= codes.min(initial=0) <= codes.max(initial=0) < tokenizer.config.num_entries
    ):
        raise ValueError(
            f"{folder} is damaged: {_CODES} holds codes that the tokenizer lacks; delete it and encode again"
        )
    loaded = [
        EpisodeArrays(
            codes[a:b],
            None if actions is None else actions[a:b],
            episode.task,
            episode.index,
            None if outcomes is None else outcomes.part(a, b),
            None if known is None else known[a:b],
        )
        for (a, b), episode in zip(pairwise(ends), index.episodes, strict=True)
    ]
    return Episodes(
        train=[episode for episode in loaded if episode.index not in index.origin.held_out],
        held_out=[episode for episode in loaded if episode.index in index.origin.held_out],
        action_spec=index.action_spec,
        fps=index.fps,
        origin=index.origin,
    )


def _read_actions(path: Path, spec: ActionSpec, rows: int) -> np.ndarray:
    dtype = {"discrete": np.int64, "keys": np.bool_, "continuous": np.float32}[spec.kind]
    actions = read_array(path, dtype, (rows, *spec.shape()))
    if spec.kind == "discrete" and not 0 <= actions.min() <= actions.max() < spec.size:
        raise ValueError(f"{_ACTIONS} has actions {actions.min()} to {actions.max()}, of {spec.size}")
    if not np.isfinite(actions).all():
        raise ValueError(f"{_ACTIONS} has an action that is no number")
    return actions


def _packed(episode: EpisodeArrays) -> np.ndarray:
    """Outcomes of an episode's rows, float32 (T, 4): reward, terminated, truncated, valid; 0 where not recorded."""
    assert episode.outcomes is not None
    found = (episode.outcomes.reward, episode.outcomes.terminated, episode.outcomes.truncated, episode.outcomes.valid)
    return np.stack([np.zeros(len(episode.content)) if each is None else each.numpy() for each in found], 1, dtype="f4")


def _read_outcomes(path: Path, index: _Index, rows: int) -> Outcomes | None:
    if not index.pays and not index.ends:
        return None
    columns = torch.from_numpy(np.array(read_array(path, np.float32, (rows, 4))))
    if not bool(columns.isfinite().all()):
        raise ValueError(f"{_OUTCOMES} has an outcome that is no number")
    terminated, truncated, valid = (columns[:, 1:] > 0.5).unbind(1)
    return Outcomes(
        columns[:, 0] if index.pays else None,
        terminated if index.ends else None,
        truncated if index.ends else None,
        valid,
    )


def _kind(tokenizer: Tokenizer) -> type[np.integer]:
    return np.uint16 if tokenizer.config.num_entries <= 2**16 else np.int32


def _describe(episodes: Episodes, tokenizer: Tokenizer) -> dict[str, Any]:
    outcomes = (*episodes.train, *episodes.held_out)[0].outcomes
    return {
        "fps": episodes.fps,
        "action_spec": episodes.action_spec.to_json() if episodes.action_spec else None,
        "tokenizer": fingerprint_of(tokenizer),
        "origin": episodes.origin.to_json(),
        "pays": outcomes is not None and outcomes.reward is not None,
        "ends": outcomes is not None and outcomes.terminated is not None,
        "episodes": [
            {"index": episode.index, "length": len(episode.content), "task": episode.task}
            for episode in (*episodes.train, *episodes.held_out)
        ],
    }


def _actions(episode: EpisodeArrays) -> np.ndarray:
    assert episode.actions is not None
    return episode.actions


def _encode(episodes: list[EpisodeArrays], tokenizer: Tokenizer, path: Path) -> None:
    rows = sum(len(episode.content) for episode in episodes)
    kind = _kind(tokenizer)
    size = rows * tokenizer.num_codes * np.dtype(kind).itemsize
    say(check_room(path.parent.parent, size, f"codes of {rows:,} frames take", there=True))
    codes = new_array(path, kind, (rows, tokenizer.num_codes))
    done = 0
    with bars(transient=True) as track:
        advance = track("encoding frames", rows)
        for episode in episodes:
            frames = Clips([episode], None, length=1)
            for first in range(0, len(frames), _FRAMES_AT_ONCE):
                chunk = frames.batch(range(first, min(first + _FRAMES_AT_ONCE, len(frames))))
                assert isinstance(chunk, Clip)
                codes[done : done + len(chunk.frames)] = _codes(chunk, tokenizer)
                done += len(chunk.frames)
                advance(len(chunk.frames))
    codes.flush()


def _codes(chunk: Clip, tokenizer: Tokenizer) -> np.ndarray:
    return tokenizer.encode(chunk.frames.to(tokenizer.codebook.device))[:, 0].cpu().numpy()
