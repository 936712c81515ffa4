"""Speed and memory of the Video Former against the same computation with materialised attention, in one run.

    python benchmarks/video_former.py --threads 2
    python benchmarks/video_former.py --threads 1 --curve

At the size of Video Prediction Policy: a clip of 16 frames x 512 features x 2560 becomes 224 tokens of 384, in 6 layers
of 8 heads x 64. The other contender computes every key and value and the attention matrix, einsum + softmax, from the
same weights. Their results are compared first, and nothing is printed where they differ. Contenders take turns, so that
both meet the same machine; times are the best of several. Memory is what a process needs at its highest, beyond weights
and features (and, where it learns, the gradients of weights).

--curve: instead, at the size of the small policy, what 16 to 256 features a frame cost in processor time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from oneiros.video_former import VideoFormer3D
from oneiros.video_former.layers import PerceiverAttention, SelfAttention

FRAMES, FEATURES, CONDITION_DIM, NUM_LATENTS = 16, 512, 2560, 224
TASKS = ("forward", "forward, bf16 autocast", "forward + backward")


def make_former() -> VideoFormer3D:
    torch.manual_seed(0)
    return VideoFormer3D(
        dim=384, depth=6, condition_dim=CONDITION_DIM, num_latents=NUM_LATENTS, num_frames=FRAMES
    ).eval()


def make_features(num_frames: int = FRAMES) -> Tensor:
    return torch.randn(1, num_frames, FEATURES, CONDITION_DIM, generator=torch.Generator().manual_seed(0))


def oneiros(former: VideoFormer3D, features: Tensor) -> Tensor:
    return former(features)


def materialised(former: VideoFormer3D, features: Tensor) -> Tensor:
    """`former` as the released code computes it, in our words."""
    frames = features.shape[1]
    x = (former.project(features) + former.time_embedding[:frames]).flatten(0, 1)
    latents = former.latents[:frames]
    for layer in former.layers:
        latents = latents + _read(layer.read, x, latents)
        latents = latents + _over_time(layer.temporal, latents.transpose(0, 1)).transpose(0, 1)
        latents = latents + layer.feed_forward(latents)
    return former.norm(latents.flatten(0, 1))[None]


def _read(attention: PerceiverAttention, features: Tensor, latents: Tensor) -> Tensor:
    latents = attention.norm_latents(latents)
    seen = torch.cat([attention.norm_media(features), latents], 1)
    query, key, value = attention.to_q(latents), attention.to_k(seen), attention.to_v(seen)
    return attention.to_out(_attend(*(x.unflatten(-1, (attention.heads, -1)) for x in (query, key, value))))


def _over_time(attention: SelfAttention, x: Tensor) -> Tensor:
    return attention.proj(_attend(*attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).unbind(2)))


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = torch.einsum("bqhd,bkhd->bhqk", query * query.shape[-1] ** -0.5, key)
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value).flatten(2)


CONTENDERS: dict[str, Callable[[VideoFormer3D, Tensor], Tensor]] = {"oneiros": oneiros, "materialised": materialised}


def perform(task: str, contender: str, former: VideoFormer3D, features: Tensor) -> None:
    learns = task == "forward + backward"
    precision = torch.autocast("cpu", torch.bfloat16) if "bf16" in task else nullcontext()
    with torch.set_grad_enabled(learns), precision:
        tokens = CONTENDERS[contender](former, features)
        if learns:
            former.zero_grad(set_to_none=False)
            tokens.sum().backward()


def seconds(task: str, repeats: int) -> dict[str, float]:
    """Best of several of each contender."""
    former, features = make_former(), make_features()
    best = dict.fromkeys(CONTENDERS, float("inf"))
    for turn in range(repeats + 1):
        for contender in CONTENDERS:
            start = time.perf_counter()
            perform(task, contender, former, features)
            if turn > 0:  # the first warms up
                best[contender] = min(best[contender], time.perf_counter() - start)
    return best


def extra_memory(task: str, contender: str, threads: int) -> int:
    """Peak bytes beyond weights, features and gradients of weights; for a process of its own."""
    torch.set_num_threads(threads)
    former, features = make_former(), make_features()
    perform(task, contender, former, make_features(num_frames=1))
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest size so far
    before = _resident("VmRSS")
    perform(task, contender, former, features)
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


@torch.no_grad()
def greatest_difference() -> float:
    former, features = make_former(), make_features(num_frames=4)
    return float((oneiros(former, features) - materialised(former, features)).abs().max())


def _ratio(measured: dict[str, float]) -> float:
    return measured["materialised"] / measured["oneiros"]


@torch.no_grad()
def curve(repeats: int) -> str:
    """A table: processor time of a forward pass of the small policy's former, over features of each of four frames."""
    torch.manual_seed(0)
    former = VideoFormer3D(dim=192, depth=2, condition_dim=192, heads=6, head_dim=32, num_latents=16, num_frames=4)
    lines = ["| features a frame | processor time |", "|---|---|"]
    for count in (16, 64, 144, 256):
        features, best = torch.randn(1, 4, count, 192), float("inf")
        for _ in range(10 * repeats):
            began = time.process_time()
            former.eval()(features)
            best = min(best, time.process_time() - began)
        lines.append(f"| {count} | {1e3 * best:.1f} ms |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--curve", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.curve:
        print(curve(options.repeats))
        return
    if greatest_difference() > 1e-4:
        sys.exit(1)
    names = " | ".join(f"{name} {unit}" for unit in ("ms", "MB") for name in (*CONTENDERS, "ratio of"))
    print(f"| | {names} |\n|{7 * '---|'}")
    for task in TASKS:
        ms = {contender: 1e3 * best for contender, best in seconds(task, options.repeats).items()}
        mb = {}
        for contender in CONTENDERS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                mb[contender] = pool.apply(extra_memory, (task, contender, options.threads)) / 1e6
        columns = [f"{x['oneiros']:.0f} | {x['materialised']:.0f} | {_ratio(x):.2f}" for x in (ms, mb)]
        print(f"| {task} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
