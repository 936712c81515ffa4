"""The kinds of contenders: the one table to add a model that acts to."""

from __future__ import annotations

from dataclasses import dataclass

from oneiros.policy.cloning import Cloning
from oneiros.policy.model import Policy


@dataclass(frozen=True)
class ContenderKind:
    """label: as reports call it. colour: of its bars, a name of the page's style sheet. model: what its run folders
    hold, or None for what needs none."""

    label: str
    colour: str
    model: type[Policy] | type[Cloning] | None = None


KINDS = {
    Policy.kind: ContenderKind("world policy", "model", Policy),
    Cloning.kind: ContenderKind("cloning", "shuffled", Cloning),
    "expert": ContenderKind("scripted expert", "ceiling"),
    "random": ContenderKind("random actions", "copy"),
}
LEARNED = {kind: each.model for kind, each in KINDS.items() if each.model is not None}
