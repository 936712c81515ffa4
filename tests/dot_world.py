"""A world whose truth is known: a white dot on black that moves as told, 16 x 16 pixels, walls wrapping around.

It has the signatures of `oneiros.World`, so evaluation, the dream env and the commands can be tested without training.
`lag=1` obeys the action before the last (the classic off-by-one), `obedient=False` ignores actions, `fade`
darkens every dreamed frame a little (drift). `pays`: a step pays the dot's column before it, and stepping down from the
lower half (rows of 8 and more) ends the episode (see `paid` and `over`); `late` says so one step late.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oneiros.data.frames import to_model, to_uint8
from oneiros.records import ActionSpec, Clip
from oneiros.sampling import Sampling
from oneiros.world.nn.outcomes import StepOutcome

SIZE = 16
MOVES = torch.tensor([[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]])  # rows, columns
SPECS = {
    "discrete": ActionSpec("discrete", ("stay", "left", "right", "up", "down")),
    "keys": ActionSpec("keys", ("left", "right", "up", "down")),
    "continuous": ActionSpec("continuous", ("down", "right"), mean=(0.0, 0.0), std=(1.0, 1.0)),
}


def moves(actions: Tensor, spec: ActionSpec) -> Tensor:
    """Actions (...), (..., 4) or (..., k * 2) -> steps (..., 2) in pixels (rows, columns)."""
    if spec.kind == "discrete":
        return MOVES[actions]
    if spec.kind == "keys":
        return actions.long() @ MOVES[1:]
    return actions.unflatten(-1, (-1, 2)).sum(-2).round().long()


def places_of(frames: Tensor) -> Tensor:
    """Where the dot is in uint8 frames (..., 16, 16, 3): the places (..., 2) that `draw_dots` drew."""
    bright = frames[..., 0] > 127
    corner = bright & bright.roll(-1, -2) & bright.roll(-1, -1) & bright.roll((-1, -1), (-2, -1))
    flat = corner.flatten(-2).long().argmax(-1)
    return torch.stack([flat // SIZE, flat % SIZE], -1)


def paid(places: Tensor) -> Tensor:
    """What a step from places (..., 2) pays."""
    return places[..., 1].float()


def over(places: Tensor, steps: Tensor) -> Tensor:
    """Whether steps (..., 2) from places (..., 2) end the episode."""
    return (places[..., 0] >= SIZE // 2) & (steps[..., 0] > 0)


def draw_dots(places: Tensor) -> Tensor:
    """Places (..., 2) -> uint8 frames (..., 16, 16, 3) with a 2 x 2 dot."""
    frames = torch.zeros(*places.shape[:-1], SIZE, SIZE, dtype=torch.uint8)
    flat, spots = frames.view(-1, SIZE, SIZE), places.reshape(-1, 2)
    for row in (0, 1):
        for column in (0, 1):
            flat[torch.arange(len(flat)), (spots[:, 0] + row) % SIZE, (spots[:, 1] + column) % SIZE] = 255
    return frames[..., None].expand(*frames.shape, 3).contiguous()


def random_actions(shape: tuple[int, ...], spec: ActionSpec, generator: torch.Generator) -> Tensor:
    if spec.kind == "discrete":
        return torch.randint(5, shape, generator=generator)
    if spec.kind == "keys":
        return torch.rand(*shape, 4, generator=generator) < 0.4
    return torch.randint(-1, 2, (*shape, 2), generator=generator).float()


def real_episode(length: int, spec: ActionSpec, seed: int) -> tuple[Tensor, Tensor]:
    """uint8 frames (length, 16, 16, 3) and actions (length, ...): row t is done at frame t."""
    generator = torch.Generator().manual_seed(seed)
    actions = random_actions((length,), spec, generator)
    start = torch.randint(SIZE, (1, 2), generator=generator)
    places = torch.cat([start, start + moves(actions[:-1], spec).cumsum(0)])
    return draw_dots(places), actions


@dataclass(frozen=True)
class DotConfig:
    action_spec: ActionSpec | None
    frame_stride: int = 1
    fps: float = 10.0
    window: int = 8
    pays: bool = False
    ends: bool = False


@dataclass(frozen=True)
class DotState:
    places: Tensor  # (B, 2), top left pixel of the dot
    last: Tensor | None  # the action of the step before
    age: int = 0
    outcomes: tuple[StepOutcome, ...] = ()

    def clone(self) -> DotState:
        return replace(self, places=self.places.clone())


class DotTokenizer:
    """Codes are the 64 blocks of 2 x 2 pixels, each summed up as 16 levels a pixel: exact for a black and white dot."""

    temporal_stride = 1

    def whole(self, num_frames: int) -> int:
        return num_frames

    def encode(self, frames: Tensor) -> Tensor:
        white = (frames[..., 0, :, :] > 0).long()
        blocks = white.unflatten(-2, (8, 2)).unflatten(-1, (8, 2))
        weights = torch.tensor([[1, 2], [4, 8]])[:, None]
        return (blocks * weights).sum(dim=(-3, -1)).flatten(-2)

    def decode(self, codes: Tensor, past: Tensor | None = None, reference: Tensor | None = None) -> Tensor:
        bits = torch.stack([(codes >> bit) & 1 for bit in range(4)], dim=-1)
        grid = bits.unflatten(-2, (8, 8)).unflatten(-1, (2, 2)).movedim(-2, -3)
        white = grid.flatten(-4, -3).flatten(-2)
        return (white * 2.0 - 1.0)[..., None, :, :].expand(*white.shape[:-2], 3, SIZE, SIZE)


class DotWorld(torch.nn.Module):
    def __init__(
        self,
        kind: str | None = "discrete",
        *,
        lag: int = 0,
        obedient: bool = True,
        fade: int = 0,
        stride: int = 1,
        pays: bool = False,
        late: int = 0,
    ):
        super().__init__()
        self.config = DotConfig(SPECS[kind] if kind else None, frame_stride=stride, pays=pays, ends=pays)
        self.late = late
        self.tokenizer = DotTokenizer()
        self.device = torch.device("cpu")
        self.action_head = self.config.action_spec  # it only matters whether there is one
        self.lag, self.obedient, self.fade = lag, obedient, fade

    def init(self, clip: Clip) -> DotState:
        places = places_of(to_uint8(clip.frames[:, -1]))
        last = None if clip.actions is None or clip.actions.shape[1] == 0 else clip.actions[:, -1]
        return DotState(places, last)

    def step(self, state: DotState, action: Tensor | None, *, generator=None, sampling: Sampling | None = None):
        if action is not None:
            self.config.action_spec.check(action, "B", per_step=self.config.frame_stride)
        obeyed = state.last if self.lag else action
        places, outcome = state.places, self._outcome(state.places, action)
        if obeyed is not None and self.obedient:
            places = places + moves(obeyed, self.config.action_spec)
        if sampling is not None and sampling.temperature > 0:  # one step of luck in ten, so that temperature shows
            places = places + (torch.rand(places.shape, generator=generator) < 0.1).long()
        state = DotState(places % SIZE, action, state.age + 1, (*state.outcomes, outcome)[-1 - self.late :])
        frame = to_model((draw_dots(places).int() - self.fade * state.age).clamp(min=0).to(torch.uint8))
        return state, frame

    def _outcome(self, places: Tensor, action: Tensor | None) -> StepOutcome:
        nothing = torch.zeros(len(places))
        if not self.config.pays or action is None:
            return StepOutcome(nothing, nothing.bool(), nothing)
        ended = over(places, moves(action, self.config.action_spec))
        return StepOutcome(paid(places), ended, ended.float())

    def outcome(self, state: DotState, *, generator=None, temperature: float = 1.0) -> StepOutcome:
        return state.outcomes[0]

    def predict_action(self, state: DotState) -> tuple[DotState, Tensor]:
        """Guesses that the player goes on as before."""
        return state, state.last
