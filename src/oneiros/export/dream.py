"""A dream whose steps ONNX Runtime computes: the same world, start, seed and actions as torch's, by another engine."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import torch

from oneiros.export.programs.dream import DreamMemory, OnnxDream
from oneiros.export.world_folder import described_start, write_world
from oneiros.records import Camera, Clip
from oneiros.run_folder import read_config, read_origin
from oneiros.sampling import Sampling
from oneiros.world.dream import Dream, Snapshot
from oneiros.world.model import World
from oneiros.world.starts import find_starts


class ExportedDream(Dream):
    """`Dream`, with the steps of an exported world. It has neither guidance nor top-k, and cannot `think`."""

    can_think: ClassVar = False

    def __init__(
        self,
        world: World,
        starts: Sequence[Clip],
        engine: OnnxDream,
        *,
        sampling: Sampling | None = None,
        depth_camera: Camera | None = None,
        environment: str | None = None,
    ) -> None:
        """engine: of this world; its sessions may be shared by several dreams, its memory is this dream's own."""
        super().__init__(world, starts, sampling=sampling, depth_camera=depth_camera, environment=environment)
        self._engine = copy.copy(engine)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        data: Path | None = None,
        image: Path | None = None,
        codec: torch.nn.Module | None = None,
        sampling: Sampling | None = None,
        threads: int = 0,
    ) -> ExportedDream:
        """As `Dream.from_run`; the world is exported on the way, which takes seconds. threads: 0 = all cores.

        Raises ValueError for a world that cannot be exported or dreamt so, ModuleNotFoundError without the packages.
        """
        check_sampling(sampling or Sampling())
        import onnxscript  # noqa: F401 (what is missing is told before there is any work)

        config = read_config(path, World.kind)
        world = World.load(path, codec=codec, config=config).eval()
        starts, origin = find_starts(world, path, data=data, image=image), read_origin(path, config)
        return cls(
            world,
            starts,
            open_engine(world, threads=threads),
            sampling=sampling,
            depth_camera=origin.depth_camera,
            environment=origin.environment,
        )

    def another(self) -> ExportedDream:
        return ExportedDream(
            self.world,
            self.starts,
            self._engine,
            sampling=self.sampling,
            depth_camera=self.depth_camera,
            environment=self.environment,
        )

    def _begin(self, clip: Clip, seed: int) -> OnnxDream:
        start = described_start(self.world, clip)
        self._engine.begin_from(start["codes"], start["actions"], clip.frames[0, -1].numpy(), seed=seed)
        return self._engine

    def _advance(self, action: torch.Tensor | None) -> tuple[torch.Tensor, float, bool, float]:
        check_sampling(self.sampling)
        self._engine.temperature, self._engine.min_p = self.sampling.temperature, self.sampling.min_p
        frame = torch.from_numpy(self._engine.step(None if action is None else action[0].numpy()))
        outcome = self._engine.outcome
        return frame, outcome.reward, outcome.terminated, outcome.end_probability

    def snapshot(self) -> Snapshot:
        if self._newest is None:
            raise ValueError("the dream has not begun; call reset() first")
        return Snapshot(self._engine.snapshot(), torch.empty(0), self._steps, self._newest)

    def restore(self, snapshot: Snapshot) -> None:
        assert isinstance(snapshot.state, DreamMemory)
        self._engine.restore(snapshot.state)
        self._steps, self._newest = snapshot.steps, snapshot.newest

    def think(self) -> tuple[np.ndarray, dict[str, float] | None]:
        raise ValueError("ONNX Runtime does not tell what the model thinks; play without --engine onnx")


def check_sampling(sampling: Sampling) -> None:
    """Raises ValueError for what exported worlds do not have."""
    if sampling.guidance_scale != 1 or sampling.top_k is not None:
        raise ValueError("exported worlds have neither guidance nor top-k; play without --engine onnx")


def open_engine(world: World, *, threads: int = 0) -> OnnxDream:
    """ONNX Runtime with the graphs of a world, which must be as it was trained, in float32. threads: 0 = all cores.

    Raises ValueError for a world that cannot be exported.
    """
    with TemporaryDirectory() as folder:
        write_world(world, (), Path(folder), title="", to_encode=False)
        return OnnxDream(folder, threads=threads)
