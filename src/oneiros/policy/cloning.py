"""Behaviour cloning: frames, state and goal to a chunk of actions, by regression or by diffusion. The baselines without
a world.

They are meant to be as good as a policy without imagination can be on the same data. By regression it has about as many
parameters as a `Policy` of the small preset and its world together; by diffusion it is that policy, with an image
encoder, trained end to end, in the place of the world and the Video Former.

Legend: B batch, O frames observed, C channels, H x W pixels, S numbers of the state, L actions of a chunk, A numbers of
an action, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.nn.attention import check_counts, check_divides
from oneiros.nn.per_sample import PerSample
from oneiros.policy.carry import Carry, Chunking
from oneiros.policy.condense import standardise
from oneiros.policy.config import check_statistics
from oneiros.policy.nn.action_numbers import from_numbers, to_numbers
from oneiros.policy.nn.chunks import chunk_losses, denoised_chunks
from oneiros.policy.nn.goals import Goals
from oneiros.policy.nn.head import PolicyHead
from oneiros.policy.nn.image_encoder import TOKENS, ImageEncoder
from oneiros.records import ActionSpec, Loss, Observation, PolicyBatch, Trainable
from oneiros.run_folder import Origin, from_json, load_model, read_config, save_model


@dataclass(frozen=True)
class CloningConfig:
    """height, width, channels: of the frames it looks at. frame_stride: environment steps between them. image_width:
    channels of the first stage of the image encoder. dim: width of everything after. depth: residual blocks of the
    head. diffusion: chunks are denoised by a `PolicyHead` of encoder_depth and decoder_depth layers of so many heads,
    instead of by a regression. Other fields as in `PolicyConfig`."""

    action_spec: ActionSpec
    tasks: tuple[str, ...] = ()
    state_mean: tuple[float, ...] = ()
    state_std: tuple[float, ...] = ()
    height: int = 64
    width: int = 64
    channels: int = 3
    frame_stride: int = 1
    observed_frames: int = 2
    action_horizon: int = 10
    execute: int = 4
    image_width: int = 64
    dim: int = 512
    depth: int = 4
    goal_dropout: float = 0.1
    goal_dim: int = 0
    state_noise: float = 0.0
    diffusion: bool = False
    heads: int = 8
    encoder_depth: int = 2
    decoder_depth: int = 4
    noise_draws: int = 4
    denoising_steps: int = 10

    def __post_init__(self) -> None:
        counts = ("height", "width", "channels", "frame_stride", "observed_frames", "action_horizon", "execute")
        check_counts({name: getattr(self, name) for name in (*counts, "image_width", "dim")})
        depths = ("depth", "encoder_depth", "decoder_depth", "denoising_steps")
        check_counts({name: getattr(self, name) for name in depths}, most=1024)
        check_counts({"noise_draws": self.noise_draws})
        check_divides("heads", self.heads, "dim", self.dim)
        check_statistics("state", self.state_mean, self.state_std)
        if self.execute > self.action_horizon:
            raise ValueError(f"execute is {self.execute}; a chunk has only action_horizon, {self.action_horizon}")

    @property
    def chunking(self) -> Chunking:
        return Chunking(self.observed_frames, self.frame_stride, self.execute)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CloningConfig:
        return from_json(cls, values, "the cloning's config")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "action_spec": self.action_spec.to_json()}


class Cloning(Trainable):
    """`forward` trains; `init` and `act` act, with the face of a `Policy`."""

    kind: ClassVar = "cloning"
    world: None = None  # it imagines nothing

    def __init__(self, config: CloningConfig) -> None:
        super().__init__()
        self.config = config
        for name in ("state_mean", "state_std"):
            self.register_buffer(name, torch.tensor(getattr(config, name), dtype=torch.float32), persistent=False)
        self.state_mean: Tensor
        self.state_std: Tensor
        dim = config.dim
        self.goals = Goals(tasks=config.tasks, dim=dim, sentence_dim=config.goal_dim)
        self.image = ImageEncoder(
            channels=config.channels * config.observed_frames,
            size=(config.height, config.width),
            width=config.image_width,
            dim=dim,
            places=config.diffusion,
        )
        self.state = nn.Linear(len(config.state_mean), dim) if config.state_mean else None
        self.head = None
        if config.diffusion:
            self.head = PolicyHead(
                dim=dim,
                heads=config.heads,
                encoder_depth=config.encoder_depth,
                decoder_depth=config.decoder_depth,
                num_tokens=1 + TOKENS + (self.state is not None),
                horizon=config.action_horizon,
                action_dim=config.action_spec.size,
            )
            return
        self.blocks = nn.ModuleList(ModulatedBlock(dim) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim)
        self.leave = nn.Linear(dim, config.action_horizon * config.action_spec.size)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)

    @property
    def device(self) -> torch.device:
        return self.state_mean.device

    def set_goals(self, embedded: Tensor) -> None:
        """Embeddings of the tasks (tasks, goal_dim), by a sentence encoder. They are saved with the weights."""
        self.goals.set_sentences(embedded)

    def prepare_for_inference(self) -> Cloning:
        """There is nothing to prepare for acting."""
        return self

    def forward(self, batch: PolicyBatch) -> Loss:
        """Smooth L1 between the valid actions and the chunk, both as numbers (see `policy.nn.action_numbers`); by
        diffusion the losses of a `Policy`.

        Raises ValueError for a batch without frames or whose tensors do not fit the config.
        """
        if batch.frames is None:
            raise ValueError("cloning learns from frames; the batch has none")
        self.config.action_spec.check(batch.actions, "B", "L")
        forgotten, noise = None, None
        evenly = None if self.training else torch.arange(len(batch.goal), device=self.device)
        random = PerSample.of(evenly if batch.seeds is None else batch.seeds, len(batch.goal), self.device)
        if self.training:
            forgotten = random.less_than(self.config.goal_dropout)
            if self.config.state_noise and self.config.state_mean:
                noise = self.config.state_noise * random.normal(len(self.config.state_mean))
        seen = self._seen(batch.frames, batch.state, batch.goal, forgotten, noise)
        if self.head is not None:
            spec, draws = self.config.action_spec, self.config.noise_draws
            context = self.head.encode(torch.cat(seen, 1))
            losses = chunk_losses(self.head, context, batch.actions, batch.valid, random, spec, draws)
            parts = dict(zip(("cloning/denoising", "cloning/guess", "cloning/action_error"), losses, strict=True))
            return Loss(losses[0] + losses[1], {name: value.detach() for name, value in parts.items()})
        predicted = self._regressed(seen)
        target, counted = to_numbers(batch.actions, self.config.action_spec), batch.valid[..., None]
        many = (counted.sum() * predicted.shape[-1]).clamp_min(1)
        loss = (F.smooth_l1_loss(predicted, target, reduction="none") * counted).sum() / many
        error = ((predicted - target).abs() * counted).sum() / many
        return Loss(loss, {"cloning/chunk": loss.detach(), "cloning/action_error": error.detach()})

    def loss_weight(self, batch: PolicyBatch) -> Tensor:
        """How many actions the loss is a mean over."""
        return batch.valid.sum()

    def _seen(
        self,
        frames: Tensor,
        state: Tensor | None,
        goal: Tensor,
        forgotten: Tensor | None = None,
        state_noise: Tensor | None = None,
    ) -> list[Tensor]:
        """Tokens (B, n, D) of the goal, of the frames, and of the state where there is one."""
        config = self.config
        expected = (config.observed_frames, config.channels, config.height, config.width)
        if tuple(frames.shape[1:]) != expected:
            raise ValueError(f"frames have shape {tuple(frames.shape)}; this policy looks at {('B', *expected)}")
        x = self.image.tokens(frames) if config.diffusion else self.image(frames)[:, None]
        seen = [self.goals(goal, forgotten).to(x.dtype), x]
        if self.state is not None:
            if state is None or state.shape[1:] != self.state_mean.shape:
                found = None if state is None else tuple(state.shape)
                raise ValueError(f"state is {found}; this policy needs {('B', len(config.state_mean))}")
            standing = standardise(state, self.state_mean, self.state_std)
            standing = self.state(standing if state_noise is None else standing + state_noise)
            seen.append(standing[:, None].to(x.dtype))
        return seen

    def _regressed(self, seen: list[Tensor]) -> Tensor:
        """The chunk as numbers, float32 (B, L, A)."""
        goal, x, *state = (token[:, 0] for token in seen)
        condition = sum(state, goal)
        x = x + condition
        for block in self.blocks:
            x = block(x, condition)
        return self.leave(self.norm(x)).float().unflatten(1, (self.config.action_horizon, -1))

    # -- acting --------------------------------------------------------------------------------------------------

    def init(self, batch_size: int, *, seeds: Sequence[int] | None = None) -> Carry:
        """The beginning of `batch_size` episodes. seeds: as in `Policy.init`; by regression nothing is random."""
        return Carry.start(batch_size, seeds, self.config.chunking, self.config.action_spec, self.device)

    @torch.no_grad()
    def act(self, carry: Carry, observation: Observation) -> tuple[Carry, Tensor]:
        """The actions (B, ...) of one step, in the environments' units, and the carry for the next.

        Called once a step. Where `carry.plans_next` is False, nothing of the observation but its batch is looked at.
        """
        carry = carry.with_observation(observation)
        if carry.chunking.plans(carry.step):
            goal = self.goals.numbers(observation.task, carry.batch_size, self.device)
            seen, spec = self._seen(carry.observed().to(self.device), observation.state, goal), self.config.action_spec
            if self.head is not None:
                context, steps = self.head.encode(torch.cat(seen, 1)), self.config.denoising_steps
                chunk = denoised_chunks(self.head, context, carry.noise_seeds, spec, steps)
            else:
                chunk = from_numbers(self._regressed(seen), spec)
            carry = replace(carry, chunk=chunk)
        return carry.next_action()

    def imagined_frames(self, carry: Carry) -> None:
        """None: see `Policy.imagined_frames`."""
        return None

    # -- run folders ----------------------------------------------------------------------------------------------

    def save(
        self,
        folder: Path | str,
        *,
        recipe: Mapping[str, Any] | None = None,
        data: Origin | None = None,
    ) -> None:
        """Write a run folder that `load` reads back bitwise. recipe, data: what it was trained with, and on."""
        save_model(self, folder, self.kind, self.config.to_json(), recipe=recipe, data=data)

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu") -> Cloning:
        """The cloning of a run folder, in eval mode. Raises ValueError, in one line, for a folder that holds none or is
        damaged, and for a device that is not there."""
        config = read_config(folder, cls.kind)
        return load_model(folder, config, lambda values: cls(CloningConfig.from_json(values)), device=device)


class ModulatedBlock(nn.Module):
    """A residual feed-forward whose input is scaled and shifted by goal and state."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.film = nn.Linear(dim, 2 * dim)
        widen, narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        with torch.no_grad():
            self.film.weight.mul_(0.1)
            narrow.weight.mul_(0.5)
        self.feed_forward = nn.Sequential(widen, nn.GELU(), narrow)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x, condition (B, D) -> (B, D)."""
        scale, shift = self.film(condition).chunk(2, -1)
        return x + self.feed_forward(self.norm(x) * (1 + scale) + shift)
