"""What an evaluation of a policy can be asked for. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PolicyEvalConfig:
    episodes: int = 50
    """How many starts of each task."""
    max_steps: int = 200
    """The longest an episode lasts."""
    batch_size: int = 10
    """Environments that act together."""
    workers: int = 2
    """Processes of one thread each that share the episodes."""
    cluster: str | None = None
    """Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers play the episodes. They need this package
    and the same files under the same paths; extra: cluster."""
    videos: int = 2
    """Episodes of the policy to film, the first starts of all tasks in turns."""
    decisions: int = 25
    """How many decisions are timed; 0 leaves it out."""
    look: tuple[str, ...] = ()
    """How Meta-World is to look otherwise than where it was learned from: table=0.7,0.2,0.2 (its colour),
    brightness=0.6, light=1,0,1 (where it comes from), shift=0.03,0,0 (metres, of the camera)."""
    seed: int = 0
    """Of the policies' noise and of the random actions: the same seed gives the same figures, times apart."""

    def __post_init__(self) -> None:
        for name in ("episodes", "max_steps", "batch_size", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
