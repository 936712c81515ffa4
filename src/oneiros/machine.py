"""The machine: its devices and cores, which numbers it multiplies fastest, and what reports tell of it."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneiros import __version__

if TYPE_CHECKING:
    import torch

_PACKAGES = ("oneiros", "torch", "numpy", "lightning-fabric", "vector-quantize-pytorch", "safetensors", "av")
_TRIAL_SECONDS = 1.0
_WORTH_IT = 1.25  # how many times faster several threads must be than one


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_device() -> torch.device:
    """A GPU where there is one (of this process under torchrun), else the CPU."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def bf16_is_faster(device_type: str) -> bool:
    """Whether this machine has instructions for bf16 matrix products (measured 5x float32 on CPUs that have)."""
    import torch

    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def prepare() -> None:
    """Set this process up for training. For programs, such as the command line: it changes the whole process.

    malloc keeps what a step frees instead of handing it back to the kernel. By default glibc maps large tensors anew
    each time, and every page is faulted in again: on virtual machines that was measured to double the time of
    elementwise operations. Does nothing where libc is not glibc.

    As many files may be open as the system allows: each decoded episode is one, and the usual limit is 1,024.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28), (arena_max, 1)):
        mallopt(option, value)


def choose_threads(step: Callable[[], object], threads: int | None = None) -> None:
    """Set torch's threads for the whole process: to `threads`, or to all where they do `step` much faster than one.

    On a machine with other things to do, threads that wait for one another were measured ten times slower than one, and
    what else it will do nobody knows: so all must be a quarter faster to be taken. Either way `step` is done a few
    times, so that the first that counts is as quick as the rest.
    """
    import torch

    seconds = {}
    for count in (threads,) if threads else sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(count)
        step()
        began, steps = time.perf_counter(), 0
        while steps < 3 or (steps < 20 and time.perf_counter() - began < _TRIAL_SECONDS):
            step()
            steps += 1
        seconds[count] = (time.perf_counter() - began) / steps
    one = min(seconds)
    torch.set_num_threads(min(seconds, key=lambda count: seconds[count] * (1 if count == one else _WORTH_IT)))


@contextmanager
def all_cores() -> Iterator[None]:
    """Inside, torch computes with a thread for each core."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def processor() -> str:
    """The processor's own name; Python only knows its architecture on Linux."""
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpus() -> list[str]:
    """The names of the GPUs that torch sees."""
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def describe() -> dict[str, Any]:
    """What figures are measured on, for a report: versions, processor, cores and torch's threads."""
    import torch

    return {
        "oneiros": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
    }


def environment(device: str, precision: str) -> dict[str, Any]:
    """The command, commit, versions and machine of this process, for a training run's `environment.json`."""
    import torch

    return {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "machine": {
            "system": platform.platform(),
            "cpu": processor(),
            "cores": cores(),
            "threads": torch.get_num_threads(),
            "gpu": next(iter(gpus()), None),
            "processes": int(os.environ.get("WORLD_SIZE", 1)),
        },
        "device": device,
        "precision": precision,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout this package runs from; None where it was installed otherwise."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "--no-optional-locks", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + (" with changes" if changed else "")
