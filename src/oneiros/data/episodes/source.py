"""A dataset as training sees it: frames of the model's size, split into episodes to train on and episodes held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oneiros.agreement import Controls, check_agreement
from oneiros.console import say
from oneiros.data.episodes.clips import Clips, EpisodeArrays, fully_known, load_frames, split_episodes
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.remote.hub import revision_of
from oneiros.data.frames import resized
from oneiros.disk import alone, check_room
from oneiros.records import ActionSpec, Camera
from oneiros.run_folder import Origin, held_out_before


@dataclass(frozen=True)
class Episodes:
    """Episodes to train on and episodes held out, of frames or of codes. origin: where they come from."""

    train: list[EpisodeArrays]
    held_out: list[EpisodeArrays]
    action_spec: ActionSpec | None
    fps: float
    origin: Origin

    def holding_out(self, indices: Sequence[int]) -> Episodes:
        """The same episodes, of which these are held out; none: as they are."""
        if set(indices) in (set(), {episode.index for episode in self.held_out}):
            return self
        every = {episode.index: episode for episode in (*self.train, *self.held_out)}
        train, held_out = split_episodes(sorted(every), indices)
        return replace(
            self,
            train=[every[index] for index in train],
            held_out=[every[index] for index in held_out],
            origin=replace(self.origin, train=train, held_out=held_out),
        )

    def clips(self, *, length: int, stride: int = 1, to_the_end: bool = False) -> Clips:
        """Clips of `length` frames to train on. to_the_end: see `Clips`."""
        return Clips(self.train, self.action_spec, length=length, stride=stride, to_the_end=to_the_end)

    def held_out_clips(self, *, length: int, stride: int = 1) -> Clips:
        """Clips of the held-out episodes, whole ones only, shorter than asked for where the held-out episodes are. Of
        episodes whose actions are known, where there are any; else without actions."""
        known = fully_known(self.held_out)
        rows = max(len(episode.content) for episode in known)
        length = min(length, 1 + (rows - 1) // stride)
        whole = [episode for episode in known if len(episode.content) > (length - 1) * stride]
        return Clips(whole, self.action_spec, length=length, stride=stride)


@dataclass(frozen=True)
class FrameSource:
    """Episodes of a dataset as frames of (height, width) pixels, decoded once and kept in `cache`.

    depth: as a fourth channel. camera: None = the first. hold_out: see `split_episodes`.
    """

    dataset: Dataset
    size: tuple[int, int]
    depth: bool
    camera: str | None
    cache: Path
    hold_out: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """A name for the frames and what is kept beside them, which changes whenever they do."""
        outcomes = "-steps" if self.dataset.pays or self.dataset.ends else ""
        return f"{self.dataset.fingerprint()}-{self.dataset.camera(self.camera).name}{outcomes}"

    def episodes(self) -> Episodes:
        """All episodes. Raises ValueError where too few can be decoded."""
        loaded = {episode.index: episode for episode in self._load([each.index for each in self.dataset.episodes])}
        train, held_out = self.split(list(loaded))
        return self._episodes([loaded[index] for index in train], [loaded[index] for index in held_out])

    def split(self, decoded: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The numbers of episodes to train on, and of those held out, where these can be decoded."""
        there = tuple(sorted({*decoded} & {*self.hold_out}))
        if self.hold_out and not there:
            numbers = ", ".join(map(str, self.hold_out[:5])) + (", ..." if len(self.hold_out) > 5 else "")
            raise ValueError(f"{self.dataset.path}: no episode to hold out (number {numbers}) can be decoded")
        return split_episodes(decoded, there)

    def origin(self, train: Sequence[int], held_out: Sequence[int]) -> Origin:
        """What a run learned from that learned from these episodes, and held out those."""
        depth_camera = resized(self.dataset.camera(kind="depth"), *self.size) if self.depth else None
        return origin_of(self.dataset, self.dataset.camera(self.camera), depth_camera, train, held_out)

    def held_out(self, indices: Sequence[int]) -> Episodes:
        """Only these, which training never sees. Raises ValueError where none can be decoded."""
        return self._episodes([], self._load(indices))

    def _load(self, indices: Sequence[int]) -> list[EpisodeArrays]:
        return decoded_frames(
            self.dataset, indices, size=self.size, camera=self.camera, depth=self.depth, cache=self.cache
        )

    def _episodes(self, train: list[EpisodeArrays], held_out: list[EpisodeArrays]) -> Episodes:
        origin = self.origin([episode.index for episode in train], [episode.index for episode in held_out])
        return Episodes(train, held_out, self.dataset.action_spec, self.dataset.fps, origin)


