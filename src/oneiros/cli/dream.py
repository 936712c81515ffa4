"""`oneiros dream`: a scripted rollout as a video, beside the real episode where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from oneiros.cli.sampling_options import SamplingOptions

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from oneiros.records import Clip
    from oneiros.world.model import World

DESCRIPTION = """Write a video of a dream.

From an episode of a dataset the dream is given the first frames and then the recorded actions; the video shows what
happened on the left and the dream on the right, under a bar that is grey while frames are given and orange while they
are dreamed. With a script of actions, or from a picture, it shows the dream alone.

  oneiros dream runs/world data --episode 3 --out dream.mp4
  oneiros dream runs/world data --actions "MOVE_FORWARD*8,TURN_LEFT*4" --out turn.gif
  oneiros dream runs/world --image photo.png --actions "MOVE_FORWARD*20" --out photo.mp4
"""

CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


@dataclass(frozen=True)
class DreamCommand(SamplingOptions):
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The world's run folder."""
    data: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = None
    """The dataset. Without it, and without a picture, dreams start where training left starts in the run folder."""
    out: Path = Path("dream.mp4")
    """.mp4, .gif or .webp for a moving picture, .png for a strip of frames."""
    episode: int | None = None
    """The episode to dream on from. Default: the first that was held out of training."""
    start: int = 0
    """The episode's row to begin at."""
    context: int = 8
    """Real frames that the dream is given."""
    frames: int | None = None
    """Frames to dream. Default: as many as there are actions, at most 100 of a recording."""
    actions: str | None = None
    """What to do instead of what was recorded: names, + between keys held together, * to repeat, commas between."""
    image: Path | None = None
    """Begin with this picture instead of an episode."""
    codec: str | None = None
    """The codec of the world's tokenizer, where it was made with one of your own: module:factory."""
    device: str = "cpu"
    """Such as cuda."""
    seed: int = 0
    """The same seed gives the same dream."""


def main(arguments: list[str]) -> None:
    dream(tyro.cli(DreamCommand, prog="oneiros dream", args=arguments, description=DESCRIPTION, config=CONFIG))


def dream(command: DreamCommand) -> None:
    """Raises ValueError for a run, dataset, episode, picture, script or ending of --out that does not fit."""
    import numpy as np

    from oneiros.console import bars
    from oneiros.data.frames import to_uint8
    from oneiros.data.pictures import beside, check_ending, enlarge, save_frames
    from oneiros.world.nn.own_codec import make_codec
    from oneiros.world.rollout import begin, roll
    from oneiros.world.starts import load_world

    check_ending(command.out)
    world = load_world(command.run, device=command.device, codec=make_codec(command.codec))
    context, actions, real, origin = _beginning(command, world)
    num_frames = world.tokenizer.whole(1 + _length(command, actions, real)) - 1
    with bars() as track:
        advance = track("dreaming", num_frames)
        options: dict[str, Any] = {"sampling": command.sampling(), "seed": command.seed, "advance": advance}
        dreamed = roll(world, begin(world, context), actions, num_frames=num_frames, **options)[0][0].numpy()
    given = to_uint8(context.frames[0]).cpu().numpy()
    shown = np.concatenate([given, dreamed])
    rows = [shown] if real is None else [np.concatenate([given, real[:num_frames]]), shown]
    video = enlarge(beside(rows, num_given=len(given)))
    save_frames(video, command.out, fps=world.config.fps)
    print(f"{num_frames} frames dreamed from {origin}{_closeness(dreamed, real, given)} -> {command.out}")


def _beginning(command: DreamCommand, world: World) -> tuple[Clip, Tensor | None, np.ndarray | None, str]:
    """The context, the actions that follow, the real frames that they led to (where they did), and its name."""
    script = _script(command, world)
    if command.image is None and command.data is not None:
        return _episode(command, world, command.data, script)
    from oneiros.world.starts import find_starts

    context = find_starts(world, command.run, data=command.data, image=command.image)[0]
    origin = command.image or f"a start in {command.run}"
    return context, script, None, str(origin)


def _script(command: DreamCommand, world: World) -> Tensor | None:
    """The actions of --actions for the world, (1, F, ...)."""
    import torch

    from oneiros.envs.actions import parse_script

    spec = world.config.action_spec
    if command.actions is None:
        return None
    if spec is None:
        raise ValueError(f"{command.run} was trained without actions; it cannot follow {command.actions!r}")
    actions = torch.from_numpy(parse_script(command.actions, spec))[None]
    return actions.repeat(1, 1, world.config.frame_stride) if spec.kind == "continuous" else actions


def _episode(
    command: DreamCommand, world: World, data: Path, script: Tensor | None
) -> tuple[Clip, Tensor | None, np.ndarray | None, str]:
    from oneiros.data.episodes.dataset import Dataset
    from oneiros.world.recorded import load_recording

    recording = load_recording(
        world,
        command.run,
        Dataset.open(data),
        episode=command.episode,
        start=command.start,
        context=world.tokenizer.whole(command.context),
        num_frames=0 if script is not None else command.frames or 100,
    )
    origin = f"episode {recording.episode}"
    if not recording.held_out:
        origin += " (which training has seen)"
    if script is not None:
        return recording.context, script, None, origin
    return recording.context, recording.actions, recording.real.numpy(), origin


def _length(command: DreamCommand, actions: Tensor | None, real: np.ndarray | None) -> int:
    """How many frames to dream."""
    if real is not None:
        available = len(real)
    elif actions is not None:
        available = actions.shape[1]
    elif command.frames is not None:
        return command.frames
    else:
        raise ValueError("without a recording and without --actions a dream needs --frames to know when to stop")
    if command.frames is not None and command.frames > available:
        raise ValueError(f"{command.frames} frames need as many actions; there are {available}")
    return command.frames or available


def _closeness(dreamed: np.ndarray, real: np.ndarray | None, given: np.ndarray) -> str:
    """PSNR beside copying the last given frame, where there is something to compare with."""
    import torch

    from oneiros.world.metrics import psnr

    if real is None:
        return ""
    truth = torch.from_numpy(real[: len(dreamed)])
    close, copied = (psnr(torch.from_numpy(frames), truth).mean().item() for frames in (dreamed, given[-1:]))
    return f", PSNR {close:.1f} dB (copying the last given frame {copied:.1f} dB)"
