"""How long a film with a table of actions takes to be imported, beside decoding it alone, and how much memory.

    python benchmarks/importing.py [--frames 10000] [--height 480] [--width 640] [--repeats 3]

The film is drawn first: a view that pans over a texture, H.264 as cameras and ffmpeg write it (a key frame now and
then), with NAME.csv beside it. Then it is decoded, and imported, by turns, each in a process of its own. Seconds are of
the clock and of the processor, all threads together; the smallest of the repeats counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

from oneiros.data.frames import resize

FPS = 30


def draw(folder: Path, frames: int, height: int, width: int) -> Path:
    """folder/drive.mp4 and drive.csv, whose columns say how the view moves."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    texture = resize(coarse, 2 * height, 2 * width, crop=False)[0].astype(np.int16)
    texture = (texture + rng.integers(-12, 13, texture.shape)).clip(0, 255).astype(np.uint8)
    moves = np.repeat(rng.integers(-3, 4, (frames // 20 + 1, 2)), 20, axis=0)[:frames]
    middle = np.array([height, width])
    places = np.abs((np.cumsum(moves, axis=0) + middle) % (2 * middle) - middle)
    with av.open(str(folder / "drive.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for row, column in places:
            view = np.ascontiguousarray(texture[row : row + height, column : column + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())
    rows = "\n".join(f"{down},{right}" for down, right in moves)
    (folder / "drive.csv").write_text(f"down,right\n{rows}\n")
    return folder / "drive.mp4"


def decode(film: Path) -> None:
    with av.open(str(film)) as container:
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")


def measured(*arguments: str) -> dict[str, float]:
    """Seconds and MiB of this file, called so, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(what: str, film: Path, out: Path) -> None:
    from oneiros.cli import main as oneiros

    clock, processor = time.monotonic(), time.process_time()
    if what == "decode":
        decode(film)
    else:
        oneiros(["import", str(film), "--out", str(out)])
    told = {"clock": time.monotonic() - clock, "processor": time.process_time() - processor}
    print(json.dumps({**told, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "FILM", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], *map(Path, options.measure[1:]))
        return
    with TemporaryDirectory() as folder:
        film = draw(Path(folder), options.frames, options.height, options.width)
        found: dict[str, list[dict[str, float]]] = {"decode": [], "import": []}
        for repeat in range(options.repeats):
            for what, figures in found.items():
                figures.append(measured("--measure", what, str(film), f"{folder}/data{repeat}"))
    best = {what: {key: min(each[key] for each in figures) for key in figures[0]} for what, figures in found.items()}
    for what, figures in best.items():
        print(
            f"{what}: {figures['clock']:.1f} s, of the processor {figures['processor']:.1f} s "
            f"({1000 * figures['processor'] / options.frames:.2f} ms a frame), {figures['memory']:.0f} MiB"
        )
    ratios = [best["import"][key] / best["decode"][key] for key in ("clock", "processor")]
    print(f"import takes {ratios[0]:.1f} times as long as decoding ({ratios[1]:.1f} of the processor's time)")


if __name__ == "__main__":
    main()
