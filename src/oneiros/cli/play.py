"""`oneiros play`: step into the dream (or into the real environment), in the browser or from a terminal."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard

import tyro

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from oneiros.records import ActionSpec
    from oneiros.world.dream import Dream

DESCRIPTION = """Step into a dream.

A page opens in the browser: keys, touch or a gamepad decide what happens. It can go back and on differently, show the
real environment beside the dream, and record what is played into a LeRobot dataset. Ctrl-C ends it.

  oneiros play                                       the world that ships with Oneiros
  oneiros play runs/world
  oneiros play doom:my_way_home                      the real environment

With --terminal there is no page: actions are typed by name, by number or by the beginning of a name; several keys at
once as MOVE_FORWARD+TURN_LEFT; *8 repeats; Enter alone repeats the last. Frames and actions are saved at the end.

  oneiros play runs/world --terminal --image photo.png
  printf 'MOVE_FORWARD*8\\nTURN_LEFT*4\\n' | oneiros play runs/world --terminal --out session
"""

CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


@dataclass(frozen=True)
class Play:
    run: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """A world's run folder, or an environment: doom:SCENARIO or gym:ENV_ID. Default: the world that is built in."""
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
    temperature: float = 0.9
    """0 dreams the likeliest future, more dreams bolder ones."""
    guidance: float = 1.0
    """Above 1 the dream obeys more strictly, at twice the time a frame."""
    device: str = "cpu"
    """Such as cuda."""
    seed: int | None = None
    """The same seed and actions give the same dream. Default: another each time. (The page draws its own.)"""
    host: str = "127.0.0.1"
    """The address to serve the page on. 0.0.0.0 lets everyone in your network play: there is no password."""
    port: int = 7700
    """The port of the page; 0 takes any that is free."""
    browser: bool = True
    """Open the page in a browser, where there is a screen."""
    sessions: int = 8
    """How many may play at once."""
    beside: str | None = None
    """The real environment to show beside the dream. Default: the one the world learned from, where it is known."""
    height: int = 120
    """Pixels of a real environment's frames in the browser."""
    width: int = 160
    """The same from left to right."""
    threads: int | None = None
    """How many cores a step of the dream uses. Default: one or all, whichever is quicker when play begins."""


def main(arguments: list[str]) -> None:
    play(tyro.cli(Play, prog="oneiros play", args=arguments, description=DESCRIPTION, config=CONFIG))


def play(command: Play) -> None:
    """Raises ValueError for a run, dataset, picture or start that does not fit. What is typed wrong is asked again."""
    if not command.terminal:
        from oneiros.cli.play_browser import play_in_browser

        play_in_browser(command)
        return
    from rich.console import Console

    env = _open(command)
    if command.seed is None:
        command = replace(command, seed=random.randrange(2**31))
    game = _Game(env, command, Console())
    try:
        game.play()
    finally:
        env.close()
        if game.actions:
            game.save()


def _open(command: Play) -> Any:
    """A dream, or the real environment behind the same methods."""
    if is_environment(command.run):
        from oneiros.envs.make import make_env

        return make_env(command.run)
    return open_dream(command)


def is_environment(run: str | None) -> TypeGuard[str]:
    return run is not None and ":" in run and not Path(run).exists()


def open_dream(command: Play) -> Dream:
    """The world of the run folder, or the built-in one, as an environment."""
    from oneiros.records import Sampling
    from oneiros.world.bundle import bundled_world
    from oneiros.world.dream import Dream

    return Dream.from_run(
        command.run or bundled_world(),
        data=command.data,
        image=command.image,
        device=command.device,
        sampling=Sampling(temperature=command.temperature, guidance_scale=command.guidance),
    )


