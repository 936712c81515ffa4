"""Moments of demonstrations: at which rows of which episodes a policy learns to act, and what it should do there.

Legend: B batch, H actions of a chunk, A numbers of an action, S numbers of the robot's own state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from oneiros.agreement import Controls, check_agreement
from oneiros.console import say
from oneiros.data.episodes.clips import EpisodeArrays
from oneiros.data.episodes.dataset import Dataset
from oneiros.records import ActionSpec, PolicyBatch


@dataclass(frozen=True)
class Demonstration:
    """An episode without its pictures. actions: a row each, as `Dataset.actions`. states: float32 (T, S) or None."""

    index: int
    task: str
    actions: np.ndarray
    states: np.ndarray | None

    def __len__(self) -> int:
        return len(self.actions)


def acted(episodes: Sequence[EpisodeArrays]) -> list[EpisodeArrays]:
    """Those whose every action is known, from which alone acting can be learned; how many are not is said.
    ValueError where there is none."""
    found = [episode for episode in episodes if episode.actions is None or episode.all_known]
    if not found:
        raise ValueError("no episode says all that was done in it; infer what is missing with `oneiros actions`")
    if len(found) < len(episodes):
        say(f"{len(episodes) - len(found)} of {len(episodes)} episodes are left out: not all their actions are known")
    return found


def read_demonstrations(dataset: Dataset, episodes: Sequence[EpisodeArrays]) -> list[Demonstration]:
    """What was done in `episodes`, in their order. ValueError for a dataset without actions, or states of no number."""
    if dataset.action_spec is None:
        raise ValueError(f"{dataset.path}: has no actions to learn from; record it with a policy that acts")
    found = []
    for episode in episodes:
        assert episode.actions is not None
        states = dataset.states(episode.index)
        if states is not None and not np.isfinite(states).all():
            row, place = np.argwhere(~np.isfinite(states))[0]
            raise ValueError(
                f"{dataset.path}: episode {episode.index}, row {row}: state {dataset.state_names[place]} is "
                f"{states[row, place]}"
            )
        found.append(Demonstration(episode.index, episode.task, episode.actions, states))
    return found


class Moments:
    """Every `every`-th row of each demonstration at which something was done, numbered from 0.

    horizon: H. tasks: those of the demonstrations, in the order in which they occur.
    The last row of an episode is what its last action led to: nothing is done there (see `data.lerobot`).
    ValueError when there is no such row, or `every` or `horizon` is below 1.
    """

    def __init__(
        self, demonstrations: Sequence[Demonstration], spec: ActionSpec, *, horizon: int, every: int = 1
    ) -> None:
        for name, value in (("every", every), ("action_horizon", horizon)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.demonstrations, self.spec, self.horizon, self.every = tuple(demonstrations), spec, horizon, every
        self.tasks = tuple(dict.fromkeys(each.task for each in demonstrations))
        self._ends = np.cumsum([-(-max(len(each) - 1, 0) // every) for each in demonstrations])
        if not len(self):
            raise ValueError("there is nothing to learn from: no episode has two rows")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def where(self, moment: int) -> tuple[int, int]:
        """The place of the moment's demonstration in the list, and its row there."""
        if not 0 <= moment < len(self):
            raise IndexError(f"moment {moment} of {len(self)}")
        place = int(np.searchsorted(self._ends, moment, side="right"))
        return place, (moment - (int(self._ends[place - 1]) if place else 0)) * self.every

    def batch(self, moments: Sequence[int], seeds: torch.Tensor | None = None) -> PolicyBatch:
        """State, goal and the next H actions of these moments; observations are left to the caller."""
        places = [self.where(moment) for moment in moments]
        actions, valid = zip(*(self._chunk(*place) for place in places), strict=True)
        states = [state for place in places if (state := self._state(*place)) is not None]
        return PolicyBatch(
            features=None,
            frames=None,
            state=torch.from_numpy(np.stack(states)) if states else None,
            goal=torch.tensor([self.tasks.index(self.demonstrations[place].task) for place, _ in places]),
            depth=None,
            teacher=None,
            teacher_mask=None,
            actions=torch.from_numpy(np.stack(actions)),
            valid=torch.from_numpy(np.stack(valid)),
            seeds=seeds,
        )

    def _chunk(self, place: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Actions from `row` on, the last one repeated beyond the episode's end, and which of them were done."""
        actions = self.demonstrations[place].actions
        rows = row + np.arange(self.horizon)
        last = len(actions) - 2
        return actions[np.minimum(rows, last)], rows <= last

    def _state(self, place: int, row: int) -> np.ndarray | None:
        states = self.demonstrations[place].states
        return None if states is None else states[row]

    def check_like(self, run: Path, spec: ActionSpec, tasks: Sequence[str], num_states: int) -> None:
        """For a run that goes on. ValueError where these are other tasks, actions or states than it learned so far."""
        check_agreement(Controls("the dataset", self.spec), Controls(str(run), spec))
        if self.tasks != tuple(tasks):
            raise ValueError(f"the dataset has the tasks {', '.join(self.tasks)}; {run} learned {', '.join(tasks)}")
        if len(self.state_statistics()[0]) != num_states:
            found = len(self.state_statistics()[0])
            raise ValueError(f"the dataset has states of {found} numbers; {run} learned from {num_states}")

    def state_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of every number of the states (see `mean_and_std`); empty without states."""
        states = [each.states for each in self.demonstrations if each.states is not None]
        return mean_and_std(np.concatenate(states)) if states else ((), ())


def actions_between(actions: np.ndarray, spec: ActionSpec, row: int, count: int, stride: int) -> np.ndarray:
    """Actions (count - 1, ...) between the frames at `observed_rows`; zeros before the episode."""
    before = (count - 1) * stride
    done = actions[max(row - before, 0) : row]
    nothing = np.zeros((before - len(done), *actions.shape[1:]), actions.dtype)
    return spec.join(np.concatenate([nothing, done]), stride)


def mean_and_std(rows: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every column of (n, C); the latter is 1 for a column that never changes."""
    mean, std = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    std[std < 1e-6] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())
