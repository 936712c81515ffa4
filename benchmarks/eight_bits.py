"""What a world loses where `oneiros export --quantize int8` keeps its weights in 8 bits.

    python benchmarks/eight_bits.py RUN OUT
    oneiros eval OUT DATA                      beside   oneiros eval RUN DATA

OUT becomes a copy of the run folder whose large weights went through 8 bits and back, by the rule of export.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from oneiros.export.onnx_files import LEAST, in_eight_bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    shutil.copytree(args.run, args.out)
    for path in sorted(args.out.rglob("model.safetensors")):
        save_file({name: rounded(tensor) for name, tensor in load_file(path).items()}, path)
        print(f"{path.relative_to(args.out)}: in 8 bits and back")


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point() or tensor.numel() < LEAST:
        return tensor
    whole, scales = in_eight_bits(tensor.float().numpy())
    return torch.from_numpy(whole * scales).to(tensor.dtype)


if __name__ == "__main__":
    main()
