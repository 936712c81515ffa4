"""Whether an exported world dreams what the world itself dreams, and how fast: the same start, seed and actions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from oneiros.console import Advance
from oneiros.envs.explore import StickyRandom
from oneiros.export.programs.dream import DreamMemory, OnnxDream
from oneiros.records import ActionSpec, Clip
from oneiros.sampling import Sampling
from oneiros.world.dream import actions_for
from oneiros.world.model import World

FRAMES = 64


@dataclass(frozen=True)
class Parity:
    """A dream beside that of the world itself.

    first_difference: the first frame, from 0 on, whose codes differ; None where all are the same. margin: by how much
    the exported world preferred the first code that differs, in logits over the temperature; rounding makes some 1e-5.
    pixels: the largest difference of the frames before, of values in [-1, 1]. milliseconds: of processor time a frame
    took. outcomes: the largest difference of rewards and of the probabilities of an end.
    """

    temperature: float
    frames: int
    first_difference: int | None
    margin: float
    pixels: float
    milliseconds: float
    outcomes: float

    def __str__(self) -> str:
        if self.first_difference is None:
            return f"the same codes in {self.frames} of {self.frames} frames"
        return f"the same codes up to frame {self.first_difference}, where two were {self.margin:.1g} apart"


@torch.no_grad()
def compare(
    world: World,
    dream: OnnxDream,
    starts: Sequence[Clip],
    *,
    temperature: float,
    frames: int = FRAMES,
    start: int = 0,
    seed: int = 0,
    advance: Advance = lambda amount: None,
) -> Parity:
    """Dream from one of the starts with both, `advance` called for each frame."""
    spec, sampling = world.config.action_spec, Sampling(temperature=temperature)
    generator = torch.Generator().manual_seed(seed)
    actions = scripted(spec, frames, seed)
    dream.temperature = temperature
    dream.begin(start, seed=seed)
    state = world.init(starts[start])
    difference, margin, pixels, spent, outcomes = None, 0.0, 0.0, 0.0, 0.0
    for frame in range(frames):
        before = dream.snapshot()
        action = None if actions is None else actions[frame]
        began = time.process_time()
        dreamed = dream.step(action)
        spent += time.process_time() - began
        if difference is None:
            given = None if action is None else actions_for(world, action[None])
            state, expected = world.step(state, given, generator=generator, sampling=sampling)
            codes = state.codes[0, -1].numpy()
            outcome, told = world.outcome(state, generator=generator, temperature=temperature), dream.outcome
            if np.array_equal(newest_codes(dream), codes):
                gaps = outcome.reward.item() - told.reward, outcome.end_probability.item() - told.end_probability
                outcomes = max(outcomes, *map(abs, gaps))
                pixels = max(pixels, float(np.abs(dreamed - expected[0].numpy()).max()))
            else:
                difference, margin = frame, _margin(dream, before, action, codes)
        advance(1)
    return Parity(temperature, frames, difference, margin, pixels, 1e3 * spent / frames, outcomes)


def _margin(dream: OnnxDream, before: DreamMemory, action: np.ndarray | None, codes: np.ndarray) -> float:
    """By how much the dream preferred the first digit in which its next frame differs from one of these codes."""
    after, scored = dream.snapshot(), []
    choose = dream._choose

    def watched(logits: np.ndarray) -> np.ndarray:
        scored.append(dream._scores(logits))
        return scored[-1].argmax(-1)

    dream._choose = watched
    dream.restore(before)
    mine = dream.step_codes(action)[:, dream.order]
    dream._choose = choose
    dream.restore(after)
    theirs = dream._digits(codes)[:, dream.order]
    m, levels = dream.about["tokens_per_step"], len(mine)
    for call, scores in enumerate(scored):
        group, level = divmod(call, levels)
        for row, place in enumerate(range(group * m, (group + 1) * m)):
            if mine[level, place] != theirs[level, place]:
                return float(scores[row, mine[level, place]] - scores[row, theirs[level, place]])
    return 0.0


def newest_codes(dream: OnnxDream) -> np.ndarray:
    """Codes (N,) of the frame that was dreamed last: its digits as one number each."""
    assert dream.memory is not None
    codes = np.zeros(dream.memory.digits.shape[-1], np.int64)
    for digits in dream.memory.digits[:, -1]:
        codes = codes * dream.about["entries"] + digits
    return codes


def scripted(spec: ActionSpec | None, count: int, seed: int) -> np.ndarray | None:
    """Actions (count, ...) as one who explores would do them; None for a world without."""
    if spec is None:
        return None
    rng, policy = np.random.default_rng(seed), StickyRandom()
    return np.stack([np.asarray(policy({}, spec, rng)) for _ in range(count)])
