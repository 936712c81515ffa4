"""Small worlds with scrambled weights, so that no term of the computation hides behind a zero or an identity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from oneiros.records import ActionSpec, Clip, CodeClip, Loss
from oneiros.sampling import Sampling
from oneiros.world.config import WorldConfig
from oneiros.world.model import World
from oneiros.world.nn.codec import IdentityCodec
from oneiros.world.state import WorldState
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig

SPECS = {
    "discrete": ActionSpec("discrete", ("stay", "left", "right")),
    "keys": ActionSpec("keys", ("left", "right", "up", "fire")),
    "continuous": ActionSpec("continuous", ("x", "y"), mean=(1.0, -2.0), std=(2.0, 0.5)),
    None: None,
}
KINDS = tuple(SPECS)


def scramble(module: nn.Module, seed: int = 0) -> None:
    """Move every parameter away from its start, meta tokens and connections that begin at zero included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.endswith("log_scale"):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)


def make_tokenizer(
    grid: tuple[int, int] = (4, 8), *, codebook_size: int = 12, trainable: bool = False, **options
) -> Tokenizer:
    """Latents are the frames themselves: 4 channels, one code an element of the grid."""
    torch.manual_seed(7)
    config = TokenizerConfig(
        height=grid[0],
        width=grid[1],
        channels=4,
        code_dim=4,
        codebook_size=codebook_size,
        external_codec=True,
        **options,
    )
    tokenizer = Tokenizer(config, IdentityCodec(), trainable=trainable)
    with torch.no_grad():
        tokenizer.codebook.clamp_(-0.9, 0.9)
    if trainable:
        tokenizer.start_codebook(tokenizer.codebook.clone())
    scramble(tokenizer)
    return tokenizer


def make_world(
    kind: str | None = "discrete", *, tokenizer: Tokenizer | None = None, grid: tuple[int, int] = (4, 8), **options
) -> World:
    torch.manual_seed(3)
    sizes = {"dim": 32, "depth": 2, "head_dim": 16, "tokens_per_step": 4, "window": 3, "num_meta_tokens": 2}
    config = WorldConfig(action_spec=SPECS[kind], **{**sizes, **options})
    world = World(config, tokenizer or make_tokenizer(grid))
    scramble(world.dynamics)
    scramble(world.action_embedding)
    if world.action_head is not None:
        scramble(world.action_head)
    return world.eval()


def random_actions(kind: str | None, batch: int, count: int, seed: int = 0, *, repeats: int = 1) -> Tensor | None:
    generator = torch.Generator().manual_seed(seed)
    if kind is None:
        return None
    size = SPECS[kind].size
    if kind == "discrete":
        return torch.randint(size, (batch, count), generator=generator)
    if kind == "keys":
        return torch.rand(batch, count, size, generator=generator) < 0.5
    return torch.randn(batch, count, size * repeats, generator=generator)


def random_codes(world: World, batch: int, frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(len(world.dynamics.codebook), (batch, frames, world.tokenizer.num_codes), generator=generator)


def code_clip(world: World, kind: str | None, batch: int = 2, frames: int = 5, seed: int = 0) -> CodeClip:
    return CodeClip(
        codes=random_codes(world, batch, frames, seed),
        actions=random_actions(kind, batch, frames - 1, seed),
        valid=torch.ones(batch, frames, dtype=torch.bool),
    )


def context(world: World, codes: Tensor, actions: Tensor | None) -> Clip:
    """A clip of frames that encode to exactly these codes, for tokenizers whose frames are latents."""
    frames = world.tokenizer.vectors(codes)
    assert torch.equal(world.tokenizer.encode(frames), codes)
    return Clip(frames, actions, torch.ones(codes.shape[:2], dtype=torch.bool))


def state_after(world: World, codes: Tensor, actions: Tensor | None, frames: int) -> WorldState:
    """The state of a dream whose context is the first `frames` frames of codes (B, T, N)."""
    return world.init(context(world, codes[:, :frames], None if actions is None else actions[:, : frames - 1]))


def rows(clip: CodeClip, chosen) -> CodeClip:
    """The chosen samples of a batch."""
    actions, seeds = (None if x is None else x[chosen] for x in (clip.actions, clip.seeds))
    return CodeClip(clip.codes[chosen], actions, clip.valid[chosen], seeds=seeds)


def close(a: Loss, b: Loss, tolerance: float = 1e-5) -> None:
    """Two losses are the same but for rounding, in total and in every part."""
    torch.testing.assert_close(a.total, b.total, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(a.parts, b.parts, atol=tolerance, rtol=tolerance)


@torch.no_grad()
def full_logits(world: World, codes: Tensor, actions: Tensor | None, conditions: Tensor | None = None) -> Tensor:
    """Logits (B, T, N, K), in generation order, of one pass over the whole history."""
    if conditions is None:
        conditions = world.action_embedding(actions, codes.shape[1], len(codes))
    dynamics = world.dynamics
    return dynamics.logits(dynamics.predictions(dynamics(codes, conditions)))


class Teacher:
    """Steps a world along given codes and notes the logits it would have drawn from."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.drawn: list[Tensor] = []
        self.unconditional: list[Tensor] = []
        self._answers: list[Tensor] = []
        monkeypatch.setattr("oneiros.world.nn.sampling.draw", self._draw)
        monkeypatch.setattr("oneiros.world.nn.sampling.guide", self._guide)

    def _draw(self, logits: Tensor, sampling: Sampling, generator: object, codebook: Tensor) -> Tensor:
        self.drawn.append(logits)
        return self._answers.pop(0)

    def _guide(self, conditional: Tensor, unconditional: Tensor, **_: float) -> Tensor:
        self.unconditional.append(unconditional)
        return conditional

    def step(
        self, state: WorldState, codes: Tensor, action: Tensor | None, *, guidance_scale: float = 1.0
    ) -> tuple[WorldState, Tensor, Tensor | None]:
        """One frame forced to codes (B, N): the new state, its logits (B, N, K), and those without the action."""
        self.drawn, self.unconditional = [], []
        layout = self.world.dynamics.layout
        self._answers = list(codes[:, layout.order].split(layout.tokens_per_step, 1))
        state, chosen = self.world.step_codes(state, action, sampling=Sampling(guidance_scale=guidance_scale))
        assert torch.equal(chosen, codes)
        unconditional = torch.cat(self.unconditional, 1) if self.unconditional else None
        return state, torch.cat(self.drawn, 1), unconditional


def at(actions: Tensor | None, frame: int) -> Tensor | None:
    """The action that leads into `frame`."""
    return None if actions is None else actions[:, frame - 1]


def largest_difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def counted(function: Callable, calls: list) -> Callable:
    """The same function, noting the arguments of each call."""

    def wrapped(*arguments, **options):
        calls.append(arguments)
        return function(*arguments, **options)

    return wrapped
