"""`oneiros play` in the browser: what the player's server is given to serve."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oneiros.cli.play import Play, is_environment, open_dream
from oneiros.web.server import Limits, serve

if TYPE_CHECKING:
    from oneiros.records import Camera
    from oneiros.web.stage import Stage
    from oneiros.world.dream import Dream

_COLOUR = "observation.images.front"


def play_in_browser(command: Play) -> None:
    """Serve until Ctrl-C. Raises OSError for a port that is in use; whatever is wrong with the world ends it too."""
    if command.sessions < 1:
        raise ValueError(f"sessions is {command.sessions}; at least 1 must be able to play")

    def opened(url: str) -> None:
        print(f"Oneiros is at {url}   (Ctrl-C ends it)", flush=True)
        if command.browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    serve(
        lambda: _stage(command),
        record_to=command.out,
        host=command.host,
        port=command.port,
        limits=Limits(sessions=command.sessions),
        opened=opened,
    )


def _stage(command: Play) -> Stage:
    return _environment(command, command.run) if is_environment(command.run) else _dream(command)


def _environment(command: Play, name: str) -> Stage:
    from oneiros.envs.make import make_env
    from oneiros.envs.replay import Replayed
    from oneiros.web.stage import Stage

    options = {"height": command.height, "width": command.width, "depth": name.startswith("doom:")}
    probe = make_env(name, **options)
    probe.close()
    return Stage(
        title=name,
        source=name,
        make_env=lambda: Replayed(make_env(name, **options)),
        action_spec=probe.action_spec,
        fps=probe.fps,
        cameras=probe.cameras,
    )


def _dream(command: Play) -> Stage:
    from oneiros.data.frames import to_uint8
    from oneiros.run_folder import read_origin
    from oneiros.web.stage import Stage
    from oneiros.world.beside import Beside
    from oneiros.world.bundle import bundled_world
    from oneiros.world.dream import Dream

    first = open_dream(command)
    world, starts, camera = first.world, first.starts, first.depth_camera
    real = command.beside or read_origin(command.run or bundled_world()).environment or ""
    can_be_beside = ":" in real and world.tokenizer.temporal_stride == 1
    return Stage(
        title=command.run or (real or "the built-in world"),
        source=f"dream:{real or command.run}",
        make_env=lambda: Dream(world, starts, sampling=first.sampling, depth_camera=camera),
        make_beside=(lambda: Beside(real, world, depth_camera=camera)) if can_be_beside else None,
        prepare=lambda: _warm_up(first, command.threads),
        action_spec=first.action_spec,
        fps=first.fps,
        cameras=_cameras(first, camera),
        dreams=True,
        pictures=[to_uint8(start.frames[0, -1]).cpu().numpy() for start in starts],
        sampling=first.sampling,
        thoughts=True,
    )


def _cameras(dream: Dream, depth: Camera | None) -> list[Camera]:
    from oneiros.records import Camera

    height, width = dream.world.tokenizer.config.height, dream.world.tokenizer.config.width
    if depth is None:
        return [Camera(_COLOUR, height, width)]
    return [replace(Camera(_COLOUR, height, width), fx=depth.fx, fy=depth.fy, cx=depth.cx, cy=depth.cy), depth]


def _warm_up(dream: Dream, threads: int | None) -> None:
    """Dream a little, so that the first player's first frame is as quick as the rest, and settle on a number of
    threads."""
    from oneiros.machine import choose_threads

    dream.reset(seed=0)
    action: Any = dream.action_space.sample()
    choose_threads(lambda: dream.step(action), threads)


def _has_screen() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
