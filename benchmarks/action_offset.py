"""Whether `oneiros inspect` finds how far actions are shifted against frames, in recordings shifted on purpose.

    python benchmarks/action_offset.py DATA... [--episodes 20]

DATA are LeRobot datasets whose actions belong to their rows, such as `oneiros record` writes. Of each, so many episodes
spread over it are looked at as `oneiros inspect` does; then their actions are moved by -2 to +2 rows, so that row t
holds the action of row t - k, and the shift that is found is compared with k. At last every fifth episode alone is
moved by one row, and the episodes that are named are compared with those. Prints a line for each case, how many are
right, and the processor time of each dataset, decoding included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from oneiros.data.episodes.clips import spread
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.inspection.look import MOST_ROWS, moved
from oneiros.data.episodes.inspection.offset import SIDE, Moved, find_offset


def shifted(episode: Moved, by: int) -> Moved:
    """Row t holds the action of row t - by; rows without one are dropped."""
    source = np.arange(len(episode.frames)) - by
    kept = np.flatnonzero((source >= 0) & (source < len(episode.actions)))
    state = None if episode.state is None else episode.state[kept]
    return Moved(episode.index, episode.frames[kept], episode.actions[source[kept]], state)


def read(path: str, most: int) -> list[Moved]:
    dataset = Dataset.open(path)
    camera = dataset.camera()
    places = [dataset.episodes[place] for place in spread(most, len(dataset.episodes))]
    films = {
        each.index: dataset.thumbnails(each.index, camera, SIDE, stop=min(each.length, MOST_ROWS)) for each in places
    }
    return moved(dataset, films)


def measure(path: str, most: int) -> tuple[int, int]:
    """How many cases are right, of how many."""
    began, right = time.process_time(), 0
    episodes = read(path, most)
    for by in range(-2, 3):
        found = find_offset([shifted(each, by) for each in episodes])
        right += found is not None and found.shift == by
        told = "nothing" if found is None else f"{found.shift}, {found.sure:.0%} sure, episodes otherwise: {found.odd}"
        print(f"{path}: shifted by {by:+d}: {told}")
    some = {each.index for each in episodes[::5]}
    mixed = find_offset([shifted(each, int(each.index in some)) for each in episodes])
    odd = {} if mixed is None else mixed.odd
    print(f"{path}: {len(some)} of {len(episodes)} episodes shifted by +1: named {len(some & odd.keys())}, "
          f"named in vain {len(odd.keys() - some)}")  # fmt: skip
    print(f"{path}: {right} of 5 right, {time.process_time() - began:.1f} s of processor time for six searches\n")
    return right, 5


def main(paths: Sequence[str], most: int) -> None:
    counts = [measure(path, most) for path in paths]
    print(f"{sum(right for right, _ in counts)} of {sum(every for _, every in counts)} shifts found")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="LeRobot datasets whose actions belong to their rows")
    parser.add_argument("--episodes", type=int, default=20)
    options = parser.parse_args()
    main(options.data, options.episodes)
