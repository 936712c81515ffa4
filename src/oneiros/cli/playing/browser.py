"""`oneiros play` in the browser: dreams or an environment, given to the player's server."""

from __future__ import annotations

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneiros.web.server import Limits, serve

if TYPE_CHECKING:
    from oneiros.records import Camera
    from oneiros.web.choices import Choice
    from oneiros.web.game import Game
    from oneiros.world.dream import Dream

_COLOUR = "observation.images.front"
_WARNING = (
    "Warning: whoever can reach {name} (elsewhere the address begins with its name or number) and has this address can "
    "play and record here, and nothing is encrypted. Give it only to people you trust, in networks you trust."
)


def play_in_browser(
    choices: Mapping[str, Choice], *, record_to: Path, host: str, port: int, sessions: int, open_page: bool
) -> None:
    """Serve until Ctrl-C. choices: see `serve`. open_page: in a browser, where there is a screen.

    Raises ValueError for less than one session, OSError for a port that is in use.
    """
    if sessions < 1:
        raise ValueError(f"sessions is {sessions}; at least 1 must be able to play")

    def opened(url: str) -> None:
        print(f"Oneiros is at {url}   (Ctrl-C ends it)", flush=True)
        if "?token=" in url:
            print(_WARNING.format(name=socket.gethostname()), file=sys.stderr, flush=True)
        if open_page and _has_screen():
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    serve(choices, record_to=record_to, host=host, port=port, limits=Limits(sessions=sessions), opened=opened)


def real_game(name: str, *, height: int, width: int, env_args: Sequence[str] = ()) -> Game:
    """The environment `name` (see `make_env`), made with these arguments, to be played, frames of this many pixels."""
    from oneiros.envs.make import make_env, read_arguments
    from oneiros.envs.replay import Replayed
    from oneiros.web.game import Game

    open_env = partial(make_env, name, height=height, width=width, depth=name.startswith("doom:"))
    open_env = partial(open_env, arguments=read_arguments(env_args))
    probe = open_env()
    probe.close()
    return Game(
        title=name,
        source=name,
        make_env=lambda: Replayed(open_env()),
        action_spec=probe.action_spec,
        fps=probe.fps,
        cameras=probe.cameras,
        outcomes=True,
    )


def dream_game(dream: Dream, *, run: str | None, beside: str | None, threads: int | None) -> Game:
    """Dreams like this one to be played.

    run: how the player named the world, None = the built-in one. beside: the real environment to show beside dreams,
    None = the one the world learned from, where it is built in. threads: of torch for the whole process, None =
    whatever is quicker.
    """
    from oneiros.data.frames import to_uint8
    from oneiros.envs.make import is_built_in
    from oneiros.web.game import Game
    from oneiros.world.beside import RealEnv

    world, starts, camera = dream.world, dream.starts, dream.depth_camera
    real = beside or dream.environment or ""
    can_be_beside = (bool(beside) or is_built_in(real)) and world.tokenizer.temporal_stride == 1
    return Game(
        title=run or (real or "the built-in world"),
        source=f"dream:{real or run}",
        make_env=dream.another,
        make_beside=(lambda: RealEnv(real, world, depth_camera=camera)) if can_be_beside else None,
        prepare=lambda: _warm_up(dream, threads),
        action_spec=dream.action_spec,
        fps=dream.fps,
        cameras=_cameras(dream, camera),
        dreams=True,
        pictures=[to_uint8(start.frames[0, -1]).cpu().numpy() for start in starts],
        sampling=dream.sampling,
        thoughts=dream.can_think,
        outcomes=world.config.pays or world.config.ends,
    )


def _cameras(dream: Dream, depth: Camera | None) -> list[Camera]:
    from oneiros.records import Camera

    height, width = dream.world.tokenizer.config.height, dream.world.tokenizer.config.width
    if depth is None:
        return [Camera(_COLOUR, height, width)]
    return [replace(Camera(_COLOUR, height, width), fx=depth.fx, fy=depth.fy, cx=depth.cx, cy=depth.cy), depth]


def _warm_up(dream: Dream, threads: int | None) -> None:
    """Dream a little, so that the first player's first frame is as quick as the rest, and choose torch's threads for
    the process, which has no other work. Called in the thread that dreams: OpenMP counts threads for each of its own.
    """
    from oneiros.machine import choose_threads

    dream.reset(seed=0)
    action: Any = dream.action_space.sample()
    choose_threads(lambda: dream.step(action), threads)


def _has_screen() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
