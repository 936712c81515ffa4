"""Whether what is done and how often agree: a world with a dataset, a policy with an environment, and so on."""

from __future__ import annotations

from dataclasses import dataclass

from oneiros.records import ActionSpec

# Environments and datasets tell whole frames a second, and so are off by up to 5 % at 10: ViZDoom's 8.75 counts as 9.
# Twice the stride, or 24 for 30, is far outside.
FPS_TOLERANCE = 0.05


@dataclass(frozen=True)
class Controls:
    """How something is acted in. name: for messages. action_spec: None = no actions. fps: rows, or steps of an
    environment, a second; None = unknown."""

    name: str
    action_spec: ActionSpec | None
    fps: float | None = None


def check_agreement(found: Controls, known: Controls) -> None:
    """ValueError where actions of `found` are not those that `known` learned from, or where one of them is more than
    5 % slower than the other. A `known` without actions takes any; a speed that is not told is not compared."""
    if known.action_spec is not None and not known.action_spec.matches(found.action_spec):
        raise ValueError(
            f"{found.name} has {_named(found.action_spec)}; {known.name} knows {_named(known.action_spec)}"
        )
    if found.fps and known.fps and abs(found.fps - known.fps) > FPS_TOLERANCE * max(found.fps, known.fps):
        raise ValueError(f"{found.name} runs at {found.fps:g} steps a second; {known.name} learned from {known.fps:g}")


def _named(spec: ActionSpec | None) -> str:
    return "no actions" if spec is None else f"{spec.kind} actions ({', '.join(spec.names)})"
