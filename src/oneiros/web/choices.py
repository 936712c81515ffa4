"""What can be played, by name: each choice is loaded when somebody first asks for it, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oneiros.web.game import Game
from oneiros.web.model_thread import ModelThread
from oneiros.web.recorder import Recorder
from oneiros.web.session import Session


@dataclass(frozen=True)
class Choice:
    """title: for its tile. load: makes the game; called once. picture: uint8 (H, W, 3), what the place looks like; None
    where it is the only choice."""

    title: str
    load: Callable[[], Game]
    picture: np.ndarray | None = None


class Choices:
    """The games behind the choices. A single one is loaded at once, several when they are asked for."""

    def __init__(self, choices: Mapping[str, Choice], *, record_to: Path) -> None:
        """record_to: the folder for what is recorded; with several choices, each has one, its name added to that."""
        self.by_name = dict(choices)
        several = len(choices) > 1
        self._opened = {
            name: OpenedGame(choice.load, record_to.with_name(f"{record_to.name}-{name}") if several else record_to)
            for name, choice in choices.items()
        }
        if not several:
            self.opened(None)

    def opened(self, name: str | None) -> OpenedGame | None:
        """The game of that name, which begins to load; None is the only one. None where there is no such."""
        if name is None and len(self._opened) == 1:
            name = next(iter(self._opened))
        game = None if name is None else self._opened.get(name)
        if game is not None:
            game.begin()
        return game

    def close(self) -> None:
        """Let go of every game's thread and folder; players are gone by now."""
        for game in self._opened.values():
            game.close()


class OpenedGame:
    """A game from when it is first asked for: `game` is None until it is loaded, `error` says why it never will be."""

    def __init__(self, load: Callable[[], Game], record_to: Path) -> None:
        self.game: Game | None = None
        self.error: str | None = None
        self._load, self._record_to = load, record_to
        self.recorder: Recorder | None = None
        self._model_thread: ModelThread | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Load it, unless that has begun. Called by the server's one thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._prepare, daemon=True, name="loading")
            self._thread.start()

    def _prepare(self) -> None:
        try:
            game = self._load()
            self._model_thread = ModelThread(shared=game.dreams)
            self._model_thread.run(game.prepare)
            self.recorder = Recorder(self._record_to, game)
            self.game = game
        except ModuleNotFoundError as error:
            self.error = f"this needs the package {error.name!r}, which is not installed; see `oneiros doctor`"
        except Exception as error:  # whatever it is, the page should say it
            self.error = " ".join(str(error).split()) or type(error).__name__

    async def loaded(self) -> bool:
        """Wait for the game. Whether it can be played; if not, `error` says why."""
        while self.game is None and self.error is None:
            await asyncio.sleep(0.05)
        return self.game is not None

    def new_session(self) -> Session:
        """A session of one more player, once the game is loaded; to be called in the player's thread."""
        assert self.game
        assert self.recorder
        assert self._model_thread
        return Session(self.game, self.recorder, self._model_thread)

    def close(self) -> None:
        try:
            if self.recorder is not None:
                self.recorder.close()
        finally:
            if self._model_thread is not None:
                self._model_thread.close()
