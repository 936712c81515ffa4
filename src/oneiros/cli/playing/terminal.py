"""`oneiros play --terminal`: asks for an action, steps, draws the frame in characters."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneiros.console import printable

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from oneiros.records import ActionSpec


def play_in_terminal(
    env: Any,
    *,
    seed: int,
    start: int | None,
    out: Path,
    save_frame: Path | None,
    about: dict[str, Any],
) -> None:
    """Play until `quit`, the end of the input or of the episode; then close the env and save what was played.

    env: a dream, or a `PixelEnv`. start: which of a dream's starts, None = drawn by the seed. out: the folder for
    frames and actions. save_frame: where the newest frame is written after each step. about: what was played and how,
    for actions.json. Raises ValueError for a start that does not exist; what is typed wrong is asked again.
    """
    from rich.console import Console

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is no text is no action either, and is asked again
    game = _TerminalGame(env, Console(), save_frame)
    try:
        game.play(seed, start)
    finally:
        env.close()
        if game.actions:
            game.save(out, {**about, "seed": seed, "start": start})


class _TerminalGame:
    """One session: asks, steps, draws, remembers."""

    def __init__(self, env: Any, console: Console, save_frame: Path | None) -> None:
        self.env, self.console, self.save_frame = env, console, save_frame
        self.spec: ActionSpec | None = env.action_spec
        self.frames: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []

    def play(self, seed: int, start: int | None) -> None:
        """Until `quit`, the end of the input, or the end of the environment's episode."""
        self.env.reset(seed=seed, options=None if start is None else {"start": start})
        self._show("the start")
        self._explain()
        while (text := self._ask()) is not None:
            if text == "quit":
                break
            if text in ("?", "help"):
                self._explain()
                continue
            try:
                actions = self._read(text)
            except ValueError as error:
                self._say(str(error), style="red")
                continue
            if not self._do(actions):
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
        from oneiros.envs.actions import MOST_STEPS, parse_script, whole_number

        if self.spec is None:
            frames = whole_number(text) if text else 1
            if not frames or frames > MOST_STEPS:
                raise ValueError(
                    f"{text[:60]} is not a number of frames from 1 to {MOST_STEPS:,}; this world knows no actions, it "
                    "dreams by itself"
                )
            return [0] * frames
        if text:
            if self.spec.kind == "keys" and re.fullmatch(r"\d+(\s*,\s*\d+)+", text):
                numbers = re.split(r"\s*,\s*", text)
                raise ValueError(
                    f"held together, {text[:60]} is {'+'.join(numbers)[:60]}; frame after frame it is "
                    f"{','.join(f'{number}*1' for number in numbers)[:60]}; write one of the two"
                )
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

    def _do(self, actions: list[Any]) -> bool:
        """Step through the actions; False once the episode is over."""
        from oneiros.envs.actions import action_text

        for action in actions:
            _, _, terminated, truncated, _ = self.env.step(action)
            self.actions.append(action)
            self._show(action_text(action, self.spec) if self.spec else "on")
            if terminated or truncated:
                return False
        return True

    def _show(self, done: str) -> None:
        frame = self.env.render()
        self.frames.append(frame)
        if self.save_frame:
            _save_picture(frame, self.save_frame)
        number = len(self.frames) - 1
        if self.console.is_terminal:
            self.console.clear()
            self.console.print(_blocks(frame, self.console))
        self._say(f"frame {number} ({number / self.env.fps:.1f} s): {done}")

    def _say(self, text: str, style: str | None = None) -> None:
        """A line, in which the names of actions may be a stranger's."""
        self.console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True, emoji=False)

    def _explain(self) -> None:
        from oneiros.envs.actions import choices_text

        if self.spec is None:
            text = "This world knows no actions: Enter dreams one frame, a number that many."
        else:
            together = "; several at once with +, none = hold nothing" if self.spec.kind == "keys" else ""
            rest = "a comma goes on to the next frame, *8 repeats, Enter repeats the last."
            text = f"Actions: {choices_text(self.spec)}{together}; {rest}"
        self._say(f"{text} quit ends, ? says this again.")

    def save(self, out: Path, about: dict[str, Any]) -> None:
        """Frames as PNG and as a video, actions as JSON, in a folder of their own."""
        import json

        import numpy as np

        from oneiros.data.pictures import enlarge, save_frames
        from oneiros.envs.actions import script_text

        folder = _free(out)
        (folder / "frames").mkdir(parents=True)
        for number, frame in enumerate(self.frames):
            _save_picture(frame, folder / "frames" / f"{number:06d}.png")
        save_frames(enlarge(np.stack(self.frames)), folder / "played.mp4", fps=self.env.fps)
        actions = np.stack(self.actions)
        record = {
            **about,
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

    with replacing(path) as temporary:
        Image.fromarray(frame).save(temporary, path.suffix[1:] if path.suffix else "png")


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
