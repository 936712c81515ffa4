"""A filmed episode as a video: what happened, beside what the policy had imagined of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from oneiros.data.pictures import DREAMED, GIVEN, enlarge, save_frames
from oneiros.eval.policy_film import Film

_BAND = 22  # pixels above the pictures for words
_GAP = 8
_INK, _PAPER = (235, 233, 228), (24, 26, 29)


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
    seen = enlarge(film.seen)
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
    over = row == len(film.seen) - 1 and film.success is not None
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
