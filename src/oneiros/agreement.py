"""Whether actions and rate of two things agree: of a world and a dataset, a policy and an environment, and so on."""

from __future__ import annotations

from dataclasses import dataclass

from oneiros.records import ActionSpec

# Environments and datasets tell whole frames a second, and so are off by up to 5 % at 10: ViZDoom's 8.75 counts as 9.
# Twice the stride, or 24 for 30, is far outside.
FPS_TOLERANCE = 0.05


@dataclass(frozen=True)
class Controls:
    """Actions and rate of a model, a dataset or an environment.

    name: for messages. action_spec: None = no actions. fps: rows, or steps of an environment, a second; None = unknown.
    """

    name: str
    action_spec: ActionSpec | None
    fps: float | None = None


def check_agreement(found: Controls, expected: Controls) -> None:
    """Raises ValueError where the actions of `found` are not the `expected` ones, or where one of the two is more than
    5 % slower than the other. Where none are expected any will do; an unknown rate is not compared."""
    if expected.action_spec is not None and not expected.action_spec.matches(found.action_spec):
        raise ValueError(
            f"{found.name} has {_named(found.action_spec)}; {expected.name} knows {_named(expected.action_spec)}"
        )
    if found.fps and expected.fps and abs(found.fps - expected.fps) > FPS_TOLERANCE * max(found.fps, expected.fps):
        raise ValueError(
            f"{found.name} runs at {found.fps:g} steps a second; {expected.name} learned from {expected.fps:g}"
        )


def _named(spec: ActionSpec | None) -> str:
    return "no actions" if spec is None else f"{spec.kind} actions ({', '.join(spec.names)})"
