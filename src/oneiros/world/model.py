"""A world model: codes of frames, a causal transformer that dreams the next ones, and the verbs to play it.

Sources: Genie (arXiv 2402.15391) and the public description of Genie 2. The rollout keeps a ring of past keys and
values, so a step costs the same however long the dream.

Legend: B batch, T frames, T' latents in time (T for image codecs), F generated frames, s frames per latent, C channels,
N codes per frame, m codes per step, D width, A names of actions, W window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from oneiros.disk import inside
from oneiros.nn.per_sample import PerSample
from oneiros.records import Clip, CodeClip, Loss, Trainable
from oneiros.run_folder import Origin, RunConfig, load_model, read_config, save_model
from oneiros.sampling import Sampling
from oneiros.world.config import WorldConfig
from oneiros.world.imagined import imagined
from oneiros.world.nn.actions import ActionEmbedding, ActionHead
from oneiros.world.nn.codebooks import StepWatch
from oneiros.world.nn.detail import Detail
from oneiros.world.nn.dynamics import Dynamics
from oneiros.world.nn.motion import motion_weights
from oneiros.world.nn.noise import corrupted_codes, noisy_actions
from oneiros.world.nn.outcomes import OutcomeHead, StepOutcome
from oneiros.world.nn.sampling import chooser
from oneiros.world.rollout import generate
from oneiros.world.state import WorldState
from oneiros.world.tokenizer import Tokenizer

TOKENIZER = "tokenizer"  # where a run folder holds its world's


class World(Trainable):
    """Predicts each frame's codes from the frames and actions before it. `forward` trains; `init`, `step` and
    `generate` dream."""

    kind: ClassVar = "world"

    def __init__(self, config: WorldConfig, tokenizer: Tokenizer) -> None:
        """Takes the tokenizer over: it follows the world's mode, and unless `joint` is frozen and stays in eval."""
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        if not config.joint:
            tokenizer.requires_grad_(False)
        self.dynamics = Dynamics(
            grid=tokenizer.grid,
            codebook=tokenizer.codebook,
            codebook_levels=tokenizer.config.codebook_levels,
            dim=config.dim,
            depth=config.depth,
            head_dim=config.head_dim,
            heads=config.heads,
            tokens_per_step=config.tokens_per_step,
            window=config.window,
            num_meta_tokens=config.num_meta_tokens,
            residual_streams=config.residual_streams,
            target_spread=config.target_spread,
        )
        self._steps = StepWatch()  # a codec with nothing to learn does not show the tokenizer any
        spec, dim = config.action_spec, config.dim
        self.actions_per_step = config.frame_stride * tokenizer.temporal_stride
        self.action_embedding = ActionEmbedding(spec=spec, dim=dim, actions_per_step=self.actions_per_step)
        self.action_head = None
        if spec is not None and config.action_weight > 0:
            actions_per_step = self.actions_per_step
            self.action_head = ActionHead(spec=spec, dim=dim, actions_per_step=actions_per_step, keys=config.keys)
        self.outcome_head = None
        if config.pays or config.ends:
            self.outcome_head = OutcomeHead(dim=dim, reward_values=config.reward_values, end_rate=config.end_rate)

    @property
    def device(self) -> torch.device:
        return self.dynamics.codebook.device

    @property
    def _lookback(self) -> int:
        """How many of a dream's newest latents are kept: the dynamics and the decoder look back to them."""
        return max(self.config.window, self.tokenizer.lookback + 1)

    def train(self, mode: bool = True) -> World:
        super().train(mode)
        if not self.config.joint:
            self.tokenizer.eval()
        return self

    def learning_rate_scale(self, name: str) -> float:
        return self.config.scale_learning_rate if name.endswith("log_scale") else 1.0

    def after_step(self) -> None:
        if self.config.joint:
            self._steps.followed()
            self.tokenizer.after_step()
            self.dynamics.set_codebook(self.tokenizer.codebook)

    def prepare_for_inference(self, *, float32: bool = False) -> World:
        """Turn this world to what dreams fastest on its device, and return it. Dreams change by rounding alone.
        float32: also where bf16 is faster, to measure what other machines do."""
        self.dynamics.prepare_for_inference(float32=float32)
        self.tokenizer.prepare_for_inference(float32=float32)
        return self

    # -- training ------------------------------------------------------------------------------------------------

    def forward(self, batch: Clip | CodeClip) -> Loss:
        """Cross-entropy of the codes of valid frames, the losses of the action head and of the outcomes of valid steps,
        and in joint training the tokenizer's.

        Raises ValueError for a batch without codes to learn from or with actions that do not fit the spec, and in joint
        training where `after_step` did not follow the optimiser's last step.
        """
        tokenizer_loss = None
        if isinstance(batch, Clip):
            if self.config.joint:
                if self.training and torch.is_grad_enabled():
                    self._steps.batch(self.parameters())
                tokenizer_loss = self.tokenizer(batch)
            batch = self._to_codes(batch)
        actions = self._checked(batch.actions, batch.codes.shape[1] - 1)
        codes, valid = batch.codes, batch.valid
        outputs = self._outputs(codes, actions, batch)

        first = 1 - self.config.learn_first_frame
        if codes.shape[1] <= first:
            raise ValueError(f"clips of {codes.shape[1]} frames leave no frame to predict; use clips of 2 or more")
        learned = valid[:, first:]
        predictions = self.dynamics.predictions(outputs[:, first:])[learned]
        targets = codes[:, first:, self.dynamics.layout.order.to(codes.device)][learned]
        losses, hits = self.dynamics.code_losses(predictions, targets)
        state = weighed = _mean(losses)
        if self.config.motion_weight:
            weights = motion_weights(self.tokenizer.vectors(codes), self.config.motion_weight)
            weighed = _mean(losses * weights[:, first:, self.dynamics.layout.order.to(codes.device)][learned])
        total = self.config.state_weight * weighed
        parts = {"world/state": state, "world/accuracy": _mean(hits.float())}

        if self.action_head is not None and actions is not None:
            learned = valid[:, 1:] if batch.known is None else valid[:, 1:] & batch.known
            self.action_head.check(actions, learned)
            features = self.dynamics.frame_features(outputs[:, :-1])[learned]
            action = _mean(self.action_head.loss(features.float(), actions[learned]))
            total = total + self.config.action_weight * action
            parts["world/action"] = action
        if self.outcome_head is not None and batch.outcomes is not None:
            losses = self.outcome_head.losses(self.dynamics.step_features(outputs[:, 1:]), batch.outcomes)
            for name, loss in losses.items():
                total = total + (self.config.reward_weight if name == "reward" else self.config.end_weight) * loss
                parts[f"world/{name}"] = loss
        if tokenizer_loss is not None:
            total = total + tokenizer_loss.total
            parts |= tokenizer_loss.parts
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    def _outputs(self, codes: Tensor, actions: Tensor | None, batch: CodeClip) -> Tensor:
        """Outputs (B, T, E, D) of the dynamics; in training, actions are noisy or forgotten and codes corrupted at
        random, by the batch's seeds."""
        if not self.training:
            return self.dynamics(codes, self.action_embedding(actions, codes.shape[1], len(codes), known=batch.known))
        config, spec, random = self.config, self.config.action_spec, PerSample.of(batch.seeds, len(codes), codes.device)
        if actions is not None and spec is not None:
            actions = noisy_actions(actions, spec, config.action_noise, random)
        dropped = random.less_than(config.action_dropout)
        conditions = self.action_embedding(actions, codes.shape[1], len(codes), dropped, batch.known)
        levels, size, _ = self.dynamics.levels.shape
        return self.dynamics(corrupted_codes(codes, config.corruption, size, levels, random), conditions)

    def loss_weight(self, batch: Clip | CodeClip) -> Tensor:
        """Over how many frames the loss is a mean, by which the parts of a batch are weighed."""
        valid = batch.valid[:, :: self.tokenizer.temporal_stride] if isinstance(batch, Clip) else batch.valid
        return valid[:, 1 - self.config.learn_first_frame :].sum()

    def _to_codes(self, clip: Clip) -> CodeClip:
        """The clip's latents, and its actions between them."""
        stride, actions = self.tokenizer.temporal_stride, clip.actions
        if actions is not None and self.config.action_spec is not None:
            actions = self.config.action_spec.join(actions, stride)
        known = None if clip.known is None else clip.known.unflatten(1, (-1, stride)).all(-1)
        outcomes = None if clip.outcomes is None else clip.outcomes.join(stride)
        codes, valid = self.tokenizer.encode(clip.frames), clip.valid[:, ::stride]
        return CodeClip(codes, actions, valid, seeds=clip.seeds, outcomes=outcomes, known=known)

    def _checked(self, actions: Tensor | None, count: int) -> Tensor | None:
        """Actions of `count` steps that fit the spec; None where they are unknown or the world has none."""
        spec = self.config.action_spec
        if actions is None or spec is None:
            return None
        spec.check(actions, "B", count, per_step=self.actions_per_step)
        return actions

    # -- run folders ----------------------------------------------------------------------------------------------

    def save(
        self,
        folder: Path | str,
        *,
        recipe: Mapping[str, Any] | None = None,
        data: Origin | None = None,
    ) -> None:
        """Write a run folder that `load` reads back bitwise. recipe, data: what it was trained with, and on."""
        self.tokenizer.save(Path(folder) / TOKENIZER)
        config = self.config.to_json()
        save_model(self, folder, self.kind, config, recipe=recipe, data=data, skip=("tokenizer.",))

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        device: torch.device | str = "cpu",
        codec: nn.Module | None = None,
        trainable: bool = False,
        config: RunConfig | None = None,
    ) -> World:
        """The world of a run folder, in eval mode; codec and trainable as for its tokenizer. config: of the folder,
        where it was read before. Raises ValueError, in one line, for a folder that holds none or is damaged, and for a
        device that is not there."""
        config = config or read_config(folder, cls.kind)
        tokenizer = Tokenizer.load(inside(Path(folder), TOKENIZER), codec=codec, trainable=trainable)

        def build(values: Mapping[str, Any]) -> World:
            return cls(WorldConfig.from_json(values), tokenizer)

        return load_model(folder, config, build, device=device, skip=("tokenizer.",))

    # -- dreaming ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def init(self, clip: Clip) -> WorldState:
        """A state whose newest frame is the clip's last. Actions of the clip may be None (unknown)."""
        if not bool(clip.valid.all()):
            raise ValueError("a dream starts from real frames; the clip has padding")
        state = self._init_codes(self._to_codes(clip))
        if self.tokenizer.config.reference_frame:
            state = replace(state, reference=clip.frames[:, -1:])
        if self.config.carry_detail == 0:
            return state
        decoded = self.tokenizer.decode(state.codes[:, -1:], state.codes[:, :-1])[:, -1:]
        return replace(state, detail=Detail.of(clip.frames[:, -1:], decoded))

    def _init_codes(self, clip: CodeClip) -> WorldState:
        return WorldState.after(self.dynamics, clip.codes, self._conditions_of(clip), lookback=self._lookback)

    def _conditions_of(self, clip: CodeClip) -> Tensor:
        """Of the actions that led into each frame of a clip (B, T, D)."""
        actions = self._checked(clip.actions, clip.codes.shape[1] - 1)
        return self.action_embedding(actions, clip.codes.shape[1], len(clip.codes), known=clip.known)

    @torch.no_grad()
    def step(
        self,
        state: WorldState,
        action: Tensor | None,
        *,
        generator: torch.Generator | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    ) -> tuple[WorldState, Tensor]:
        """Dream one latent further. Consumes `state`.

        action: (B,) or (B, A) as in `ActionSpec`; None = unknown. Returns the new state and the frame (B, C, H, W) in
        [-1, 1]; with a video codec, its s frames (B, s, C, H, W).
        """
        state, frame_codes = self.step_codes(state, action, generator=generator, sampling=sampling)
        frames = self.tokenizer.decode(frame_codes[:, None], state.codes[:, :-1], state.reference)
        if state.detail is not None:
            frames = state.detail.added_to(frames, self.config.carry_detail)
        return state, frames[:, 0] if self.tokenizer.temporal_stride == 1 else frames

    @torch.no_grad()
    def step_codes(
        self,
        state: WorldState,
        action: Tensor | None,
        *,
        generator: torch.Generator | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    ) -> tuple[WorldState, Tensor]:
        """`step` without decoding: the new state and the frame's codes (B, N)."""
        guided = sampling.guidance_scale != 1 and self.config.action_spec is not None
        if guided != state.guided:
            state = state.with_guidance(self.action_embedding) if guided else state.without_guidance()
        conditions = self._conditions(action, state.batch_size, guided)
        return state.stepped(conditions, chooser(sampling, generator, state.batch_size), lookback=self._lookback)[:2]

    def _conditions(self, action: Tensor | None, batch: int, guided: bool) -> Tensor:
        null = self.action_embedding.null.expand(batch, -1)
        conditions = null
        if (checked := None if action is None else self._checked(action[:, None], 1)) is not None:
            conditions = self.action_embedding.vectors(checked[:, 0].to(self.device))
        return torch.cat([conditions, null]) if guided else conditions

    @torch.no_grad()
    def outcome(
        self, state: WorldState, *, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> StepOutcome:
        """What came of the newest step, (B,) of everything; no reward and no end where the world knows none.
        temperature: of the end; 0 = whether it is more likely than not. The state stays as it is."""
        if self.outcome_head is None:
            nothing = torch.zeros(state.batch_size, device=self.device)
            return StepOutcome(nothing, nothing.bool(), nothing)
        return self.outcome_head.draw(state.step_features, generator, temperature)

    @torch.no_grad()
    def features(self, state: WorldState) -> tuple[WorldState, Tensor]:
        """Outputs of the newest frame's steps 1 .. N/m, in raster order of their codes (B, N, D).

        Flushes the pending step, so the state comes back changed; it stays valid for `step`.
        """
        state = state.flushed()
        return state, state.outputs[: state.batch_size, self.dynamics.layout.inverse.to(self.device)]

    @torch.no_grad()
    def imagine(self, clip: Clip | CodeClip, num_frames: int, *, layers: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """The codes and hidden features of a clip and of the likeliest `num_frames` frames after it.

        These follow with unknown actions, each code the likeliest, so that nothing is random. Features are the hidden
        states after the last block, as they came to be while imagining, or those after the blocks `layers` (0 is the
        first), joined, of one more pass over all T frames. Returns codes int64 (B, T, N), row by row of the grid, and
        features float32 (B, T, N, D), each at the place of its code. With a video codec, frames are its latents, and
        `num_frames` a multiple of its stride.
        Raises ValueError for a clip with padding or other actions, and for a layer that is not there.
        """
        blocks, stride = len(self.dynamics.blocks), self.tokenizer.temporal_stride
        if wrong := [layer for layer in layers if not 0 <= layer < blocks]:
            raise ValueError(f"layer is {wrong[0]}; this world's are 0 to {blocks - 1}")
        if num_frames < 0 or num_frames % stride:
            raise ValueError(f"num_frames is {num_frames}; it must be a multiple of {stride}, or 0")
        if not bool(clip.valid.all()):
            raise ValueError("a world imagines on from real frames; the clip has padding")
        clip = self._to_codes(clip) if isinstance(clip, Clip) else clip
        null = self.action_embedding.null.expand(len(clip.codes), -1)
        conditions = self._conditions_of(clip)
        return imagined(self.dynamics, clip.codes, conditions, null, num_frames // stride, layers, self._lookback)

    @torch.no_grad()
    def predict_action(
        self, state: WorldState, *, generator: torch.Generator | None = None, temperature: float = 0.0
    ) -> tuple[WorldState, Tensor]:
        """The action head's guess of what the player does next: (B,) or (B, A). See `features` for the state."""
        state, head, features = self._head_and_features(state)
        return state, head.predict(features, generator=generator, temperature=temperature)

    @torch.no_grad()
    def action_odds(self, state: WorldState) -> tuple[WorldState, Tensor]:
        """The probability of each action next (B, A), see `ActionHead.odds`. See `features` for the state."""
        state, head, features = self._head_and_features(state)
        return state, head.odds(features)

    def _head_and_features(self, state: WorldState) -> tuple[WorldState, ActionHead, Tensor]:
        if self.action_head is None:
            raise ValueError("this world has no action head: it was trained without actions or with action_weight 0")
        state, features = self.features(state)
        return state, self.action_head, features.mean(1).float()

    @torch.no_grad()
    def entropy(self, state: WorldState) -> Tensor:
        """The normalised entropy of the newest frame's codes (B, rows, columns): see `WorldState.entropy`. Consumes
        `state`."""
        return state.entropy().unflatten(1, self.tokenizer.grid)

    @torch.no_grad()
    def generate(
        self,
        clip: Clip | Tensor,
        actions: Tensor | Literal["head"] | None = None,
        *,
        num_frames: int | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        generator: torch.Generator | None = None,
    ) -> Clip:
        """The context followed by dreamed frames, with the actions used.

        clip: a context, or a single image (C, H, W) or (B, C, H, W) in [-1, 1]. actions: (B, F, ...), the first done
        between the last context frame and the first dreamed one; None = unknown; "head" = drawn from the action head.
        num_frames: F; defaults to the number of actions and is required without them. Runs in eval mode.
        """
        was_training = self.training
        self.eval()
        try:
            return generate(self, clip, actions, num_frames=num_frames, sampling=sampling, generator=generator)
        finally:
            self.train(was_training)


def _mean(values: Tensor) -> Tensor:
    """The mean, and 0 of nothing: a small part of a batch may hold padding alone."""
    return values.sum() / max(values.numel(), 1)
