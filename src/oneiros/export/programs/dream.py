"""Dreams with the files of this folder. Needs numpy and onnxruntime, and nothing of Oneiros.

    python dream.py                      64 frames of the first start, as frames.npy
    python dream.py --start 3 --seed 7 --frames 200 --temperature 0.7

As a module:

    from dream import OnnxDream
    dream = OnnxDream("world")
    frame = dream.begin(start=0, seed=7)        # float32 (channels, height, width) in [-1, 1]
    frame = dream.step([1, 0, 0])               # keys held; a choice's index; numbers; None where it is unknown
    dream.outcome                               # of a world that pays or ends: what the step paid, whether it ended

`dream.mjs` is the same program in JavaScript: both draw the same codes from the same seed, as does Oneiros itself.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

MOST = np.float32(1 - 1e-7)  # uniform numbers above it would make infinite noise


@dataclass(frozen=True)
class Step:
    """The m elements of one step of a frame: digits int64 (levels, m), and the action as the graph takes it."""

    time: int
    number: int
    digits: np.ndarray
    action: np.ndarray


@dataclass(frozen=True)
class OnnxOutcome:
    """What came of a step: the reward to be expected, whether it was the last one, and how probable that was."""

    reward: float = 0.0
    terminated: bool = False
    end_probability: float = 0.0


@dataclass
class DreamMemory:
    """Where a dream is: all that `OnnxDream.step` changes.

    keys, values: float32 (heads, d, R) and (heads, R, d) for each layer, the ring. held: int64 (R,), of which frame an
    element of the ring is. time: the newest frame. waiting: its last step, which is not in the ring yet. digits: int64
    (levels, frames, N), of the newest frames, which the decoder looks back to. real: what the decoder is given beside
    them of the last real frame: itself, what its codes decode to, what that lacks; whichever it wants. outcome: see
    `OnnxDream.outcome`.
    """

    keys: list[np.ndarray]
    values: list[np.ndarray]
    held: np.ndarray
    time: int
    waiting: list[Step]
    digits: np.ndarray
    random: np.random.RandomState
    real: dict[str, np.ndarray]
    outcome: OnnxOutcome


class OnnxDream:
    """A world that dreams frame by frame. `temperature` and `min_p` may be changed at any time."""

    def __init__(self, folder: Path | str, *, threads: int = 0) -> None:
        """threads: of ONNX Runtime, 0 = as many as there are cores. Raises ValueError for a folder without a world."""
        self.folder = Path(folder)
        try:
            self.about: dict[str, Any] = json.loads((self.folder / "world.json").read_text())
            self._starts = json.loads((self.folder / "starts.json").read_text())
        except OSError as error:
            raise ValueError(f"{folder} holds no exported world: {error}") from None
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._step, self._decode = self._session("step"), self._session("decode")
        self._levels = [self._session(f"level_{level}") for level in range(1, self.about["levels"])]
        self._outcome = self._session("outcome") if self.about["pays"] or self.about["ends"] else None
        self.temperature, self.min_p = self.about["temperature"], self.about["min_p"]
        self.order = np.array(self.about["order"])
        self._frequencies = np.array(self.about["time_frequencies"])
        self.memory: DreamMemory | None = None

    @property
    def outcome(self) -> OnnxOutcome:
        """What came of the newest step; of a world that neither pays nor ends, nothing ever does."""
        return self._at_hand().outcome

    @property
    def num_starts(self) -> int:
        return len(self._starts)

    def begin(self, start: int = 0, *, seed: int = 0) -> np.ndarray:
        """Begin at one of the starts that came with the world, and return its newest frame."""
        if not 0 <= start < self.num_starts:
            raise ValueError(f"start {start} does not exist; there are 0 to {self.num_starts - 1}")
        codes, actions = self._starts[start]["codes"], self._starts[start]["actions"]
        return self.begin_from(codes, actions, self._first_frame(start), seed=seed)

    def begin_from(
        self, codes: Sequence[Sequence[int]], actions: Sequence[Any] | None, frame: np.ndarray, *, seed: int = 0
    ) -> np.ndarray:
        """Begin after frames of these codes (see `encode.onnx`), with the actions between them (None = unknown).

        frame: the newest of them, float32 (channels, height, width), which is returned.
        """
        self.memory = memory = self._blank(seed)
        for index, of_frame in enumerate(codes):
            digits = self._digits(np.asarray(of_frame))
            if index == 0:
                action = self._action(None, start=True)
            else:
                action = self._action(None if actions is None else actions[index - 1])
            self._advance(action, digits)
        if self.about["reference_frame"]:
            memory.real["reference"] = frame
        if self.about["carry_detail"]:
            memory.real |= {"decoded": np.zeros_like(frame), "missing": np.zeros_like(frame)}
            memory.real["decoded"] = self.decode()
            memory.real["missing"] = frame - memory.real["decoded"]
        return frame

    def step(self, action: Any) -> np.ndarray:
        """Dream the next frame, float32 (channels, height, width) in [-1, 1]."""
        self.step_codes(action)
        return self.decode()

    def step_codes(self, action: Any) -> np.ndarray:
        """`step` without decoding: the frame's digits, int64 (levels, N), row by row."""
        return self._advance(self._action(action))

    def decode(self) -> np.ndarray:
        """The newest frame."""
        memory = self._at_hand()
        return _results(self._decode, {"digits": memory.digits, **memory.real})[0]

    def rest(self) -> Any:
        """The action of one who does nothing: no key, the first choice, or the mean."""
        spec = self.about["action_spec"]
        if spec is None:
            return None
        return {
            "discrete": 0,
            "keys": [0] * len(spec["names"]),
            "continuous": spec["mean"] or [0] * len(spec["names"]),
        }[spec["kind"]]

    def snapshot(self) -> DreamMemory:
        """What `restore` goes back to, any number of times."""
        return copy.deepcopy(self._at_hand())

    def restore(self, snapshot: DreamMemory) -> None:
        self.memory = copy.deepcopy(snapshot)

    # -- one step ------------------------------------------------------------------------------------------------

    def _advance(self, action: np.ndarray, digits: np.ndarray | None = None) -> np.ndarray:
        """The next frame's digits (levels, N), those given or else drawn. Its last step predicts nothing, and waits to
        be run with the next frame's first."""
        memory, m = self._at_hand(), self.about["tokens_per_step"]
        memory.time += 1
        shape = self.about["levels"], self.about["num_codes"]
        frame = np.empty(shape, np.int64) if digits is None else digits
        steps = [*memory.waiting, self._step_of(frame, 0, action)]
        of_action = np.empty(0)
        for number in range(self.about["steps"] - 1):
            logits, outputs, features = self._run(steps)
            of_action = features if number == 0 else of_action
            if digits is None:
                frame[:, self.order[number * m : (number + 1) * m]] = self._draw(logits, outputs)
            steps = [self._step_of(frame, number + 1, action)]
        memory.waiting = steps
        if digits is None and self._outcome is not None:
            memory.outcome = self._what_came(*_results(self._outcome, {"features": of_action}))
        memory.digits = np.concatenate([memory.digits[:, 1:], frame[:, None]], 1)
        return frame

    def _what_came(self, rewards: np.ndarray, end_logit: np.ndarray) -> OnnxOutcome:
        """The outcome by the rewards of a step that goes on and of one that ends, and the log odds that it ends."""
        logit = float(end_logit[0])
        terminated = logit > 0
        if self.about["ends"] and self.temperature > 0:
            bits = self._at_hand().random.randint(0, 2**32, dtype=np.uint32)
            terminated = (int(bits) & 0xFFFFFF) * 2.0**-24 < _sigmoid(logit / self.temperature)
        return OnnxOutcome(float(rewards[int(terminated)]), terminated, _sigmoid(logit))

    def _run(self, steps: Sequence[Step]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits of the codes after the last of these steps, the outputs that finer levels read, and the features that
        outcomes are read from; the ring remembers the steps. They see the ring's frames of their window, themselves and
        the steps before."""
        memory, m, window = self._at_hand(), self.about["tokens_per_step"], self.about["window"]
        times = np.repeat([step.time for step in steps], m)
        order = np.repeat(np.arange(len(steps)), m)
        elements = np.concatenate([np.arange(m) + step.number * m for step in steps])
        near = (order <= order[:, None]) & (times > times[:, None] - window)
        angles = times[:, None] * self._frequencies
        feeds = {
            "digits": np.concatenate([step.digits for step in steps], 1),
            "elements": elements,
            "action": np.repeat([step.action for step in steps], m, axis=0),
            "in_time": np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32),
            "near": np.where(near, 0, -np.inf).astype(np.float32),
            "mask": np.where(memory.held > times[:, None] - window, 0, -np.inf).astype(np.float32),
        }
        feeds |= {f"keys_{layer}": keys for layer, keys in enumerate(memory.keys)}
        feeds |= {f"values_{layer}": values for layer, values in enumerate(memory.values)}
        logits, outputs, features, keys, values = _results(self._step, feeds)
        places = times % window * self.about["elements"] + elements
        for layer in range(self.about["layers"]):
            memory.keys[layer][:, :, places] = keys[layer]
            memory.values[layer][:, places] = values[layer]
        memory.held[places] = times
        return logits, outputs, features

    def _draw(self, logits: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Digits (levels, m), level by level, each seeing those before it."""
        drawn = [self._choose(logits)]
        for session in self._levels:
            drawn.append(self._choose(_results(session, {"outputs": outputs, "digits": np.stack(drawn)})[0]))
        return np.stack(drawn)

    def _choose(self, logits: np.ndarray) -> np.ndarray:
        """The entry of the highest score in each row of logits (m, K)."""
        return self._scores(logits).argmax(-1)

    def _scores(self, logits: np.ndarray) -> np.ndarray:
        """Logits (m, K) with chance: those at least min-p as likely as a row's likeliest, with Gumbel noise.

        Random numbers are those of MT19937, of which 24 bits make a number in [0, 1), one for each logit in order.
        """
        if self.temperature == 0:
            return logits
        bits = self._at_hand().random.randint(0, 2**32, logits.shape, np.uint32)
        kept = logits >= logits.max(-1, keepdims=True) + math.log(max(self.min_p, 1e-30))
        uniform = np.clip((bits[kept] & 0xFFFFFF) * 2.0**-24, 1e-20, MOST)
        scores = np.full(logits.shape, -np.inf)
        scores[kept] = logits[kept].astype(float) / self.temperature - np.log(-np.log(uniform))
        return scores

    # -- codes and actions ---------------------------------------------------------------------------------------

    def _digits(self, codes: np.ndarray) -> np.ndarray:
        """Codes (N,), numbers whose digits in base K name an entry of each level -> int64 (levels, N)."""
        levels, entries = self.about["levels"], self.about["entries"]
        return np.stack([codes // entries ** (levels - 1 - level) % entries for level in range(levels)])

    def _step_of(self, frame: np.ndarray, number: int, action: np.ndarray) -> Step:
        """A step of the newest frame, of which digits (levels, N) are known as far as it holds them: K in step 0."""
        m, time = self.about["tokens_per_step"], self._at_hand().time
        if number == 0:
            return Step(time, 0, np.full((len(frame), m), self.about["entries"]), action)
        return Step(time, number, frame[:, self.order[(number - 1) * m : number * m]], action)

    def _action(self, action: Any, *, start: bool = False) -> np.ndarray:
        """The numbers that a step is given: the action's own, then whether an episode starts, then whether the action
        is unknown."""
        spec, size = self.about["action_spec"], self.about["action_size"]
        given = np.zeros(size + 2, np.float32)
        if start or action is None or spec is None:
            given[size if start else size + 1] = 1
        elif spec["kind"] == "discrete":
            given[action] = 1
        else:
            values = np.ravel(np.asarray(action, np.float32))
            if size % len(values):
                raise ValueError(f"an action has {len(spec['names'])} numbers ({', '.join(spec['names'])})")
            given[:size] = np.tile(values, size // len(values))
        return given

    # -- beginnings ----------------------------------------------------------------------------------------------

    def _session(self, name: str) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(
            str(self.folder / f"{name}.onnx"), self._options, providers=["CPUExecutionProvider"]
        )

    def _at_hand(self) -> DreamMemory:
        if self.memory is None:
            raise ValueError("the dream has not begun; call begin() first")
        return self.memory

    def _blank(self, seed: int) -> DreamMemory:
        about = self.about
        heads, d, ring = about["heads"], about["head_dim"], about["window"] * about["elements"]
        return DreamMemory(
            keys=[np.zeros((heads, d, ring), np.float32) for _ in range(about["layers"])],
            values=[np.zeros((heads, ring, d), np.float32) for _ in range(about["layers"])],
            held=np.full(ring, -about["window"] - 1),
            time=-1,
            waiting=[],
            digits=np.full((about["levels"], about["lookback"] + 1, about["num_codes"]), about["entries"]),
            random=np.random.RandomState(seed & 0xFFFFFFFF),
            real={},
            outcome=OnnxOutcome(),
        )

    def _first_frame(self, start: int) -> np.ndarray:
        """A start's newest frame, from starts.bin: red, green, blue a pixel, then depth codes of 16 bits."""
        height, width, depth = self.about["height"], self.about["width"], self.about["channels"] == 4
        size = height * width * (5 if depth else 3)
        with (self.folder / "starts.bin").open("rb") as file:
            file.seek(start * size)
            content = np.frombuffer(file.read(size), np.uint8)
        colour = content[: height * width * 3].reshape(height, width, 3)
        frame = colour.transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - 1
        if depth:
            codes = content[height * width * 3 :].view("<u2").reshape(1, height, width)
            frame = np.concatenate([frame, codes.astype(np.float32) * np.float32(2 / 4095) - 1])
        return frame


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def _results(session: onnxruntime.InferenceSession, feeds: dict[str, np.ndarray]) -> list[Any]:
    return list(session.run(None, feeds))


def main() -> None:
    parser = argparse.ArgumentParser(description="Dream with the ONNX files of this folder.")
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--out", type=Path, default=Path("frames.npy"))
    options = parser.parse_args()
    dream = OnnxDream(Path(__file__).parent)
    dream.temperature = options.temperature
    frames = [dream.begin(options.start, seed=options.seed)]
    frames += [dream.step(dream.rest()) for _ in range(options.frames)]
    pixels = np.clip(np.rint((np.stack(frames)[:, :3] + 1) * 127.5), 0, 255).astype(np.uint8)
    np.save(options.out, pixels.transpose(0, 2, 3, 1))
    print(f"{len(frames)} frames, uint8 {pixels.transpose(0, 2, 3, 1).shape} -> {options.out}")


if __name__ == "__main__":
    main()
