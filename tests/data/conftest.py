"""Recordings whose every frame shows a running number, so that any frame out of place is seen."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from oneiros.data.episodes.writer import DatasetWriter
from oneiros.records import ActionSpec, Camera

BITS = 10


class Counting:
    """Draws, records and reads running numbers.

    The frame, depth, labels, action and state of one row all tell the same number. Episode k's task is "task k mod 2".
    """

    fps = 7  # 1 / 7 is no exact float, and no multiple of a millisecond
    rgb = Camera("observation.images.front", 32, 40, fx=30.0, fy=31.0, cx=20.0, cy=16.0)
    depth = Camera("observation.depth.front", 32, 40, "depth", depth_max=30.0)
    labels = Camera("observation.labels.front", 32, 40, "labels", classes=("nothing", "wall", "medikit"))
    cameras = (rgb, depth, labels)
    keys = ActionSpec("keys", tuple(f"KEY_{bit}" for bit in range(BITS)))
    state_names = ("number", "half")

    @staticmethod
    def draw(number: int, camera: Camera = rgb) -> np.ndarray:
        """BITS vertical bars, white for 1."""
        bits = (number >> np.arange(BITS)) & 1
        columns = bits[np.arange(camera.width) * BITS // camera.width]
        return np.broadcast_to((columns * 255).astype(np.uint8)[None, :, None], (camera.height, camera.width, 3))

    @staticmethod
    def read(frame: np.ndarray) -> int:
        height, width = frame.shape[:2]
        centres = (2 * np.arange(BITS) + 1) * width // (2 * BITS)
        return int(((frame[height // 2, centres, 0] > 127).astype(int) << np.arange(BITS)).sum())

    @classmethod
    def action(cls, number: int, spec: ActionSpec) -> int | np.ndarray:
        if spec.kind == "discrete":
            return number % spec.size
        if spec.kind == "keys":
            return (number >> np.arange(spec.size)) & 1
        return number + np.arange(spec.size) / 8

    @classmethod
    def record(
        cls, path, lengths: Sequence[int], *, first: int = 0, cameras=(rgb,), spec=keys, states=True, fps: int = fps
    ) -> None:
        """Record episodes of these lengths, numbering rows from `first` on."""
        numbers = iter(range(first, first + sum(lengths)))
        names = cls.state_names if states else ()
        with DatasetWriter(path, fps=fps, cameras=cameras, action_spec=spec, state_names=names) as writer:
            for length in lengths:
                with writer.episode(task=f"task {writer.num_episodes % 2}") as episode:
                    cls.fill(episode, numbers, length, cameras=cameras, spec=spec, states=states)

    @classmethod
    def fill(cls, episode, numbers: Iterator[int], length: int, *, cameras=(rgb,), spec=keys, states=True) -> None:
        for _ in range(length):
            number = next(numbers)
            seen = {
                "rgb": cls.draw(number),
                "depth": np.full((32, 40), 1 + number / 100),
                "labels": np.full((32, 40), number),
            }
            episode.add(
                images={camera.name: seen[camera.kind] for camera in cameras},
                action=None if spec is None else cls.action(number, spec),
                state=[number, number / 2] if states else None,
            )

    @classmethod
    def numbers(cls, dataset, episode: int, **rows) -> list[int]:
        """What the frames of an episode show."""
        return [cls.read(frame) for frame in dataset.frames(episode, **rows)]

    @classmethod
    def check(cls, dataset, lengths: Sequence[int]) -> None:
        """Every row of every episode, in every stream the dataset has, tells the number it should."""
        assert [episode.length for episode in dataset.episodes] == list(lengths)
        first = 0
        for episode in dataset.episodes:
            expected = list(range(first, first + episode.length))
            assert cls.numbers(dataset, episode.index) == expected
            assert episode.task == f"task {episode.index % 2}"
            kinds = {camera.kind for camera in dataset.cameras}
            if "depth" in kinds:
                metres = dataset.depth(episode.index)
                assert metres.dtype == np.float32
                np.testing.assert_allclose(metres[:, 3, 5], 1 + np.array(expected) / 100, atol=0.005)
            if "labels" in kinds:
                assert dataset.labels(episode.index)[:, 3, 5].tolist() == expected
            for row, number in enumerate(expected):
                np.testing.assert_allclose(
                    np.asarray(dataset.actions(episode.index)[row], float), cls.action(number, dataset.action_spec)
                )
            if dataset.state_names:
                assert dataset.states(episode.index).tolist() == [[number, number / 2] for number in expected]
            first += episode.length


@pytest.fixture(scope="session")
def counting() -> type[Counting]:
    return Counting
