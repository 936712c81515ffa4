"""The data contract: what every part of Oneiros passes to the next, and what the engine takes.

Legend: B batch, T frames, C channels (3 RGB, 4 RGB + depth), H x W pixels, N codes per frame, A names of actions.
For policies: O frames observed, T = O + frames imagined, D width of a world's features, S numbers of the robot's state,
L actions of a chunk, G width of a teacher's features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np

ActionKind = Literal["discrete", "keys", "continuous"]
Array = TypeVar("Array", Tensor, "np.ndarray")


class _Record:
    """Frozen dataclasses of tensors that move between devices as one."""

    def to(self, device: torch.device | str) -> Self:
        """The same record with every tensor on `device`."""
        moved = {
            field.name: value.to(device)
            for field in fields(self)  # type: ignore[arg-type]
            if hasattr(value := getattr(self, field.name), "to")
        }
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class ActionSpec:
    """What the player (or robot) can do. One spec travels from env to dataset to model to player.

    kind: `discrete` (one of `names`), `keys` (any of `names` held together) or `continuous` (one number per name).
    mean, std: for `continuous`, the statistics used to standardise values; empty means 0 and 1 (see `statistics`).
    low, high: for `continuous`, the env's bounds, -inf and inf for those that are none; empty where all are unknown.
    whole: for `continuous`, which of them take whole numbers only, as the parts of mixed actions do that are keys or
        choices; empty where none does.

    Arrays of actions, for T frames (T - 1 actions, each done between two frames):
        discrete    int64  (..., T-1)
        keys        bool   (..., T-1, A)   multi-hot
        continuous  float32 (..., T-1, A)  in the env's own units
    With a frame stride of k, k continuous actions are concatenated: (..., T-1, k*A) (see `join`).
    """

    kind: ActionKind
    names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    whole: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("discrete", "keys", "continuous"):
            raise ValueError(f"action kind is {self.kind!r}; choose discrete, keys or continuous")
        texts = all(isinstance(name, str) for name in self.names)
        if not self.names or not texts or len(set(self.names)) != len(self.names):
            raise ValueError(f"action names must be texts, unique and at least one, got {list(self.names)}")
        for name in ("mean", "std", "low", "high", "whole"):
            values = getattr(self, name)
            if values and (self.kind != "continuous" or len(values) != len(self.names)):
                raise ValueError(f"action {name} has {len(values)} values for {len(self.names)} {self.kind} actions")

    @property
    def size(self) -> int:
        """Number of names: choices, keys, or dimensions."""
        return len(self.names)

    def to_json(self) -> dict[str, Any]:
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        for name in ("low", "high"):  # JSON has no infinity
            values[name] = [None if math.isinf(each) else each for each in values[name]]
        return values if self.whole else {name: value for name, value in values.items() if name != "whole"}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ActionSpec:
        """The spec that `to_json` wrote; fields that this version does not know are left out."""
        names = {field.name for field in fields(cls)}
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in names}
        for name, none in (("low", -math.inf), ("high", math.inf)):
            if isinstance(given.get(name), tuple):
                given[name] = tuple(none if each is None else each for each in given[name])
        return cls(**given)

    def matches(self, other: ActionSpec | None) -> bool:
        """Whether actions of one mean the same as actions of the other (statistics may differ)."""
        return other is not None and (self.kind, self.names) == (other.kind, other.names)

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each number of an action, 0 and 1 where they are unknown."""
        return self.mean or (0.0,) * self.size, self.std or (1.0,) * self.size

    def shape(self, per_step: int = 1) -> tuple[int, ...]:
        """The dimensions of one action: (), (A,), or (k * A,) where a step joins k continuous ones."""
        if self.kind == "discrete":
            return ()
        return (self.size * per_step,) if self.kind == "continuous" else (self.size,)

    def standardise(self, actions: Tensor) -> Tensor:
        """Continuous actions (..., k * A) in the env's units -> mean 0, standard deviation 1."""
        mean, std = self._statistics_like(actions)
        return (actions - mean) / std

    def unstandardise(self, values: Tensor) -> Tensor:
        """The inverse of `standardise`, but that what never moved in the data stays where it was."""
        mean, std = self._statistics_like(values)
        moved = has_spread(mean, values.new_tensor(self.statistics[1]).repeat(values.shape[-1] // self.size))
        return values * std * moved + mean

    def _statistics_like(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each of the numbers (k * A,), on their device."""
        repeats = values.shape[-1] // self.size
        mean, std = (values.new_tensor(numbers).repeat(repeats) for numbers in self.statistics)
        return mean, nonzero_std(mean, std)

    def nearest(self, values: Tensor) -> Tensor:
        """Continuous actions (..., A) -> those next to them that the env takes: within its bounds, whole where they
        must be."""
        if self.low:
            values = values.maximum(values.new_tensor(self.low))
        if self.high:
            values = values.minimum(values.new_tensor(self.high))
        if self.whole:
            values = torch.where(torch.tensor(self.whole, device=values.device), values.round(), values)
        return values

    def done(self, action: Any) -> Any:
        """What is done where one action (a number, or an array (A,)) is given: the `nearest` of a continuous one. What
        is none is left to whoever checks it."""
        if self.kind != "continuous":
            return action
        try:
            values = torch.as_tensor(action, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):
            return action
        return self.nearest(values).numpy() if values.shape == (self.size,) else action

    def join(self, actions: Array, stride: int) -> Array:
        """Actions (..., n * stride, ...) of each row -> (..., n, ...) of each step of `stride` rows.

        Continuous ones are concatenated, keys held in any row are held, of discrete ones the last counts. Raises
        ValueError where rows are left over.
        """
        if stride == 1:
            return actions
        place = actions.ndim - (1 if self.kind == "discrete" else 2)
        count, rest = divmod(actions.shape[place], stride)
        if rest:
            raise ValueError(f"{actions.shape[place]} actions do not fill steps of {stride}")
        lead, tail = actions.shape[:place], actions.shape[place + 1 :]
        if self.kind == "continuous":
            return actions.reshape(*lead, count, stride * tail[0])
        grouped: Any = actions.reshape(*lead, count, stride, *tail)
        return grouped.any(-2) if self.kind == "keys" else grouped[..., -1]

    def spread(self, actions: Tensor, stride: int) -> Tensor:
        """Actions (..., n, ...) of each step -> (..., n * stride, ...) of each row, which `join` brings back."""
        if self.kind == "continuous":
            return actions.unflatten(-1, (stride, -1)).flatten(-3, -2)
        return actions.repeat_interleave(stride, -1 if self.kind == "discrete" else -2)

    def check(self, actions: Tensor, *leading: int | str, per_step: int = 1) -> None:
        """Raises ValueError unless actions (*leading, ...) have this shape, are choices that exist, and finite numbers.

        leading: the size of each dimension before an action's own; a letter stands for any size.
        """
        expected = (*leading, *self.shape(per_step))
        sizes = [size if isinstance(size, int) else found for size, found in zip(expected, actions.shape, strict=False)]
        if actions.ndim != len(expected) or list(actions.shape) != sizes:
            raise ValueError(
                f"actions have shape {tuple(actions.shape)}; {self.kind} actions "
                f"({', '.join(self.names)}) are {expected}"
            )
        if self.kind == "discrete" and bool(((actions < 0) | (actions >= self.size)).any()):
            raise ValueError(f"discrete actions are 0 to {self.size - 1}: {', '.join(self.names)}")
        if self.kind == "continuous" and not bool(actions.isfinite().all()):
            raise ValueError("actions hold values that are no numbers (NaN or infinite)")


def nonzero_std(mean: Tensor, std: Tensor) -> Tensor:
    """The standard deviations to divide by. What never changed in the data has no unit of its own: its std counts
    as 1, so that another value, such as the zeros before an episode, is no explosion."""
    return torch.where(has_spread(mean, std), std, torch.ones_like(std))


def has_spread(mean: Tensor, std: Tensor) -> Tensor:
    """Of which numbers the standard deviation is more than rounding."""
    return std > 1e-5 * (1 + mean.abs())


@dataclass(frozen=True)
class Camera:
    """One stream of images. `name` is its feature in the dataset, such as observation.images.front.

    kind: `rgb` uint8 (H, W, 3); `depth` float32 (H, W) in metres along the optical axis; `labels` uint16 (H, W) < 4096.
    fx, fy, cx, cy: pinhole intrinsics in pixels, 0 where unknown.
    depth_min, depth_max, depth_shift, depth_log: how depth in metres becomes 12-bit codes (see data/depth.py).
    classes: for `labels`, what the numbers mean, from 0 on; empty where unknown.
    lossless: whether colour is recorded without loss; other kinds always are.
    """

    name: str
    height: int
    width: int
    kind: Literal["rgb", "depth", "labels"] = "rgb"
    fx: float = 0.0
    fy: float = 0.0
    cx: float = 0.0
    cy: float = 0.0
    depth_min: float = 0.01
    depth_max: float = 10.0
    depth_shift: float = 3.5
    depth_log: bool = True
    classes: tuple[str, ...] = ()
    lossless: bool = False


@dataclass(frozen=True)
class Outcomes(_Record):
    """What steps paid, and which of them were an episode's last. Step t leads from frame t to frame t + 1, as the
    action of the same index does: `reward[..., t]` and `terminated[..., t]` are what came of `actions[..., t]`.

    reward: float32 (..., S). terminated: bool (..., S), the environment ended the episode there. truncated: bool
        (..., S), it was only cut off there; never together with terminated. None = not recorded.
    valid: bool (..., S), steps that were really taken, and whose outcome is known; learned from these alone. The last
        step of an episode is one of them also where no frame shows what it led to.
    """

    reward: Tensor | None
    terminated: Tensor | None
    truncated: Tensor | None
    valid: Tensor

    def part(self, start: int, stop: int) -> Outcomes:
        """Steps start to stop; those beyond the last are not valid."""
        missing = max(0, stop - max(start, self.valid.shape[-1]))
        fields = (self.reward, self.terminated, self.truncated, self.valid)
        cut = [None if each is None else F.pad(each[..., start:stop], (0, missing)) for each in fields]
        return Outcomes(*cut[:3], valid=cut[3])  # type: ignore[arg-type]

    def join(self, stride: int) -> Outcomes:
        """Steps of single rows (..., n * stride) -> steps of `stride` rows (..., n), which pay their sum. A step that
        an episode ended early counts as whole. Raises ValueError where rows are left over."""
        if stride == 1:
            return self
        if self.valid.shape[-1] % stride:
            raise ValueError(f"{self.valid.shape[-1]} steps do not fill steps of {stride}")
        valid = self.valid.unflatten(-1, (-1, stride))
        whole = valid.all(-1)

        def any_of(flags: Tensor | None) -> Tensor | None:
            return None if flags is None else (flags.unflatten(-1, (-1, stride)) & valid).any(-1)

        terminated, truncated = any_of(self.terminated), any_of(self.truncated)
        for over in (terminated, truncated):
            whole = whole if over is None else whole | (valid[..., 0] & over)
        reward = None if self.reward is None else (self.reward.unflatten(-1, (-1, stride)) * valid).sum(-1)
        return Outcomes(reward, terminated, truncated, whole)


@dataclass(frozen=True)
class Clip(_Record):
    """Consecutive frames and what was done between them.

    frames: float (B, T, C, H, W) in [-1, 1].
    actions: `actions[:, t]` was done between frames t and t + 1 (see `ActionSpec`); None = not recorded.
    valid: bool (B, T), True for real frames; padding is never learned from.
    task: one instruction per sample, or None.
    seeds: int64 (B,), keys of the random numbers that training draws for each sample; None = drawn from torch's
        generator, too.
    outcomes: (B, T - 1), what came of the step that `actions[:, t]` were; None = not recorded.
    known: bool (B, T - 1), which of the actions are known, where some are not; None = all.
    """

    frames: Tensor
    actions: Tensor | None
    valid: Tensor
    task: tuple[str, ...] | None = None
    seeds: Tensor | None = None
    outcomes: Outcomes | None = None
    known: Tensor | None = None


@dataclass(frozen=True)
class CodeClip(_Record):
    """A `Clip` whose frames have become codes already: codes int64 (B, T, N), row by row of the latent grid."""

    codes: Tensor
    actions: Tensor | None
    valid: Tensor
    task: tuple[str, ...] | None = None
    seeds: Tensor | None = None
    outcomes: Outcomes | None = None
    known: Tensor | None = None


@dataclass(frozen=True)
class PointBatch(_Record):
    """Clouds packed one after another; cloud b holds the points from offsets[b] to offsets[b + 1].

    xyz: float32 (N, 3), metres relative to a float64 origin that is kept beside the batch.
    features: float (N, C).
    labels: int64 (N,), -1 for points that are not learned from; None = unknown.
    offsets: int64 (B + 1,), from 0 to N.
    Neighbour lists of a batch use index N for "no neighbour".
    """

    xyz: Tensor
    features: Tensor
    labels: Tensor | None
    offsets: Tensor


@dataclass(frozen=True)
class Observation(_Record):
    """What a policy sees of B environments at one moment.

    frames: float (B, C, H, W) in [-1, 1], the newest frame, of the size and channels that the policy takes.
    state: float (B, S), in the dataset's own units, or None. task: one instruction per environment, or None.
    depth: float (B, h, w) in metres along the optical axis, or None; only geometry tokens need it.
    """

    frames: Tensor
    state: Tensor | None = None
    task: tuple[str, ...] | None = None
    depth: Tensor | None = None


@dataclass(frozen=True)
class PolicyBatch(_Record):
    """Moments of demonstrations, and the actions that followed.

    goal: int64 (B,), index into the policy's tasks.
    actions: (B, L, ...), what the environment was given from this moment on, as in `ActionSpec` without a stride:
        discrete int64 (B, L), keys bool (B, L, A), continuous float (B, L, A) in the environment's own units.
    valid: bool (B, L), True for real actions; padding beyond an episode's end is never learned from.
    features: float (B, T, N, D), the world's, of observed and imagined frames (see `World.imagine`), or None.
    frames: float (B, O, C, H, W) in [-1, 1], for policies without a world, or None.
    state: float (B, S) in own units, or None. depth: float (B, h, w) in metres, of the newest observed frame, or None.
    teacher, teacher_mask: float (B, T, N, G) and bool (B, T, N), what the geometry of each feature's place is aligned
        with, and where that is known; or None.
    seeds: int64 (B,), keys of the random numbers drawn for each sample; None = drawn from torch's generator, but
        in evaluation 0 to B - 1, so that noise is the same each time.
    """

    goal: Tensor
    actions: Tensor
    valid: Tensor
    features: Tensor | None = None
    frames: Tensor | None = None
    state: Tensor | None = None
    depth: Tensor | None = None
    teacher: Tensor | None = None
    teacher_mask: Tensor | None = None
    seeds: Tensor | None = None


@dataclass(frozen=True)
class Loss:
    """What training minimises.

    total: scalar with gradient. parts: detached scalars by name; every name is explained in docs/metrics.md.
    """

    total: Tensor
    parts: dict[str, Tensor]


class Trainable(nn.Module):
    """What the training engine takes: a module whose `forward(batch)` returns a `Loss`. The rest may stay as it is.

    learns_without_gradients: `after_step` learns something by itself, so no parameter need be left to train.
    """

    learns_without_gradients: ClassVar[bool] = False

    def loss_weight(self, batch: Any) -> Tensor | None:
        """Over how many items the loss is a mean, by which the parts of a batch are weighed; None = valid frames."""
        return None

    def learning_rate_scale(self, name: str) -> float:
        """What the learning rate of the parameter `name` is multiplied by."""
        return 1.0

    def after_step(self) -> None:
        """Called once after every optimiser step in every process, which sums statistics over processes itself."""
