"""Speed and memory of kernel point convolution, forward and backward, against the same formula written in torch.

    python benchmarks/kernel_point_conv.py --threads 2

Runs the table of cases first and prints nothing when it is red. Contenders take turns, so that all meet the same
machine; times are the best of several. Memory is what a process needs at its highest, beyond operands and their
gradients.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneiros.ops.kernel_point_conv import kernel_point_conv
from oneiros.ops.neighbors import knn

SIGMA = 0.8
TESTS = Path(__file__).parents[1] / "tests" / "ops" / "test_kernel_point_conv.py"


@dataclass(frozen=True)
class Problem:
    num_points: int = 20_000
    num_neighbors: int = 16
    channels: int = 64
    num_kernel_points: int = 43
    group: int = 8
    device: str = "cpu"
    ordered: bool = False

    def tensors(self) -> list:
        """The first eight arguments of `kernel_point_conv`: points of a cube, their neighbours, random numbers."""
        torch.manual_seed(0)
        points = torch.rand(self.num_points, 3) * (self.num_points / 20) ** (1 / 3)
        if self.ordered:  # by cells of side 1, as a cloud is that was subsampled on a grid
            points = points[np.lexsort(points.long().numpy().T)]
        neighbors = knn(points, points, self.num_neighbors)[0]
        shell = torch.nn.functional.normalize(torch.randn(self.num_kernel_points, 3), dim=1)
        kernel_points = shell * torch.rand(self.num_kernel_points, 1) * SIGMA
        weights = torch.randn(self.num_kernel_points, self.channels)
        modulations = torch.rand(self.num_points, self.num_kernel_points, self.channels // self.group)
        features = torch.randn(self.num_points, self.channels)
        tensors = [points, points, neighbors, kernel_points, SIGMA, weights, modulations, features]
        moved = [x.to(self.device) if isinstance(x, Tensor) else x for x in tensors]
        for factor in moved[5:]:
            factor.requires_grad_()
        return moved

    def floor(self) -> tuple[float, float]:
        """Least arithmetic operations and bytes of a forward and backward pass."""
        edges = self.num_points * self.num_neighbors
        geometry = edges * self.num_kernel_points * 9  # three differences and squares, two sums, a comparison
        products = edges * self.channels * (4 + 8)  # forward; gradients of weights, modulations and features
        rows = self.num_points * self.channels
        gates = self.num_points * self.num_kernel_points * self.channels // self.group
        # Features and modulations are read in both directions; output, its gradient and theirs pass once.
        return geometry + products, 4.0 * (5 * rows + 3 * gates) + 16.0 * edges


def official(points, queries, neighbors, kernel_points, sigma, weights, modulations, features) -> Tensor:
    """The operations of the authors' released code, in our words: gather neighbours, all distances, min, gather
    weights, multiply, sum. Geometry takes no gradients there."""
    with torch.no_grad():
        offsets = _gathered(points, neighbors) - queries[:, None]
        squared, nearest = (offsets[:, :, None] - kernel_points).square().sum(-1).min(-1)
        influence = (1 - squared.sqrt() / sigma).clamp_min(0)
    groups = modulations.shape[2]
    gates = modulations.gather(1, nearest[..., None].expand(-1, -1, groups))
    kernels = _gathered(weights, nearest).unflatten(-1, (groups, -1)) * gates[..., None]
    kernels = kernels.flatten(2) * influence[..., None]
    return (kernels * _gathered(features, neighbors)).sum(1)


def _gathered(table: Tensor, rows: Tensor) -> Tensor:
    """Rows of a table; this was measured a little faster, with its gradient, than indexing."""
    return table.gather(0, rows.reshape(-1, 1).expand(-1, table.shape[1])).view(*rows.shape, -1)


def compiled(*tensors) -> Tensor:
    return kernel_point_conv(*tensors)


def plain(*tensors) -> Tensor:
    return kernel_point_conv(*tensors, implementation="reference")


CONTENDERS: dict[str, Callable[..., Tensor]] = {"compiled": compiled, "official": official, "plain torch": plain}


def forward_and_backward(function: Callable[..., Tensor], tensors: list) -> tuple[float, float]:
    """Seconds of the forward pass and of both."""
    for factor in tensors[5:]:
        factor.grad = None
    grad = torch.ones(len(tensors[1]), tensors[7].shape[1], device=tensors[7].device)
    _wait(grad)
    start = time.perf_counter()
    out = function(*tensors)
    _wait(out)
    middle = time.perf_counter()
    out.backward(grad)
    _wait(out)
    return middle - start, time.perf_counter() - start


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


def print_times(problem: Problem, repeats: int) -> None:
    tensors = problem.tensors()
    for function in CONTENDERS.values():
        forward_and_backward(function, tensors)
    best = dict.fromkeys(CONTENDERS, (float("inf"), float("inf")))
    for _ in range(repeats):
        for name, function in CONTENDERS.items():
            best[name] = tuple(map(min, best[name], forward_and_backward(function, tensors)))
    print("| implementation | forward ms | forward + backward ms | times slower |\n|---|---|---|---|")
    for name, (forward, both) in best.items():
        print(f"| {name} | {forward * 1e3:.1f} | {both * 1e3:.1f} | {both / best['compiled'][1]:.1f} |")
    operations, size = problem.floor()
    seconds = best["compiled"][1]
    print(f"\nFloor: {operations / 1e6:.0f} M operations, {size / 1e6:.0f} MB.", end=" ")
    print(
        f"Reached: {operations / seconds / 1e9:.1f} G operations/s and {size / seconds / 1e9:.1f} GB/s at once;",
        end=" ",
    )
    print(f"this machine copies {_copy_rate(problem.device) / 1e9:.1f} GB/s.")


def _copy_rate(device: str) -> float:
    """Bytes read and written a second."""
    source = torch.ones(16 * 2**20, device=device)
    target, best = torch.empty_like(source), float("inf")
    for _ in range(10):
        _wait(source)
        start = time.perf_counter()
        target.copy_(source)
        _wait(source)
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def print_memory(problem: Problem, threads: int) -> None:
    print("\n| neighbours | kernel points | " + " | ".join(f"{name} MB" for name in CONTENDERS) + " |")
    print("|---|---|" + "---|" * len(CONTENDERS))
    fields = problem.num_points, problem.channels, problem.group, problem.device
    for num_neighbors in (8, 16, 32):
        for num_kernel_points in (15, 43):
            sizes = []
            for name in CONTENDERS:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    sizes.append(pool.apply(extra_memory, (name, num_neighbors, num_kernel_points, fields, threads)))
            print(f"| {num_neighbors} | {num_kernel_points} | " + " | ".join(f"{s / 1e6:.1f}" for s in sizes) + " |")


def extra_memory(name: str, num_neighbors: int, num_kernel_points: int, fields: tuple, threads: int) -> int:
    """Peak bytes of a forward and backward pass beyond the operands, the output and all their gradients."""
    torch.set_num_threads(threads)
    num_points, channels, group, device = fields
    problem = Problem(num_points, num_neighbors, channels, num_kernel_points, group, device)
    warm = Problem(64, num_neighbors, channels, num_kernel_points, group, device)
    forward_and_backward(CONTENDERS[name], warm.tensors())
    tensors = problem.tensors()
    necessary = sum(factor.nbytes for factor in tensors[5:]) + 2 * tensors[7].nbytes
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        forward_and_backward(CONTENDERS[name], tensors)
        return torch.cuda.max_memory_allocated() - before - necessary
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest size so far
    before = _resident("VmRSS")
    forward_and_backward(CONTENDERS[name], tensors)
    return _resident("VmHWM") - before - necessary


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--ordered", action="store_true", help="points by cells of a grid; else in no order at all")
    parser.add_argument("--times-only", action="store_true", help="no table of memory, which takes most at many points")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    table = subprocess.run([sys.executable, "-m", "pytest", str(TESTS), "-k", "TestTable"], capture_output=True)
    if table.returncode:
        sys.exit(1)
    torch.set_num_threads(options.threads)
    problem = Problem(num_points=options.points, device=options.device, ordered=options.ordered)
    print_times(problem, options.repeats)
    if not options.times_only:
        print_memory(problem, options.threads)


if __name__ == "__main__":
    main()
