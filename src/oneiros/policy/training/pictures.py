"""Planned actions beside those of the demonstrations while a policy trains, in numbers and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from oneiros.data.episodes.clips import spread
from oneiros.disk import replacing
from oneiros.policy.model import Policy
from oneiros.policy.nn.action_numbers import to_numbers
from oneiros.policy.training.data import PolicyData
from oneiros.records import ActionSpec, Observation, PolicyBatch

_MEASURED, _AT_ONCE = 32, 32
_DRAWN_ROWS = 8  # dimensions of an action


def draw(policy: Policy, data: PolicyData, step: int, path: Path) -> dict[str, float]:
    """Plan at moments spread over all episodes, the same each time; and through one episode, drawn to `path`.

    Returns the mean error of the actions that would be done before the next plan, in standard deviations.
    """
    error = _error(policy, data, spread(_MEASURED, len(data.moments)))
    chosen = _one_episode(policy, data)
    batch = data.batch(chosen, None)
    rows = [data.moments.where(moment)[1] for moment in chosen]
    _save_picture(policy.config.action_spec, rows, batch, plan(policy, batch, chosen), f"step {step:,}", path)
    return {"sampled/action_error": error}


def plan(policy: Policy, batch: PolicyBatch, seeds: Sequence[int]) -> Tensor:
    """Chunks (B, L, ...) sampled from a batch's features, in the environment's units."""
    assert batch.features is not None
    device = policy.device
    observation = Observation(
        frames=torch.empty(0),
        state=batch.state,
        task=tuple(policy.config.tasks[goal] for goal in batch.goal.tolist()),
        depth=batch.depth,
    ).to(device)
    return policy.denoise(policy.condition(batch.features.to(device), observation), seeds).cpu()


def _error(policy: Policy, data: PolicyData, moments: Sequence[int]) -> float:
    spec, done = policy.config.action_spec, policy.config.execute
    batch = data.batch(moments, None)
    wrong = to_numbers(plan(policy, batch, moments), spec) - to_numbers(batch.actions, spec)
    counted = batch.valid[:, :done]
    return float(wrong[:, :done][counted].abs().mean())


def _one_episode(policy: Policy, data: PolicyData) -> list[int]:
    """Moments of the middle episode, about as far apart as plans are."""
    place, _ = data.moments.where(len(data.moments) // 2)
    apart = max(1, policy.config.execute // data.moments.every)
    moments = [moment for moment in range(len(data.moments)) if data.moments.where(moment)[0] == place]
    return moments[::apart][:_AT_ONCE]


def _save_picture(
    spec: ActionSpec, rows: Sequence[int], batch: PolicyBatch, planned: Tensor, title: str, path: Path
) -> None:
    """A curve for each dimension: what was done, and over it every plan from its moment on."""
    from matplotlib.figure import Figure

    names = ("choice",) if spec.kind == "discrete" else spec.names[:_DRAWN_ROWS]
    real, plan = (actions.float().reshape(*batch.valid.shape, -1) for actions in (batch.actions, planned))
    figure = Figure(figsize=(9, 1 + 1.3 * len(names)), layout="constrained")
    figure.suptitle(f"{title}: actions done (grey) and planned (coloured), by row of an episode")
    axes = figure.subplots(len(names), squeeze=False)[:, 0]
    for dimension, (name, panel) in enumerate(zip(names, axes, strict=True)):
        for moment, row in enumerate(rows):
            count = int(batch.valid[moment].sum())
            over = range(row, row + count)
            panel.plot(over, real[moment, :count, dimension], color="0.6", linewidth=3)
            panel.plot(over, plan[moment, :count, dimension], linewidth=1)
        panel.set_ylabel(name)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)
