"""Making a finished tokenizer's decoder draw sharp: its codes stay, so that worlds dream in them as before.

Squared error averages what a code leaves open; a critic is not content with averages. Codes that a world dreams go
together less well than those of real frames; with a world, the decoder learns to draw half of its frames from such.

Legend: B clips, T frames, C channels, H x W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call

from oneiros.records import Clip, Loss, Trainable
from oneiros.world.nn.codec import ImageCodec
from oneiros.world.nn.critic import PatchCritic
from oneiros.world.tokenizer import Tokenizer

_COLOURS = 3  # the first channels: a critic of depth would find its steps, and roughen what is smooth
_RECONSTRUCTION, _MATCHING, _ADVERSARIAL = 10.0, 1.0, 0.1  # weights of what the decoder learns from
_BESIDE_REFERENCE = 40.0  # of reconstruction, where most of the frame is known and must only not be spoiled
DREAMED_FROM, DREAMED_FRAMES = 4, 2  # real frames, and how many are dreamed after them: the last one is drawn

Dream = Callable[[Clip], Tensor]


class Sharpening(Trainable):
    """Trains a tokenizer's decoder against a critic; everything that makes codes is frozen."""

    def __init__(self, tokenizer: Tokenizer, dream: Dream | None = None) -> None:
        """Takes the tokenizer over. dream: of clips of DREAMED_FROM + DREAMED_FRAMES frames, the codes (B, 1, N) of the
        last one as a world dreams them. Raises ValueError for a tokenizer whose decoder is not ours, or looks back."""
        super().__init__()
        codec = tokenizer.codec
        if not isinstance(codec, ImageCodec) or tokenizer.lookback:
            raise ValueError(
                "only the default codec's decoder can be made sharp: no codec of your own, none with temporal_convs"
            )
        self.dream = dream
        self.tokenizer = tokenizer.requires_grad_(False)
        for part in (codec.decoder, codec.latent_to_patch):
            if part is not None:
                part.requires_grad_(True)
        self.plain = copy.deepcopy(codec).requires_grad_(False)
        self.critic = PatchCritic(_COLOURS)

    def forward(self, batch: Clip) -> Loss:
        """Squared error, matching of the critic's features, and the critic's opinion of drawn frames; and the critic's
        own loss, whose gradient reaches the critic alone.

        What is drawn of dreamed codes is not compared with the real frame, in which things have moved on otherwise: it
        is to look real, and to stay with what was drawn of them before. Unless a reference is shown: then most of the
        frame is known, and the decoder learns how far dreamed codes can be trusted to say what has changed.
        """
        codec = self.tokenizer.codec
        with torch.no_grad():
            real, vectors, reference, dreamed = self._examples(batch)
            plain = _drawn(self.plain, vectors, reference)
            of_real = plain
            if dreamed.any():
                of_real = _drawn(self.plain, self._vectors_of(real), reference)
        drawn = _drawn(codec, vectors, reference)
        compared = ~dreamed if reference is None else torch.ones_like(dreamed)
        target = torch.where(compared[:, None, None, None], real, plain)
        reconstruction = (drawn - target).square().mean()
        real, drawn, plain, of_real = (frames[:, :_COLOURS] for frames in (real, drawn, plain, of_real))
        real_scores, real_seen = self.critic(real, of_real)
        drawn_scores, _ = self.critic(drawn.detach(), plain)
        critic = (1 - real_scores).relu().mean() + (1 + drawn_scores).relu().mean()

        frozen = {name: parameter.detach() for name, parameter in self.critic.named_parameters()}
        scores, seen = functional_call(self.critic, frozen, (drawn, plain))
        pairs = [(ours[compared], theirs[compared].detach()) for ours, theirs in zip(seen, real_seen, strict=True)]
        matching = torch.stack([(ours - theirs).abs().float().mean() for ours, theirs in pairs]).mean()
        adversarial = -scores.float().mean()
        weight = _RECONSTRUCTION if reference is None else _BESIDE_REFERENCE
        total = weight * reconstruction + _MATCHING * matching + _ADVERSARIAL * adversarial + critic.float()
        parts = {
            "decoder/reconstruction": reconstruction,
            "decoder/matching": matching,
            "decoder/adversarial": adversarial,
            "decoder/critic": critic,
        }
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    def _examples(self, batch: Clip) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Real frames (R, C, H, W), the codebook vectors to draw (R, 1, C', h, w), the reference shown with them
        (R, 1, C, H, W), and which vectors are a world's: bool (R,), every other one where there is a world."""
        codes = None
        if self.dream is not None:
            codes, seen = self.dream(batch), slice(DREAMED_FROM - 1, None, DREAMED_FRAMES)  # the last real, the dreamed
            batch = replace(batch, frames=batch.frames[:, seen], valid=batch.valid[:, seen], actions=None)
            if not self.tokenizer.config.reference_frame:
                batch = replace(batch, frames=batch.frames[:, 1:], valid=batch.valid[:, 1:])
        clip, reference = self.tokenizer.with_reference(batch)
        valid = clip.valid
        real = clip.frames[valid]
        if reference is not None:
            reference = reference.expand_as(clip.frames)[valid][:, None]
        vectors, dreamed = self._vectors_of(real), torch.zeros(len(real), dtype=torch.bool, device=real.device)
        if codes is not None:
            dreamed[1::2] = True
            of_dream = self.tokenizer.vectors(codes)[valid][:, None]
            vectors = torch.where(dreamed[:, None, None, None, None], of_dream, vectors)
        return real, vectors, reference, dreamed

    def _vectors_of(self, frames: Tensor) -> Tensor:
        """Frames (R, C, H, W) -> the vectors of their codes (R, 1, C', h, w)."""
        return self.tokenizer.vectors(self.tokenizer.encode(frames[:, None]))


def _drawn(codec: ImageCodec, vectors: Tensor, reference: Tensor | None) -> Tensor:
    """Vectors (R, 1, C', h, w) as the codec draws them: float32 (R, C, H, W)."""
    return codec.decode(vectors, reference)[:, 0].float()
