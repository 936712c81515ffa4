"""Small worlds of pixels with scrambled weights, their starts, and dreamers that run their graphs without ONNX."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneiros.data.frames import to_model
from oneiros.export.onnx_files import parts_of
from oneiros.export.programs.dream import OnnxDream
from oneiros.export.world_folder import describe, write_about
from oneiros.records import Camera, Clip
from oneiros.world.model import World
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from tests.places import ROOT
from tests.world.worlds import make_world, random_actions, scramble

# The npm package onnxruntime-web, where this machine has it.
_PLACES = (Path(os.environ.get("ONNXRUNTIME_WEB", "nowhere")), ROOT / "node_modules" / "onnxruntime-web")
RUNTIME = next((place for place in _PLACES if (place / "package.json").is_file()), None)

SIDE = 32
CAMERA = Camera("observation.depth.front", SIDE, SIDE, "depth", fx=16, fy=16, cx=15.5, cy=15.5)


def pixel_world(
    kind: str | None,
    *,
    levels: int = 2,
    depth: bool = False,
    temporal_convs: bool = False,
    reference_frame: bool = False,
    **options,
) -> World:
    torch.manual_seed(7)
    config = TokenizerConfig(
        height=SIDE,
        width=SIDE,
        channels=4 if depth else 3,
        codebook_size=12,
        codebook_levels=levels,
        code_dim=4,
        codec_width=8,
        codec_depth=1,
        temporal_convs=temporal_convs,
        temporal_kernel_size=3,
        reference_frame=reference_frame,
    )
    tokenizer = Tokenizer(config)
    scramble(tokenizer)
    world = make_world(kind, tokenizer=tokenizer, **options)
    if world.outcome_head is not None:
        scramble(world.outcome_head)  # new ones say the same of every step
    return world


def starts_of(world: World, kind: str | None, count: int = 2, frames: int = 5) -> list[Clip]:
    size, rng = world.tokenizer.config, np.random.default_rng(3)
    pixels = to_model(rng.integers(0, 256, (count, frames, SIDE, SIDE, 3), np.uint8))
    if size.depth:
        codes = torch.from_numpy(rng.integers(0, 4096, (count, frames, 1, SIDE, SIDE)).astype(np.float32))
        pixels = torch.cat([pixels, codes * (2 / 4095) - 1], 2)
    actions = random_actions(kind, count, frames - 1, repeats=world.actions_per_step)
    valid = torch.ones(1, frames, dtype=torch.bool)
    return [
        Clip(pixels[index : index + 1], None if actions is None else actions[index : index + 1], valid)
        for index in range(count)
    ]


class EagerDream(OnnxDream):
    """The program that is exported, over graphs that torch runs itself."""

    def __init__(self, world: World, starts: list[Clip], folder: Path) -> None:
        camera = CAMERA if world.tokenizer.config.depth else None
        about = describe(world, title="toy", num_starts=len(starts), depth_camera=camera, precision="float32")
        write_about(world, starts, folder, about)
        self._parts = {part.name: part for part in parts_of(world)}
        super().__init__(folder)

    def _session(self, name: str):
        return _Eager(self._parts[name])


class _Eager:
    def __init__(self, part) -> None:
        self._part = part

    @torch.no_grad()
    def run(self, _, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert list(feeds) == list(self._part.inputs)
        for name, value, example in zip(feeds, feeds.values(), self._part.example, strict=True):
            assert value.shape == tuple(example.shape) or self._part.shapes, name
        given: list[Tensor] = [torch.from_numpy(value.copy()) for value in feeds.values()]
        results = self._part.graph(*given)
        return [result.numpy() for result in (results if isinstance(results, tuple) else (results,))]
