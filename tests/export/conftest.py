"""A small run of pixels, and what `oneiros export --onnx` makes of it, once a session."""

import contextlib
import io
from pathlib import Path

import pytest

NAMES = ("frames", "actions", "valid")


@pytest.fixture(scope="session")
def pixel_run(tmp_path_factory) -> Path:
    """A run folder of a world of colour and depth with keys, which pays, and might end but for its odds."""
    import torch

    from oneiros.records import Clip
    from oneiros.run_folder import Origin
    from oneiros.world.starts import save_starts
    from tests.export.worlds import CAMERA, pixel_world, starts_of

    folder = tmp_path_factory.mktemp("runs") / "world"
    world = pixel_world("keys", depth=True, reward_values=(0.0, 1.0), end_rate=0.2)
    assert world.outcome_head is not None
    torch.nn.init.constant_(world.outcome_head.end.bias, -12.0)
    world.save(folder, data=Origin(depth_camera=CAMERA))
    starts = starts_of(world, "keys")
    frames, actions, valid = (torch.cat([getattr(start, name) for start in starts]) for name in NAMES)
    save_starts(Clip(frames, actions, valid), folder)
    return folder


@pytest.fixture(scope="session")
def exported(pixel_run, tmp_path_factory) -> tuple[Path, str]:
    """What `oneiros export` wrote, and what it printed."""
    from oneiros.cli import main

    folder = tmp_path_factory.mktemp("exported") / "world"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main(["export", str(pixel_run), "--onnx", str(folder)])
    return folder, printed.getvalue()
