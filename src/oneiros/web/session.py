"""One player: an env of one's own, what was played in it, and what is asked of it. Runs in a thread of its own."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from oneiros.web import messages
from oneiros.web.game import Game
from oneiros.web.history import History, Moment
from oneiros.web.messages import Extras, Picture, Request
from oneiros.web.model_thread import ModelThread
from oneiros.web.recorder import Recorder


class Session:
    """Answers requests one at a time. `close` must follow, in the same thread."""

    def __init__(self, game: Game, recorder: Recorder, model_thread: ModelThread) -> None:
        self._game, self._recorder, self._model_thread = game, recorder, model_thread
        self._env: Any = model_thread.run(game.make_env)
        self._beside: Any = None
        self._history = History(game.max_rewind)
        self._at = -1  # the frame that is shown
        self._live = -1  # the frame that the env itself is at
        self._with_side = False  # whether the real environment plays along in this episode
        self._sampling = game.sampling
        self._recorded_from: int | None = None

    def answer(self, request: Request) -> bytes | str:
        """The message to send back. Whatever cannot be done becomes a refusal of one line."""
        try:
            match request:
                case messages.TakeStep():
                    self._step(request.action)
                case messages.Reset():
                    self._reset(request.start, request.seed)
                case messages.Rewind():
                    self._rewind(request.frame)
                case messages.SetSampling():
                    return messages.done(request.id, sampling=self._set_sampling(dict(request.values)))
                case messages.SetSide():
                    return messages.done(request.id, side=self._set_side(request.on))
                case messages.SetRecording():
                    return messages.done(request.id, **self._set_recording(request.on))
            return messages.pack(self._picture(request.extras), request.id)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            return messages.refused(request.id, str(error))

    def frames(self) -> tuple[np.ndarray, float]:
        """What was played up to the frame that is shown, uint8 (F, H, W, 3), and frames a second."""
        if self._at < 0:
            raise ValueError("nothing was played yet")
        moments = list(self._history.span(self._history.oldest, self._at))
        sides = [moment.side for moment in moments if moment.side is not None]
        dreamed = np.stack([moment.rgb for moment in moments])
        together = len(sides) == len(moments)
        return np.concatenate([dreamed, np.stack(sides)], 2) if together else dreamed, self._game.fps

    def close(self) -> None:
        """Save what is being recorded, and let go of the envs."""
        try:
            self._finish_recording()
        finally:
            self._model_thread.run(self._env.close)
            if self._beside is not None:
                self._beside.close()

    # -- playing -------------------------------------------------------------------------------------------------

    def _reset(self, start: int | None, seed: int | None) -> None:
        recording = self._recorded_from is not None
        self._finish_recording()
        seed = random.randrange(2**31) if seed is None else seed
        options = None if start is None else {"start": start}
        side = None
        if self._beside is not None:
            options = {"context": self._beside.context(seed=seed)}
            side = self._beside.render()
        self._model_thread.run(lambda: self._env.reset(seed=seed, options=options))
        self._history, self._at = History(self._game.max_rewind), 0
        self._with_side, self._live = self._beside is not None, 0
        self._recorded_from = 0 if recording else None
        self._history.append(replace(self._moment(), side=side, snapshots=self._snapshots()))

    def _step(self, action: Any) -> None:
        if self._at < 0:
            raise ValueError("nothing has begun; reset first")
        if self._history[self._at].over:
            raise ValueError("the episode is over; reset, or rewind and go on differently")
        taken = checked_action(action, self._game.action_spec)
        self._catch_up()
        self._history.cut(self._at)
        self._history.append(self._advance_or_begin_anew(taken))
        self._at = self._live = self._at + 1
        if self._recorded_from is not None and self._at - self._recorded_from >= self._game.max_rewind - 1:
            self._finish_recording()
            self._recorded_from = self._at

    def _advance_or_begin_anew(self, action: Any) -> Moment:
        """One step on from the frame that is shown; an engine that has died on the way is brought back there once."""
        try:
            return self._advance(action, self._sampling, self._history[self._at])
        except OSError:
            self._live = -1
            self._catch_up()
            return self._advance(action, self._sampling, self._history[self._at])

    def _advance(self, action: Any, sampling: Any, before: Moment, *, keep: bool = True) -> Moment:
        """Step the env, and beside it the real one, which a dream's own thread leaves time for."""
        frame = self._live + 1
        dreamed = self._model_thread.begin(self._timed_step, action, sampling)
        side, side_over = before.side, before.side_over
        if self._with_side and not side_over:
            _, _, terminated, truncated, _ = self._beside.step(action)
            side, side_over = self._beside.render(), terminated or truncated
        moment = dreamed()
        snapshots = self._snapshots() if keep and self._history.wants_snapshot(frame) else None
        return replace(moment, action=action, sampling=sampling, side=side, side_over=side_over, snapshots=snapshots)

    def _timed_step(self, action: Any, sampling: Any) -> Moment:
        if sampling is not None:
            self._env.sampling = sampling
        began = time.perf_counter()
        _, reward, terminated, truncated, _ = self._env.step(action)
        step_ms = (time.perf_counter() - began) * 1e3
        over = terminated or truncated
        return replace(self._moment(), over=over, terminated=terminated, reward=float(reward), step_ms=step_ms)

    def _moment(self) -> Moment:
        depth = self._env.depth()
        return Moment(np.array(self._env.render()), None if depth is None else messages.millimetres(depth))

    def _snapshots(self) -> tuple[Any, Any]:
        return self._model_thread.run(self._env.snapshot), self._beside.snapshot() if self._with_side else None

    # -- going back ----------------------------------------------------------------------------------------------

    def _rewind(self, frame: int) -> None:
        """Show an earlier frame. The env follows only when it is needed, so that one can scrub freely."""
        self._history[frame]  # raises
        self._at = frame

    def _catch_up(self) -> None:
        """Bring the env to the frame that is shown: back to a snapshot, and from there as it went before."""
        if self._live == self._at:
            return
        start = self._history.snapshot_before(self._at)
        dream, real = self._history[start].snapshots or (None, None)
        self._model_thread.run(self._env.restore, dream)
        if self._with_side and real is not None:
            self._beside.restore(real)
        self._live = start
        while self._live < self._at:
            moment = self._history[self._live + 1]
            self._advance(moment.action, moment.sampling, self._history[self._live], keep=False)
            self._live += 1

    # -- what else can be asked ----------------------------------------------------------------------------------

    def _set_sampling(self, values: dict[str, float]) -> dict[str, float]:
        if self._sampling is None:
            raise ValueError("a real environment draws nothing; there is no sampling to set")
        self._sampling = replace(self._sampling, **values)
        return {name: getattr(self._sampling, name) for name in messages.SAMPLING}

    def _set_side(self, on: bool) -> bool:
        """From the next reset on."""
        if on and self._beside is None:
            if self._game.make_beside is None:
                raise ValueError("the real environment is not at hand; name it with --beside")
            self._beside = self._game.make_beside()
        elif not on and self._beside is not None:
            self._beside.close()
            self._beside, self._with_side = None, False
        return on

    def _set_recording(self, on: bool) -> dict[str, Any]:
        if on:
            self._recorder.prepare()
            self._recorded_from = max(self._at, 0)
        else:
            self._finish_recording()
        return {"recording": on, "episode": self._recorder.num_episodes, "path": str(self._recorder.path)}

    def _finish_recording(self) -> None:
        """Save what was recorded, if there is anything."""
        first, last = self._recorded_from, self._at
        if first is None:
            return
        self._recorded_from = None
        first = max(first, self._history.oldest)
        if last > first:
            self._recorder.save(list(self._history.span(first, last)))

    # -- showing -------------------------------------------------------------------------------------------------

    def _picture(self, extras: Extras) -> Picture:
        moment = self._history[self._at]
        return Picture(
            rgb=moment.rgb,
            frame=self._at,
            step_ms=moment.step_ms,
            over=moment.over,
            depth=moment.depth if extras.depth else None,
            side=moment.side if extras.side else None,
            side_over=moment.side_over,
            thoughts=self._think() if extras.think and self._game.thoughts else None,
        )

    def _think(self) -> messages.Thoughts:
        self._catch_up()
        entropy, guess = self._model_thread.run(self._env.think)
        return messages.Thoughts(entropy, guess)


