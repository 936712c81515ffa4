"""`oneiros play`: step into the dream (or into the real environment), in the browser or from a terminal."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeGuard

import tyro

from oneiros.cli.sampling_options import SamplingOptions

if TYPE_CHECKING:
    from oneiros.web.choices import Choice
    from oneiros.web.game import Game
    from oneiros.world.dream import Dream

DESCRIPTION = """Step into a dream.

A page opens in the browser: keys, touch or a gamepad decide what happens. It can go back and on differently, show the
real environment beside the dream, and record what is played into a LeRobot dataset. Ctrl-C ends it.

  oneiros play                                       the worlds that ship with Oneiros
  oneiros play health_gathering                      one of them, by name
  oneiros play runs/world
  oneiros play doom:my_way_home                      the real environment

With --terminal there is no page: actions are typed by name, by number or by the beginning of a name; several keys at
once as MOVE_FORWARD+TURN_LEFT; *8 repeats; Enter alone repeats the last. Frames and actions are saved at the end.

  oneiros play runs/world --terminal --image photo.png
  printf 'MOVE_FORWARD*8\\nTURN_LEFT*4\\n' | oneiros play runs/world --terminal --out session
"""

CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


@dataclass(frozen=True)
class Play(SamplingOptions):
    run: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """A world's run folder, the name of one that is built in, or an environment: doom:SCENARIO or gym:ENV_ID. Default:
    the page lets you choose among those built in; the terminal plays the first."""
    terminal: bool = False
    """Play here, in the terminal."""
    data: Path | None = None
    """Start in held-out episodes of this dataset. Default: the starts that training left in the run folder."""
    image: Path | None = None
    """Start from this picture instead."""
    start: int | None = None
    """Which start. Default: drawn by the seed. (The page lets you choose.)"""
    out: Path = Path("played")
    """In the terminal, the folder for frames (PNG) and actions.json; one that exists is left alone: played-2, ...
    In the browser, the LeRobot dataset to which episodes are added when you record."""
    save_frame: Path | None = None
    """In the terminal: write the newest frame here after each step."""
    codec: str | None = None
    """The codec of the world's tokenizer, where it was made with one of your own: module:factory."""
    device: str = "cpu"
    """Such as cuda."""
    seed: int | None = None
    """The same seed and actions give the same dream. Default: another each time. (The page draws its own.)"""
    host: str = "127.0.0.1"
    """The address to serve the page on. 0.0.0.0 lets those in your network play whom you give the printed address."""
    port: int = 7700
    """The port of the page; 0 takes any that is free."""
    browser: bool = True
    """Open the page in a browser, where there is a screen. --no-browser only prints its address."""
    sessions: int = 8
    """How many may play at once."""
    beside: str | None = None
    """The real environment to show beside the dream. Default: the one the world learned from, where it is ViZDoom's,
    Meta-World's or Gymnasium's own: code that a run's files name is never run unless you name it here."""
    height: int = 120
    """Pixels of a real environment's frames in the browser."""
    width: int = 160
    """The same from left to right."""
    env_args: tuple[str, ...] = ()
    """What a real Gymnasium environment is made with, such as level=3."""
    threads: int | None = None
    """How many cores a step of the dream uses. Default: one or all, whichever is quicker when play begins."""
    engine: Literal["torch", "onnx"] = "torch"
    """What computes the dream: onnx is ONNX Runtime, in float32, which the world is exported to when play begins."""


def main(arguments: list[str]) -> None:
    play(tyro.cli(Play, prog="oneiros play", args=arguments, description=DESCRIPTION, config=CONFIG))


def play(command: Play) -> None:
    """Play in the browser, or in the terminal.

    Raises ValueError for a run, dataset, picture or start that does not fit, OSError for a port that is in use.
    """
    if command.terminal:
        _play_in_terminal(command)
        return
    from oneiros.cli.playing.browser import play_in_browser

    _check_there(command.run)
    play_in_browser(
        _choices(command),
        record_to=command.out,
        host=command.host,
        port=command.port,
        sessions=command.sessions,
        open_page=command.browser,
    )


def _play_in_terminal(command: Play) -> None:
    from oneiros.cli.playing.terminal import play_in_terminal

    if _is_environment(command.run):
        from oneiros.envs.make import make_env, read_arguments

        env: Any = make_env(command.run, arguments=read_arguments(command.env_args))
    else:
        env = _open_dream(command)
    play_in_terminal(
        env,
        seed=random.randrange(2**31) if command.seed is None else command.seed,
        start=command.start,
        out=command.out,
        save_frame=command.save_frame,
        about={
            "played": command.run or "the built-in world",
            **{each.name: getattr(command, each.name) for each in fields(SamplingOptions)},
        },
    )


def _choices(command: Play) -> dict[str, Choice]:
    """What the browser's players may choose: the worlds built in, where nothing else is named."""
    from oneiros.web.choices import Choice

    if command.run is not None or command.data is not None or command.image is not None:
        return {"": Choice(command.run or "the built-in world", partial(_game, command))}
    from oneiros.world.built_in import bundled_worlds, picture_of

    return {
        name: Choice(name.replace("_", " "), partial(_game, replace(command, run=name)), picture_of(run))
        for name, run in bundled_worlds().items()
    }


def _game(command: Play) -> Game:
    """What the browser's players are given to play."""
    from oneiros.cli.playing.browser import dream_game, real_game

    if _is_environment(command.run):
        return real_game(command.run, height=command.height, width=command.width, env_args=command.env_args)
    return dream_game(_open_dream(command), run=command.run, beside=command.beside, threads=command.threads)


def _check_there(run: str | None) -> None:
    """Before a page is served for what is not there: ValueError, as the game itself would raise later."""
    if _is_environment(run):
        from oneiros.envs.make import check_name

        check_name(run)
        return
    from oneiros.world.built_in import bundled_worlds

    if run is None or (Path(run) / "config.json").is_file():  # without torch, whose import takes seconds
        return
    if Path(run).exists():
        raise ValueError(f"{run}: is no run folder: it has no config.json")
    if run not in bundled_worlds():
        raise ValueError(
            f"{run}: there is no such run folder, nor such a world built in ({', '.join(bundled_worlds())}); "
            "environments are doom:SCENARIO, metaworld:TASK or gym:ENV_ID"
        )


def _is_environment(run: str | None) -> TypeGuard[str]:
    return run is not None and ":" in run and not Path(run).exists()


def _open_dream(command: Play) -> Dream:
    """The world of the run folder, or the built-in one, as an environment."""
    from oneiros.world.built_in import run_named
    from oneiros.world.dream import Dream
    from oneiros.world.nn.own_codec import make_codec

    if command.engine == "onnx":
        from oneiros.export.dream import ExportedDream

        if command.device != "cpu":
            raise ValueError("--engine onnx computes on the CPU; leave --device out")
        return ExportedDream.open(
            run_named(command.run),
            data=command.data,
            image=command.image,
            codec=make_codec(command.codec),
            sampling=command.sampling(),
            threads=command.threads or 0,
        )
    return Dream.from_run(
        run_named(command.run),
        data=command.data,
        image=command.image,
        codec=make_codec(command.codec),
        device=command.device,
        sampling=command.sampling(),
    )
