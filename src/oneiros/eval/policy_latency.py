"""How long a decision takes, and what of it goes to which part."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from oneiros.eval.rollouts import Learned, begin_at, seed_of, step, words_of

_WARM_UP = 3


def measure_latency(
    actor: Learned,
    env: Any,
    *,
    task: str | None,
    decisions: int,
    max_steps: int,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Milliseconds, p50 and p95, of decisions in one environment: from its pictures to the chunk of actions.

    total: `act` whenever it decides, pictures made into frames included. Of a policy with stages also `imagine` (encode
    the frames, imagine on), `condition` (the Video Former) and `denoise` (the diffusion), timed on the same moments.
    """
    clocks = _Clocks(actor)
    start, count = 0, 0
    with clocks, _all_cores():
        while count < decisions + _WARM_UP:
            observation = begin_at(env, task, start)
            actor.begin([seed_of(0, task, start)], [words_of(env, task)])
            start += 1
            for _ in range(max_steps):
                decides = actor.plans
                began = time.perf_counter()
                action = actor.act([observation], [env])[0]
                _wait(actor)
                if decides:
                    clocks.add("total", time.perf_counter() - began)
                    count += 1
                    advance(int(count > _WARM_UP))
                observation, _, terminated, truncated, _ = step(env, action, observe=actor.looks)
                if terminated or truncated or count == decisions + _WARM_UP:
                    break
    return {
        "decision_ms": {name: _percentiles(values[_WARM_UP:]) for name, values in clocks.seconds.items()},
        "decisions": decisions,
        "threads": _cores(),
    }


@contextmanager
def _all_cores() -> Iterator[None]:
    """Inside, torch computes with a thread for each core."""
    before = torch.get_num_threads()
    torch.set_num_threads(_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Clocks:
    """While entered, the parts of a decision are timed whenever `act` comes to them."""

    def __init__(self, actor: Learned) -> None:
        self._actor, self.seconds = actor, {"total": []}
        model = actor.model
        owners = {"imagine": getattr(model, "world", None), "condition": model, "denoise": model}
        self._owners = {name: owner for name, owner in owners.items() if hasattr(owner, name)}

    def add(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)

    def __enter__(self) -> _Clocks:
        for name, owner in self._owners.items():
            owner.__dict__[name] = self._timed(name, getattr(owner, name))  # hides the method of the class
        return self

    def __exit__(self, *error: object) -> None:
        for name, owner in self._owners.items():
            del owner.__dict__[name]

    def _timed(self, name: str, part: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            result = part(*arguments, **options)
            _wait(self._actor)
            self.add(name, time.perf_counter() - began)
            return result

        return timed


def _wait(actor: Learned) -> None:
    """For an accelerator that may still be computing."""
    if actor.device.startswith("cuda"):
        torch.cuda.synchronize()


def _percentiles(seconds: list[float]) -> dict[str, float]:
    times = torch.tensor(seconds, dtype=torch.float64) * 1000
    return {"p50": times.quantile(0.5).item(), "p95": times.quantile(0.95).item(), "mean": times.mean().item()}
