"""Clips for training: which episodes, which rows, in which batch.

A clip of T frames at stride k takes rows start, start + k, ... and never leaves its episode. Every row that leaves room
for a whole clip is a start, so all phases of the stride are used. Clips that go to the end start at every row that a
step leaves, and are padded beyond the last: so the last steps of an episode are met as often as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from oneiros.data.episodes.arrays import EpisodeArrays, load_frames, unpack_codes
from oneiros.data.frames import codes_to_model, to_model
from oneiros.records import ActionSpec, Clip, CodeClip, Outcomes

__all__ = ["Clips", "EpisodeArrays", "frames_of", "fully_known", "load_frames", "split_episodes", "spread"]


def split_episodes(indices: Sequence[int], hold_out: Sequence[int] = ()) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Episodes to train on and episodes held out: those of `hold_out` if there are any, else the last tenth, at least
    one. ValueError where either is empty."""
    if len(indices) < 2:
        raise ValueError(
            f"the dataset has {len(indices)} readable episode; it takes one to train on and one to hold out"
        )
    if hold_out:
        kept = {*hold_out}
        train = tuple(index for index in indices if index not in kept)
        if not 0 < len(train) < len(indices):
            raise ValueError(
                f"of the dataset's {len(indices)} readable episodes {len(train)} are to train on, and the others to "
                f"hold out (number {', '.join(map(str, hold_out))}); it takes one of each"
            )
        return train, tuple(index for index in indices if index in kept)
    held_out = max(1, len(indices) // 10)
    return tuple(indices[:-held_out]), tuple(indices[-held_out:])


def fully_known(episodes: Sequence[EpisodeArrays]) -> list[EpisodeArrays]:
    """Those whose every action is known; where there is none, all of them without their actions."""
    known = [episode for episode in episodes if episode.all_known]
    return known or [replace(episode, actions=None, known=None) for episode in episodes]


def spread(count: int, total: int) -> list[int]:
    """At most `count` numbers spread evenly over range(total), both ends among them."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


class Clips:
    """All clips of some episodes, numbered from 0.

    length: frames in a clip. stride: rows from one frame to the next.
    to_the_end: where outcomes were recorded, also those clips that reach beyond the last frame.
    An episode too short for a clip gives one. What is missing of a clip is padded with the last frame and marked so in
    `valid`. ValueError when every episode is too short.
    """

    def __init__(
        self,
        episodes: Sequence[EpisodeArrays],
        spec: ActionSpec | None,
        *,
        length: int,
        stride: int = 1,
        to_the_end: bool = False,
    ) -> None:
        self._episodes, self._length, self._stride = tuple(episodes), length, stride
        self._spec = spec if any(episode.actions is not None for episode in episodes) else None
        self._partly = any(episode.known is not None for episode in episodes)
        span = (length - 1) * stride + 1
        longest = max((len(episode.content) for episode in episodes), default=0)
        if longest < span:
            raise ValueError(
                f"every episode is shorter than a clip: {length} frames at stride {stride} need {span} rows, "
                f"the longest of {len(episodes)} episodes has {longest}"
            )
        starts = [len(episode.content) - span + 1 for episode in episodes]
        if to_the_end:
            known = [episode.outcomes for episode in episodes]
            starts = [
                count if each is None else int(each.valid.sum()) for count, each in zip(starts, known, strict=True)
            ]
        self._ends = np.cumsum([max(1, count) for count in starts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def where(self, clip: int) -> tuple[int, int]:
        """The dataset's number of the clip's episode, and the row it starts at."""
        place, start = self._find(clip)
        return self._episodes[place].index, start

    def first_from(self, episode: int) -> int:
        """The first clip of the episodes whose number in the dataset is `episode` or more; len(self) where none is."""
        old = sum(each.index < episode for each in self._episodes)
        return int(self._ends[old - 1]) if old else 0

    def following(self, clip: int) -> int:
        """How many clips of the same episode follow a clip; they have the numbers after its own."""
        place, _ = self._find(clip)
        return int(self._ends[place]) - 1 - clip

    def batch(self, indices: Sequence[int], seeds: Sequence[int] | Tensor | None = None) -> Clip | CodeClip:
        """These clips as one batch: a Clip of frames in [-1, 1], or a CodeClip where the episodes hold codes."""
        parts = [self._clip(*self._find(int(index))) for index in indices]
        contents, actions, known, outcomes, valid, tasks = zip(*parts, strict=True)
        content = np.stack(contents)
        rest = {
            "actions": None if self._spec is None else torch.from_numpy(np.stack(actions)),
            "valid": torch.from_numpy(np.stack(valid)),
            "task": tasks,
            "known": torch.from_numpy(np.stack(known)) if self._spec is not None and self._partly else None,
            "seeds": None if seeds is None else torch.as_tensor(seeds, dtype=torch.int64),
            "outcomes": _stacked(outcomes),
        }
        if content.ndim == 3:
            return CodeClip(codes=torch.from_numpy(content.astype(np.int64)), **rest)
        return Clip(frames=frames_of(content), **rest)

    def _find(self, clip: int) -> tuple[int, int]:
        if not 0 <= clip < len(self):
            raise IndexError(f"clip {clip} of {len(self)}")
        place = int(np.searchsorted(self._ends, clip, side="right"))
        return place, clip - (int(self._ends[place - 1]) if place else 0)

    def _clip(
        self, place: int, start: int
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, Outcomes | None, np.ndarray, str]:
        episode, length, stride = self._episodes[place], self._length, self._stride
        rows = (length - 1) * stride  # those whose steps lie in the clip
        content = episode.content[start : start + rows + 1 : stride]
        num_valid = len(content)
        if num_valid < length:
            content = np.concatenate([content, np.repeat(content[-1:], length - num_valid, axis=0)])
        outcomes, steps = None, num_valid - 1
        if episode.outcomes is not None:
            outcomes = episode.outcomes.part(start, start + rows).join(stride)
            steps = max(steps, int(outcomes.valid.sum()))
        actions, known = None, np.zeros(length - 1, bool)
        if self._spec is not None:
            assert episode.actions is not None
            done = episode.actions[start : start + rows]
            done = np.concatenate([done, np.repeat(episode.actions[-1:], rows - len(done), axis=0)])
            actions = self._spec.join(done, stride)
            actions[steps:] = 0
            sure = np.ones(len(episode.content), bool) if episode.known is None else episode.known
            there = sure[np.minimum(start + np.arange(rows), len(sure) - 1)]
            known = there.reshape(-1, stride).all(1) & (np.arange(length - 1) < steps)
        return content, actions, known, outcomes, np.arange(length) < num_valid, episode.task


def _stacked(each: Sequence[Outcomes | None]) -> Outcomes | None:
    """Outcomes (S,) of B clips -> (B, S). Those of clips without any are not valid; None where no clip has some."""
    like = next((outcomes for outcomes in each if outcomes is not None), None)
    if like is None:
        return None
    nothing = [None if value is None else torch.zeros_like(value) for value in vars(like).values()]
    known = [Outcomes(*nothing) if outcomes is None else outcomes for outcomes in each]  # type: ignore[arg-type]

    def stacked(values: Sequence[Tensor | None]) -> Tensor | None:
        there = [value for value in values if value is not None]
        return torch.stack(there) if len(there) == len(values) else None

    return Outcomes(
        stacked([one.reward for one in known]),
        stacked([one.terminated for one in known]),
        stacked([one.truncated for one in known]),
        torch.stack([one.valid for one in known]),
    )


def frames_of(content: np.ndarray) -> Tensor:
    """uint8 contents of `EpisodeArrays` (B, T, H, W, 3 or 5) -> float (B, T, 3 or 4, H, W) in [-1, 1]."""
    colour = to_model(np.ascontiguousarray(content[..., :3]))
    if content.shape[-1] == 3:
        return colour
    depth = codes_to_model(unpack_codes(content[..., 3:]))
    return torch.cat([colour, depth.unsqueeze(-3)], dim=-3)
