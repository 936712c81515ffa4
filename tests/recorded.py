"""A small recorded world, of a bright square on a dark floor that moves as told; and a few small towns."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from oneiros.data.episodes.writer import DatasetWriter
from oneiros.points.settings import SegmenterSettings
from oneiros.policy.settings import PolicySettings
from oneiros.records import ActionSpec, Camera
from oneiros.world.settings import TokenizerSettings, WorldSettings

SIZE, NUM_EPISODES, LENGTH, NUM_STEPS = 32, 6, 30, 24
SPEC = ActionSpec("discrete", ("left", "stay", "right"))
XY = ActionSpec("continuous", ("x", "y"))
RGB = Camera("observation.images.front", SIZE, SIZE)
DEPTH = Camera("observation.depth.front", SIZE, SIZE, "depth", fx=32.0, fy=32.0, cx=15.5, cy=15.5)
LABELS = Camera("observation.labels.front", SIZE, SIZE, "labels", classes=("floor", "square"))


def record(
    path: Path,
    *,
    spec: ActionSpec | None = SPEC,
    depth: bool = False,
    labels: bool = False,
    states: bool = False,
    intrinsics: bool = True,
    num_episodes: int = NUM_EPISODES,
    tasks: Sequence[str] = ("move",),
) -> Path:
    """Frames whose square moves by 4 pixels as told; its depth is 1 m, the floor's 5 m.

    states: where the square is, and a number that never changes. tasks: of the episodes, in turn.
    """
    random = np.random.default_rng(0)
    eye = DEPTH if intrinsics else replace(DEPTH, fx=0.0, fy=0.0)
    cameras = (RGB, *([eye] if depth else []), *([LABELS] if labels else []))
    names = ("place", "constant") if states else ()
    with DatasetWriter(path, fps=10, cameras=cameras, action_spec=spec, state_names=names) as writer:
        for number in range(num_episodes):
            place = random.integers(SIZE)
            with writer.episode(task=tasks[number % len(tasks)]) as episode:
                for _ in range(LENGTH):
                    move = int(random.integers(3))
                    action, state = None if spec is None else encode(move, spec), np.array([place, 7.0])
                    episode.add(images=draw(place, cameras), action=action, state=state if states else None)
                    place = (place + 4 * (move - 1)) % SIZE
    return path


def draw(place: int, cameras: tuple[Camera, ...]) -> dict[str, np.ndarray]:
    image = np.full((SIZE, SIZE, 3), (40, 30, 60), np.uint8)
    metres = np.full((SIZE, SIZE), 5.0, np.float32)
    classes = np.zeros((SIZE, SIZE), np.uint16)
    columns = (place + np.arange(8)) % SIZE
    image[12:20, columns], metres[12:20, columns], classes[12:20, columns] = (220, 200, 40), 1.0, 1
    seen = {"rgb": image, "depth": metres, "labels": classes}
    return {camera.name: seen[camera.kind] for camera in cameras}


def encode(move: int, spec: ActionSpec) -> int | np.ndarray:
    if spec.kind == "discrete":
        return move
    if spec.kind == "keys":
        return np.array([move == 0, move == 2])
    return np.array([move - 1.0, 0.5])


def tokenizer_settings(data: Path, out: Path, **options) -> TokenizerSettings:
    defaults = {
        "preset": "tiny",
        "height": SIZE,
        "width": SIZE,
        "steps": 30,
        "precision": "float32",
        "sharpen_steps": 0,
    }
    return TokenizerSettings(data=data, out=out, **{**defaults, **options})


def world_settings(out: Path, **options) -> WorldSettings:
    defaults = {"preset": "tiny", "steps": NUM_STEPS, "tokens_per_step": 4, "precision": "float32", "save_every": 5}
    return WorldSettings(out=out, **{**defaults, **options})


def segmenter_settings(clouds: Sequence[Path], out: Path, **options) -> SegmenterSettings:
    defaults = {"preset": "tiny", "steps": 60, "batch_size": 2, "precision": "float32", "grid": 1.0, "radius": 8.0}
    return SegmenterSettings(clouds=tuple(clouds), out=out, **{**defaults, **options})


def policy_settings(data: Path, world: Path, out: Path, **options) -> PolicySettings:
    defaults = {"preset": "tiny", "steps": 12, "precision": "float32", "save_every": 4, "imagined_frames": 2}
    return PolicySettings(data=data, world=world, out=out, **{**defaults, **options})