def joined(parts: Sequence[Episodes]) -> Episodes:
    """Episodes of several datasets as one. The first says what actions are and how they are spread; those of a dataset
    without any are not known. ValueError where actions or rates differ, and where the first knows none of its actions
    and another does."""
    first, *rest = parts
    of_first = Controls(str(first.origin.path), first.action_spec, first.fps)
    for each in rest:
        name = str(each.origin.path)
        check_agreement(Controls(name, each.action_spec or first.action_spec, each.fps), of_first)
        if _acts(each) and not _acts(first):
            raise ValueError(f"{of_first.name} has no action that is known; name {name}, which has some, before it")
    spec = first.action_spec
    train = [_as_of(spec, episode) for each in parts for episode in each.train]
    held_out = [_as_of(spec, episode) for each in parts for episode in each.held_out]
    origin = replace(first.origin, further=tuple(each.origin for each in rest))
    return replace(first, train=train, held_out=held_out, origin=origin)


def _acts(episodes: Episodes) -> bool:
    """Whether any action is known."""
    every = (*episodes.train, *episodes.held_out)
    return any(each.actions is not None and (each.known is None or each.known.any()) for each in every)


def _as_of(spec: ActionSpec | None, episode: EpisodeArrays) -> EpisodeArrays:
    """An episode of a dataset whose actions are these: where it has none, they only fill the rows."""
    if spec is None or episode.actions is not None:
        return episode
    rows = len(episode.content)
    kind = {"discrete": np.int64, "keys": np.bool_, "continuous": np.float32}[spec.kind]
    return replace(episode, actions=np.zeros((rows, *spec.shape()), kind), known=np.zeros(rows, bool))


def check_resumed(run: Path, dataset: Dataset, *, data_changed: bool, place: int = 0) -> tuple[int, ...]:
    """For a run that goes on with a dataset: see `oneiros.run_folder.held_out_before`."""
    indices = [each.index for each in dataset.episodes]
    return held_out_before(run, dataset.path, dataset.fingerprint(), indices, data_changed=data_changed, place=place)


def origin_of(
    dataset: Dataset,
    camera: Camera,
    depth_camera: Camera | None,
    train: Sequence[int],
    held_out: Sequence[int] = (),
    *,
    state_names: Sequence[str] = (),
) -> Origin:
    """The origin of a run that learned from the episodes `train`, as these cameras recorded them."""
    return Origin(
        path=str(dataset.path),
        revision=revision_of(dataset.path),
        fingerprint=dataset.fingerprint(),
        environment=dataset.info.get("robot_type"),
        fps=dataset.fps,
        camera=camera,
        depth_camera=depth_camera,
        state_names=tuple(state_names),
        train=tuple(train),
        held_out=tuple(held_out),
    )


def decoded_frames(
    dataset: Dataset,
    indices: Sequence[int],
    *,
    size: tuple[int, int],
    camera: str | None,
    depth: bool,
    cache: Path,
) -> list[EpisodeArrays]:
    """Episodes of a dataset as frames (height, width = size), decoded once and kept in frames/ of `cache`.

    indices: the dataset's numbers of them. Prints what room they take; raises OSError where there is too little.
    """
    height, width = size
    wanted = {*indices}
    rows = sum(episode.length for episode in dataset.episodes if episode.index in wanted)
    folder = cache / "frames"
    with alone(folder):
        needed = rows * height * width * (5 if depth else 3)
        say(check_room(folder, needed, f"{rows:,} decoded frames take", there=True))
        return load_frames(dataset, indices, height=height, width=width, camera=camera, depth=depth, cache=folder)