def checked_action(action: Any, spec: Any) -> Any:
    """An action from JSON as the env takes it. Raises ValueError where it is none; worlds without actions take any.

    Checked before anything is done with it: real environments take whatever comes, and a step forgets what lay ahead.
    """
    if spec is None:
        return 0
    numbers = action if isinstance(action, list) else [action]
    misfit = ValueError(f"action {str(action)[:60]} does not fit; it must be {_expected(spec)}")
    if len(numbers) != _width(spec) or not all(_is_number(number) for number in numbers):
        raise misfit
    values = np.array(numbers, np.float64)
    allowed = {
        "discrete": (values % 1 == 0) & (values >= 0) & (values < spec.size),
        "keys": (values == 0) | (values == 1),
        "continuous": np.abs(values) < 1e6,
    }[spec.kind]
    if not allowed.all():
        raise misfit
    if spec.kind == "discrete":
        return int(values[0])
    return values.astype(bool if spec.kind == "keys" else np.float32)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < sys.float_info.max  # JSON's integers have no end


def _width(spec: Any) -> int:
    return 1 if spec.kind == "discrete" else spec.size


def _expected(spec: Any) -> str:
    names = ", ".join(spec.names)
    if spec.kind == "discrete":
        return f"a number from 0 to {spec.size - 1} ({names})"
    return f"{spec.size} {'times 0 or 1' if spec.kind == 'keys' else 'finite numbers'} ({names})"
