"""An episode with everything a policy saw, and what it imagined at each decision.

Legend: T steps, D decisions, F imagined frames, k steps between two of them, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from oneiros.data.frames import to_uint8
from oneiros.data.pictures import DREAMED, GIVEN, enlarge, save_frames
from oneiros.envs.pixel_env import PixelEnv, succeeded
from oneiros.policy.evaluation.observing import Images, colour_of
from oneiros.policy.evaluation.rollouts import LearnedActor, begin_at, instruction_of, seed_of

_BAND, _GAP = 22, 8  # pixels above the pictures for words, and between them
_INK, _PAPER = (235, 233, 228), (24, 26, 29)


@dataclass(frozen=True)
class Film:
    """frames: uint8 (T + 1, H, W, 3), before each step and after the last. decisions: (D,) steps at which the policy
    decided. imagined: uint8 (D, F, H, W, 3), what it expected then for k, 2k, ... Fk steps later; F is 0 for a policy
    that imagines nothing. stride: k. success: as in `Outcome`.
    """

    task: str
    start: int
    frames: np.ndarray
    decisions: np.ndarray
    imagined: np.ndarray
    stride: int
    fps: float
    success: bool | None

    def happened(self, decision: int) -> list[np.ndarray | None]:
        """What was seen at the moments that the decision imagined; None after the episode's end."""
        now, count = int(self.decisions[decision]), self.imagined.shape[1]
        rows = [now + (index + 1) * self.stride for index in range(count)]
        return [self.frames[row] if row < len(self.frames) else None for row in rows]


def film(
    actor: LearnedActor,
    env: PixelEnv,
    *,
    task: str | None,
    start: int,
    max_steps: int,
    seed: int = 0,
) -> Film:
    """Play one episode as `play` does, looking at every step."""
    observation: Images = begin_at(env, task, start)
    instruction = instruction_of(env, task)
    actor.begin([seed_of(seed, task, start)], [instruction])
    seen, decisions, imagined = [colour_of(observation, env, actor.observation_spec)], [], []
    success: bool | None = None
    for index in range(max_steps):
        decides = actor.plans
        action = actor.act([observation], [env])[0]
        if decides:
            decisions.append(index)
            imagined.append(_imagined(actor))
        observation, _, terminated, truncated, info = env.step(action)
        seen.append(colour_of(observation, env, actor.observation_spec))
        if (reached := succeeded(info)) is not None:
            success = reached or bool(success)
        if success or terminated or truncated:
            break
    return Film(
        task=instruction or task or "",
        start=start,
        frames=np.stack(seen),
        decisions=np.array(decisions),
        imagined=np.stack(imagined),
        stride=_stride(actor.model),
        fps=actor.observation_spec.fps,
        success=success,
    )


def _imagined(actor: LearnedActor) -> np.ndarray:
    """uint8 (F, H, W, 3)."""
    frames = actor.model.imagined_frames(actor.carry)
    if frames is None:
        return np.zeros((0, actor.observation_spec.height, actor.observation_spec.width, 3), np.uint8)
    return to_uint8(frames)[0].cpu().numpy()


def _stride(model: Any) -> int:
    return 1 if model.world is None else int(model.world.config.frame_stride)


def save_film(film: Film, folder: Path) -> Path:
    """Write `folder`/TASK-START.mp4 and return where it is."""
    name = "".join(letter if letter.isalnum() else "-" for letter in film.task.lower()) or "episode"
    path = folder / f"{name}-{film.start:02d}.mp4"
    save_frames(beside_imagination(film), path, fps=film.fps)
    return path


def beside_imagination(film: Film) -> np.ndarray:
    """uint8 (T + 1, H', W', 3): left what is seen; right what a decision had expected of that moment.

    An imagination is shown until its last frame, then that of the decision at this moment takes its place. Without
    imagination there is only the left half.
    """
    seen = enlarge(film.frames)
    if not film.imagined.shape[1]:
        return np.stack([_labelled([(frame, _step(film, row), GIVEN)]) for row, frame in enumerate(seen)])
    frames = []
    decision, ahead = 0, film.imagined.shape[1] * film.stride
    for row, frame in enumerate(seen):
        if row > film.decisions[decision] + ahead:
            decision = int(np.flatnonzero(film.decisions <= row)[-1])
        since = row - int(film.decisions[decision])
        if since < film.stride:
            right = (seen[film.decisions[decision]], "imagines from here", GIVEN)
        else:
            index = min(since // film.stride, film.imagined.shape[1])
            picture = enlarge(film.imagined[decision, index - 1])
            right = (picture, f"imagined at step {film.decisions[decision]}: +{index * film.stride}", DREAMED)
        frames.append(_labelled([(frame, _step(film, row), GIVEN), right]))
    return np.stack(frames)


def _step(film: Film, row: int) -> str:
    over = row == len(film.frames) - 1 and film.success is not None
    return f"{film.task} {row}{(' success' if film.success else ' failure') if over else ''}"


def _labelled(panels: list[tuple[np.ndarray, str, tuple[int, int, int]]]) -> np.ndarray:
    """Pictures side by side, each under its words and a bar of its colour; even sizes, as videos want them."""
    height, width = panels[0][0].shape[:2]
    canvas = Image.new("RGB", (len(panels) * (width + _GAP) - _GAP, height + _BAND), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, (picture, words, colour) in enumerate(panels):
        left = place * (width + _GAP)
        draw.text((left + 4, 4), words, fill=_INK)
        draw.rectangle((left, _BAND - 3, left + width - 1, _BAND - 1), fill=colour)
        canvas.paste(Image.fromarray(picture), (left, _BAND))
    return np.asarray(canvas)
