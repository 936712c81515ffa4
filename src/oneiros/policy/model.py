"""A policy that acts from what a world imagines: features of the future, condensed, condition a diffusion of actions.

Source: Video Prediction Policy (arXiv 2412.14803). The world is frozen and stays as it is.

Legend: B batch, O frames observed, T = O + frames imagined, N features of a frame, C their width, S numbers of the
state, M tokens of width D, R noisy chunks of a sample, L actions of a chunk, A numbers of an action.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from oneiros.agreement import Controls, check_agreement
from oneiros.disk import inside
from oneiros.nn.per_sample import PerSample
from oneiros.points.nn.encoder import PointEncoder
from oneiros.policy.carry import Carry
from oneiros.policy.condense import condense, grid_of, make_former, num_condensed, standardise
from oneiros.policy.config import PolicyConfig
from oneiros.policy.nn.chunks import chunk_losses, denoised_chunks
from oneiros.policy.nn.goals import Goals
from oneiros.policy.nn.head import PolicyHead
from oneiros.records import Clip, Loss, Observation, PolicyBatch, Trainable
from oneiros.run_folder import Origin, load_model, read_config, save_model
from oneiros.video_former.alignment import alignment_loss
from oneiros.video_former.frame_masks import kept_frames
from oneiros.world.model import World

WORLD = "world"  # where a run folder holds its policy's


class Policy(Trainable):
    """`forward` trains on cached features; `init` and `act` act, by `imagine`, `condition` and `denoise`."""

    kind: ClassVar = "policy"

    def __init__(self, config: PolicyConfig, world: World | None) -> None:
        """Takes over `world`: it is frozen, in eval mode, and part of the policy from then on. None is enough where
        features come with every batch. Raises ValueError for a world that does not fit."""
        super().__init__()
        if world is not None:
            config = replace(config, grid=config.grid or world.tokenizer.grid)
            check_world(config, world)
            world.requires_grad_(False).eval()
        self.config, self.world = config, world
        for name in ("feature_mean", "feature_std", "state_mean", "state_std"):
            self.register_buffer(name, torch.tensor(getattr(config, name), dtype=torch.float32), persistent=False)
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.state_mean: Tensor
        self.state_std: Tensor
        dim = config.dim
        self.goals = Goals(tasks=config.tasks, dim=dim, sentence_dim=config.goal_dim)
        self.former = make_former(config)
        self.points = None
        if config.geometry_tokens:
            self.points = PointEncoder(
                dim=dim,
                num_tokens=config.geometry_tokens,
                num_points=config.num_points,
                max_depth=config.max_depth,
            )
        self.state = None
        if config.state_dim:
            self.state = nn.Sequential(nn.Linear(config.state_dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.head = PolicyHead(
            dim=dim,
            heads=config.heads,
            encoder_depth=config.encoder_depth,
            decoder_depth=config.decoder_depth,
            num_tokens=1 + num_condensed(config) + bool(config.state_dim),
            horizon=config.action_horizon,
            action_dim=config.action_spec.size,
        )

    @property
    def device(self) -> torch.device:
        return self.feature_mean.device

    def train(self, mode: bool = True) -> Policy:
        super().train(mode)
        if self.world is not None:
            self.world.eval()
        return self

    def set_goals(self, embedded: Tensor) -> None:
        """Embeddings of the tasks (tasks, goal_dim), by a sentence encoder. They are saved with the weights."""
        self.goals.set_sentences(embedded)

    def prepare_for_inference(self) -> Policy:
        """Prepare for acting: see `World.prepare_for_inference`."""
        if self.world is not None:
            self.world.prepare_for_inference()
        return self

    # -- training ------------------------------------------------------------------------------------------------

    def forward(self, batch: PolicyBatch) -> Loss:
        """EDM's loss of the valid actions of noisy chunks, smooth L1 of the first guess, and the alignment with
        geometry where there is a teacher.

        Raises ValueError for a batch without features or whose tensors do not fit the config.
        """
        config, batch_size = self.config, len(batch.goal)
        if batch.features is None:
            raise ValueError("a policy learns from features of its world; the batch has none")
        config.action_spec.check(batch.actions, "B", "L")
        evenly = None if self.training else torch.arange(batch_size, device=self.device)
        random = PerSample.of(evenly if batch.seeds is None else batch.seeds, batch_size, self.device)
        forgotten = random.less_than(config.goal_dropout) if self.training else None
        context, geometry = self._context(batch.features, batch.goal, batch.state, batch.depth, forgotten, random)
        denoising, guess, error = chunk_losses(
            self.head, context, batch.actions, batch.valid, random, config.action_spec, config.noise_draws
        )
        parts = {"policy/denoising": denoising, "policy/guess": guess, "policy/action_error": error}
        total = denoising + guess
        if geometry is not None and batch.teacher is not None:
            aligned = alignment_loss(geometry, batch.teacher, mask=batch.teacher_mask, weight=config.alignment_weight)
            total = total + aligned
            parts["policy/alignment"] = aligned
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    def loss_weight(self, batch: PolicyBatch) -> Tensor:
        """How many actions the loss is a mean over."""
        return batch.valid.sum()

    # -- run folders ----------------------------------------------------------------------------------------------

    def save(
        self,
        folder: Path | str,
        *,
        recipe: Mapping[str, Any] | None = None,
        data: Origin | None = None,
    ) -> None:
        """Write a run folder that `load` reads back bitwise. recipe, data: what it was trained with, and on. Raises
        ValueError for a policy without its world."""
        if self.world is None:
            raise ValueError("a policy is saved with its world: it cannot act without")
        self.world.save(Path(folder) / WORLD)
        save_model(self, folder, self.kind, self.config.to_json(), recipe=recipe, data=data, skip=("world.",))

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu", codec: nn.Module | None = None) -> Policy:
        """The policy of a run folder, in eval mode; codec as for its world's tokenizer. Raises ValueError, in one line,
        for a folder that holds none or is damaged, and for a device that is not there."""
        config = read_config(folder, cls.kind)
        world = World.load(inside(Path(folder), WORLD), codec=codec)

        def build(values: Mapping[str, Any]) -> Policy:
            return cls(PolicyConfig.from_json(values), world)

        return load_model(folder, config, build, device=device, skip=("world.",))

    # -- conditions ----------------------------------------------------------------------------------------------

    def _context(
        self,
        features: Tensor,
        goal: Tensor,
        state: Tensor | None,
        depth: Tensor | None,
        forgotten: Tensor | None = None,
        random: PerSample | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """What the decoder reads (B, M, D), and geometry (B, T, N + Q, G), if the former tells any."""
        noisy = random is not None and self.training
        expected = (self.config.num_frames, math.prod(grid_of(self.config)), len(self.config.feature_mean))
        if features.shape[1:] != expected:
            raise ValueError(f"features have shape {tuple(features.shape)}; this policy needs {('B', *expected)}")
        features = standardise(features, self.feature_mean, self.feature_std)
        if noisy and self.config.feature_noise:
            assert random is not None
            features = features + self.config.feature_noise * random.normal(features[0].numel()).view_as(features)
        mask = None
        if noisy and self.config.frame_mask:
            assert random is not None
            mask = kept_frames(random.uniform(self.config.num_frames + 1), self.config.frame_mask)
        condensed, geometry = condense(self.former, features, self._extra(depth), mask)
        tokens = [self.goals(goal, forgotten), condensed]
        if self.state is not None:
            if state is None or state.shape[1:] != self.state_mean.shape:
                found = None if state is None else tuple(state.shape)
                raise ValueError(f"state is {found}; this policy needs {('B', self.config.state_dim)}")
            standing = standardise(state, self.state_mean, self.state_std)
            if noisy and self.config.state_noise:
                assert random is not None
                standing = standing + self.config.state_noise * random.normal(self.config.state_dim)
            tokens.append(self.state(standing)[:, None])
        return self.head.encode(torch.cat([token.to(condensed.dtype) for token in tokens], 1)), geometry

    def _extra(self, depth: Tensor | None) -> Tensor | None:
        if self.points is None:
            return None
        if depth is None:
            raise ValueError("this policy has geometry tokens: it needs the depth image, in metres")
        return self.points(depth, depth.new_tensor(self.config.intrinsics))

    # -- acting --------------------------------------------------------------------------------------------------

    def init(self, batch_size: int, *, seeds: Sequence[int] | None = None) -> Carry:
        """The beginning of `batch_size` episodes. seeds: of each one's random numbers; None is 0 .. batch_size - 1."""
        chunking = self.config.chunking(self._world.config.frame_stride)
        return Carry.start(batch_size, seeds, chunking, self.config.action_spec, self.device)

    @torch.no_grad()
    def act(self, carry: Carry, observation: Observation) -> tuple[Carry, Tensor]:
        """The actions (B, ...) of one step, in the environments' units, and the carry for the next.

        Called once a step. Where `carry.plans_next` is False, nothing of the observation but its batch is looked at.
        """
        carry = carry.with_observation(observation)
        if carry.chunking.plans(carry.step):
            codes, features = self._imagine(carry)
            chunk = self.denoise(self.condition(features, observation), carry.noise_seeds)
            observed = self.config.observed_frames
            carry = replace(carry, chunk=chunk, past=codes[:, :observed], codes=codes[:, observed:])
        return carry.next_action()

    @torch.no_grad()
    def imagine(self, carry: Carry, observation: Observation) -> Tensor:
        """Features (B, T, N, C) of the frames observed and imagined."""
        return self._imagine(carry.with_observation(observation))[1]

    @torch.no_grad()
    def condition(self, features: Tensor, observation: Observation) -> Tensor:
        """What the decoder reads (B, M, D)."""
        goal = self.goals.numbers(observation.task, len(features), self.device)
        return self._context(features, goal, observation.state, observation.depth)[0]

    @torch.no_grad()
    def denoise(self, tokens: Tensor, seeds: Sequence[int]) -> Tensor:
        """Chunks (B, L, ...) in the environments' units, from `condition`'s tokens. seeds: of each one's noise."""
        return denoised_chunks(self.head, tokens, seeds, self.config.action_spec, self.config.denoising_steps)

    @torch.no_grad()
    def imagined_frames(self, carry: Carry) -> Tensor | None:
        """Frames (B, F, C, H, W) in [-1, 1] that the plan under way was made from; None before the first plan."""
        if carry.codes is None or carry.past is None or not carry.codes.shape[1]:
            return None
        return self._world.tokenizer.decode(carry.codes, carry.past)

    @property
    def _world(self) -> World:
        if self.world is None:
            raise ValueError("this policy was built without its world; only training from features works so")
        return self.world

    def _imagine(self, carry: Carry) -> tuple[Tensor, Tensor]:
        frames = carry.observed().to(self.device)
        valid = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        chunking, spec = carry.chunking, self.config.action_spec
        actions = spec.join(carry.actions, chunking.frame_stride) if chunking.span else None
        return self._world.imagine(Clip(frames, actions, valid), self.config.imagined_frames, layers=self.config.layers)


def check_world(config: PolicyConfig, world: World) -> None:
    """ValueError, in one line, where a policy cannot act from this world."""
    width = world.config.dim * max(1, len(config.layers))
    if world.tokenizer.temporal_stride > 1:
        raise ValueError("this world's codec joins several frames; a policy needs one that works frame by frame")
    check_agreement(Controls("the policy", config.action_spec), Controls("its world", world.config.action_spec))
    grid, theirs = grid_of(config), world.tokenizer.grid
    if theirs != grid or width != len(config.feature_mean):
        raise ValueError(
            f"the policy reads {grid[0]} x {grid[1]} features of {len(config.feature_mean)} channels; its world has "
            f"{theirs[0]} x {theirs[1]} of {width}"
        )
