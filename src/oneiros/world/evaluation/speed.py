"""How long a player waits for a frame: one dream, one step after the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from oneiros.console import Track, silent
from oneiros.data.frames import to_uint8
from oneiros.machine import bf16_is_faster
from oneiros.world.rollout import begin, context_of, steps

if TYPE_CHECKING:
    from oneiros.world.evaluation.config import ClipSource, EvalConfig
    from oneiros.world.model import World

_WARM_UP = 20


def measure_speed(
    world: World, clips: ClipSource, *, config: EvalConfig, track: Track = silent
) -> dict[str, Any] | None:
    """Milliseconds of a step, from the action to a uint8 frame in memory, after a warm-up."""
    if config.speed_steps == 0:
        return None
    clip = clips.batch([0])
    stride = world.tokenizer.temporal_stride
    num_steps = _WARM_UP + config.speed_steps
    actions = clip.actions
    if actions is not None:
        rows = torch.arange(num_steps * stride) % actions.shape[1]
        actions = actions[:, rows]
    dream = steps(
        world,
        begin(world, context_of(clip, config.context)),
        actions,
        num_frames=num_steps * stride,
        sampling=config.sampling,
        generator=torch.Generator(world.device).manual_seed(config.seed),
    )
    advance = track("timing single steps", num_steps)
    seconds = []
    for _ in range(num_steps):
        began = time.perf_counter()
        to_uint8(next(dream).frames).cpu()  # copying to memory also waits for an accelerator
        seconds.append(time.perf_counter() - began)
        advance(1)
    times = torch.tensor(seconds[_WARM_UP:], dtype=torch.float64)
    p50, p95, p99 = (times.quantile(q).item() * 1000 for q in (0.5, 0.95, 0.99))
    return {
        "frames_per_second": stride / times.mean().item(),
        "step_ms": {"p50": p50, "p95": p95, "p99": p99},
        "steps": config.speed_steps,
        "threads": torch.get_num_threads(),
        "device": str(world.device),
        "bf16": bf16_is_faster(world.device.type) and not config.float32,
    }
