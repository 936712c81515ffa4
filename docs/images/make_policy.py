"""Draw docs/images/policy.png: what a policy imagined beside what came, from the films of its evaluation.

    python docs/images/make_policy.py runs/policy/eval

A column for each film, as many as `oneiros eval --videos` made: above what happened, below what had been imagined.
"""

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

MOMENT = 0.45  # of a film


def moment(film: Path) -> np.ndarray:
    """One frame of a film, its right half below its left: uint8."""
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frame = frames[int(MOMENT * len(frames))]
    return np.concatenate(np.split(frame, 2, axis=1))


def main(folder: Path) -> None:
    films = sorted((folder / "videos").glob("*.mp4"))
    picture = np.concatenate([moment(film) for film in films], axis=1)
    Image.fromarray(picture).save(Path(__file__).with_name("policy.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