class _Game:
    """One session: asks, steps, draws, remembers."""

    def __init__(self, env: Any, command: Play, console: Console) -> None:
        self.env, self.command, self.console = env, command, console
        self.spec: ActionSpec | None = env.action_spec
        self.frames: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []

    def play(self) -> None:
        """Until `quit`, the end of the input, or the end of the environment's episode."""
        options = None if self.command.start is None else {"start": self.command.start}
        self.env.reset(seed=self.command.seed, options=options)
        self._show("the start")
        self._explain()
        while (text := self._ask()) is not None:
            if text == "quit":
                break
            if text in ("?", "help"):
                self._explain()
                continue
            try:
                wanted = self._read(text)
            except ValueError as error:
                self.console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
                continue
            if not self._do(wanted):
                self.console.print("the episode is over")
                break

    def _ask(self) -> str | None:
        """What the player typed, or None at the end of the input."""
        try:
            text = input("action> ").strip()
        except EOFError:
            print()
            return None
        if not sys.stdin.isatty():  # a script's actions are not on the screen yet
            print(text)
        return text

    def _read(self, text: str) -> list[Any]:
        """The actions of a line. Raises ValueError naming what is no action."""
        from oneiros.envs.actions import parse_script

        if self.spec is None:
            if text and not (text.isdecimal() and int(text)):
                raise ValueError(f"{text} is not a number of frames; this world knows no actions, it dreams by itself")
            return [0] * int(text or 1)
        if text:
            return list(parse_script(text, self.spec))
        return self.actions[-1:] or [self._resting()]

    def _resting(self) -> np.ndarray:
        """What an empty line means before anything was done."""
        from oneiros.envs.actions import choices_text, parse_action

        if self.spec is None or self.spec.kind == "discrete":
            assert self.spec is not None
            raise ValueError(f"nothing to repeat yet; choose from {choices_text(self.spec)}")
        if self.spec.kind == "keys":
            return parse_action("none", self.spec)
        return parse_action(f"{self.spec.names[0]}={self.spec.statistics[0][0]}", self.spec)

    def _do(self, wanted: list[Any]) -> bool:
        """Step through the actions; False once the episode is over."""
        from oneiros.envs.actions import action_text

        for action in wanted:
            _, _, terminated, truncated, _ = self.env.step(action)
            self.actions.append(action)
            self._show(action_text(action, self.spec) if self.spec else "on")
            if terminated or truncated:
                return False
        return True

    def _show(self, done: str) -> None:
        frame = self.env.render()
        self.frames.append(frame)
        if self.command.save_frame:
            _save_picture(frame, self.command.save_frame)
        number = len(self.frames) - 1
        if self.console.is_terminal:
            self.console.clear()
            self.console.print(_blocks(frame, self.console))
        self.console.print(
            f"frame {number} ({number / self.env.fps:.1f} s): {done}", markup=False, highlight=False, soft_wrap=True
        )

    def _explain(self) -> None:
        from oneiros.envs.actions import choices_text

        if self.spec is None:
            text = "This world knows no actions: Enter dreams one frame, a number that many."
        else:
            together = "; several at once with +, none = hold nothing" if self.spec.kind == "keys" else ""
            text = f"Actions: {choices_text(self.spec)}{together}; *8 repeats, Enter repeats the last."
        self.console.print(f"{text} quit ends, ? says this again.", markup=False, highlight=False, soft_wrap=True)

    def save(self) -> None:
        """Frames as PNG and as a video, actions as JSON, in a folder of their own."""
        import json

        import numpy as np

        from oneiros.data.pictures import enlarge, save_frames
        from oneiros.envs.actions import script_text

        folder = _free(self.command.out)
        (folder / "frames").mkdir(parents=True)
        for number, frame in enumerate(self.frames):
            _save_picture(frame, folder / "frames" / f"{number:06d}.png")
        save_frames(enlarge(np.stack(self.frames)), folder / "played.mp4", fps=self.env.fps)
        actions = np.stack(self.actions)
        record = {
            "played": self.command.run or "the built-in world",
            "seed": self.command.seed,
            "start": self.command.start,
            "temperature": self.command.temperature,
            "guidance": self.command.guidance,
            "action_spec": self.spec.to_json() if self.spec else None,
            "actions": actions.tolist(),
            "script": script_text(actions, self.spec) if self.spec else None,
        }
        (folder / "actions.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"{len(self.frames)} frames and {len(self.actions)} actions are in {folder}")


def _free(folder: Path) -> Path:
    """`folder`, or the first of folder-2, folder-3, ... that does not exist."""
    candidates = (folder, *(folder.with_name(f"{folder.name}-{number}") for number in range(2, 10_000)))
    return next(candidate for candidate in candidates if not candidate.exists())


def _save_picture(frame: np.ndarray, path: Path) -> None:
    """Whole or not at all, so that a viewer can watch the file."""
    from PIL import Image

    from oneiros.disk import replacing

    with replacing(path) as aside:
        Image.fromarray(frame).save(aside, path.suffix[1:] if path.suffix else "png")


def _blocks(frame: np.ndarray, console: Console) -> Any:
    """The frame as characters: each is two pixels, the upper one in its colour, the lower one as its background."""
    import numpy as np
    from PIL import Image
    from rich.segment import Segment, Segments
    from rich.style import Style

    height, width = frame.shape[:2]
    scale = min(1.0, console.width / width, 2 * (console.height - 4) / height)
    size = (max(1, int(width * scale)), max(2, int(height * scale) // 2 * 2))
    pixels = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
    segments = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            style = Style.parse(f"rgb({','.join(map(str, above))}) on rgb({','.join(map(str, below))})")
            segments.append(Segment("▀", style))
        segments.append(Segment.line())
    return Segments(segments)
