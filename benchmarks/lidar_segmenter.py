"""The segmenter on airborne lidar, a fold for each tile: trained on all others, measured on it.

  python benchmarks/lidar_segmenter.py tiles/*.laz --out runs/folds

The same protocol as benchmarks/lidar_forest.py: classes ground (2), vegetation (3 to 5) and building (6), everything
else ignored; every labelled point of the tile is measured. Folds whose runs are there are
measured again without training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from oneiros import machine
from oneiros.points.evaluation.run import evaluate_segmenter
from oneiros.points.training import SegmenterSettings, run
from oneiros.run_folder import WEIGHTS
from oneiros.train.log import read_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--only", nargs="*", default=[], help="names of tiles to measure on; default: each")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    machine.prepare()
    table = []
    for tile in (tile for tile in options.tiles if not options.only or tile.stem in options.only):
        out = options.out / tile.stem
        settings = _settings(tuple(options.tiles), tile, out, options)
        if not (out / WEIGHTS).is_file():
            run(settings)
        scores = evaluate_segmenter(out, (tile,), out=out / "eval")
        table.append({"tile": tile.stem, "seconds": read_metrics(out / "metrics.jsonl")[-1]["seconds"], **scores})
        print(_row(table[-1]), flush=True)
    (options.out / "folds.json").write_text(json.dumps(table, indent=2) + "\n")


def _settings(tiles: tuple[Path, ...], tile: Path, out: Path, options: argparse.Namespace) -> SegmenterSettings:
    return SegmenterSettings(clouds=tiles, held_out=(tile,), out=out, preset=options.preset, steps=options.steps)


def _row(fold: dict) -> str:
    ious = "  ".join(f"{name} {values['iou']:.3f}" for name, values in fold["classes"].items())
    return f"{fold['tile']}  mIoU {fold['miou']:.3f}  accuracy {fold['accuracy']:.3f}  {ious}  {fold['seconds']:.0f} s"


if __name__ == "__main__":
    main()
