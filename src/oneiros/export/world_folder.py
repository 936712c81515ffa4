"""An exported world as a folder: its graphs, what a program must know of them, starts, and programs that dream."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from oneiros.console import Advance
from oneiros.data.depth import MAX_CODE
from oneiros.data.frames import to_uint8
from oneiros.disk import replacing
from oneiros.export.graphs import ActionVector, time_frequencies
from oneiros.export.onnx_files import Precision, parts_of, write_parts
from oneiros.export.readme import readme
from oneiros.records import Camera, Clip
from oneiros.sampling import Sampling
from oneiros.world.model import World

WORLD, STARTS, FRAMES = "world.json", "starts.json", "starts.bin"
PROGRAMS = ("dream.py", "dream.mjs")


def check_exportable(world: World) -> None:
    """Raises ValueError, saying why, for a world whose dreams an exported one could not have."""
    stride = world.tokenizer.temporal_stride
    if stride > 1:
        raise ValueError(
            f"this world's video codec makes {stride} frames of a latent; export takes codecs that work frame by frame"
        )
    if getattr(world.tokenizer.codec, "unbounded", False):
        raise ValueError("this world dreams latents, not pixels: there is no decoder to export")
    if world.tokenizer.config.reference_frame and world.config.carry_detail:
        raise ValueError("this world has both a reference frame and --carry-detail, which export cannot do together")


def write_world(
    world: World,
    starts: Sequence[Clip],
    folder: Path,
    *,
    title: str,
    depth_camera: Camera | None = None,
    precision: Precision = "float32",
    to_encode: bool = True,
    track: Callable[[int], Advance] = lambda graphs: lambda amount: None,
) -> dict[str, int]:
    """Write the graphs, world.json, the starts and the programs into `folder`, which is made; returns the graphs' sizes
    in bytes by name. to_encode: with what turns frames into codes. track: given how many graphs there are, returns what
    is called with 1 for each that is written.

    The world must be in float32, not prepared for inference. Raises ValueError for one that cannot be exported.
    """
    check_exportable(world)
    folder.mkdir(parents=True, exist_ok=True)
    about = describe(world, title=title, num_starts=len(starts), depth_camera=depth_camera, precision=precision)
    write_about(world, starts, folder, about)
    parts = [part for part in parts_of(world) if to_encode or part.name != "encode"]
    return write_parts(parts, folder, precision=precision, advance=track(len(parts)))


def write_about(world: World, starts: Sequence[Clip], folder: Path, about: Mapping[str, Any]) -> None:
    """All but the graphs. about: see `describe`."""
    described = [described_start(world, start) for start in starts]
    contents = {
        WORLD: json.dumps(about, indent=1).encode(),
        STARTS: json.dumps(described, separators=(",", ":")).encode(),
        FRAMES: b"".join(_frame(start) for start in starts),
        "README.md": readme(about).encode(),
    }
    contents |= {name: (resources.files("oneiros.export") / "programs" / name).read_bytes() for name in PROGRAMS}
    for name, content in contents.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)


def describe(
    world: World, *, title: str, num_starts: int, depth_camera: Camera | None, precision: Precision
) -> dict[str, Any]:
    """What a program must know of the graphs, in JSON's types."""
    config, dynamics, size = world.config, world.dynamics, world.tokenizer.config
    layout, sampling, spec = dynamics.layout, Sampling(), config.action_spec
    names = ("depth_min", "depth_max", "depth_shift", "depth_log", "fx", "fy", "cx", "cy")
    depth = depth_camera if size.depth else None
    return {
        "format": 1,
        "title": title,
        "precision": precision,
        "fps": config.fps,
        "height": size.height,
        "width": size.width,
        "channels": size.channels,
        "levels": len(dynamics.levels),
        "entries": dynamics.levels.shape[1],
        "num_codes": layout.num_codes,
        "tokens_per_step": layout.tokens_per_step,
        "steps": layout.num_steps,
        "elements": layout.num_elements,
        "window": dynamics.window,
        "layers": len(dynamics.blocks),
        "heads": dynamics.heads,
        "head_dim": dynamics.head_dim,
        "order": layout.order.tolist(),
        "time_frequencies": time_frequencies(dynamics),
        "lookback": world.tokenizer.lookback,
        "reference_frame": size.reference_frame,
        "carry_detail": config.carry_detail > 0,
        "action_spec": spec.to_json() if spec else None,
        "action_size": ActionVector(world).size,
        "pays": config.pays,
        "ends": config.ends,
        "temperature": sampling.temperature,
        "min_p": sampling.min_p,
        "num_starts": num_starts,
        "depth": {name.removeprefix("depth_"): getattr(depth, name) for name in names} if depth else None,
    }


def described_start(world: World, start: Clip) -> dict[str, Any]:
    """`codes` (T, N) of a start's frames, and the `actions` between them as a program gives them, None =
    unknown."""
    codes = world.tokenizer.encode(start.frames)[0]
    actions = None if start.actions is None or world.config.action_spec is None else start.actions[0]
    spec = world.config.action_spec
    if actions is not None and spec is not None:
        actions = actions.long().tolist() if spec.kind != "continuous" else actions.tolist()
    return {"codes": codes.tolist(), "actions": actions}


def _frame(start: Clip) -> bytes:
    """A start's newest frame: red, green, blue for each pixel, then depth codes of 16 bits, little endian."""
    frame = start.frames[0, -1].cpu()
    content = to_uint8(frame).numpy().tobytes()
    if len(frame) == 3:
        return content
    codes = ((frame[3] + 1) * (MAX_CODE / 2)).round().clamp(0, MAX_CODE).numpy()
    return content + codes.astype("<u2").tobytes()
