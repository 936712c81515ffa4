"""Making a finished tokenizer's decoder draw sharp: its codes stay, so that worlds dream in them as before.

Squared error averages what a code leaves open; a critic is not content with averages.

Legend: B clips, T frames, C channels, H x W pixels.
"""

from __future__ import annotations

import copy

import torch
from torch.func import functional_call

from oneiros.records import Clip, Loss, Trainable
from oneiros.world.nn.codec import ImageCodec
from oneiros.world.nn.critic import PatchCritic
from oneiros.world.tokenizer import Tokenizer

_COLOURS = 3  # the first channels: a critic of depth would find its steps, and roughen what is smooth
_RECONSTRUCTION, _MATCHING, _ADVERSARIAL = 10.0, 1.0, 0.1  # weights of what the decoder learns from


class Sharpening(Trainable):
    """Trains a tokenizer's decoder against a critic; everything that makes codes is frozen."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Takes the tokenizer over. Raises ValueError for one whose decoder is not ours, or looks back."""
        super().__init__()
        codec = tokenizer.codec
        if not isinstance(codec, ImageCodec) or tokenizer.lookback:
            raise ValueError(
                "only the default codec's decoder can be made sharp: no codec of your own, none with temporal_convs"
            )
        self.tokenizer = tokenizer.requires_grad_(False)
        for part in (codec.decoder, codec.latent_to_patch):
            if part is not None:
                part.requires_grad_(True)
        self.plain = copy.deepcopy(codec).requires_grad_(False)
        self.critic = PatchCritic(_COLOURS)

    def forward(self, batch: Clip) -> Loss:
        """Squared error, matching of the critic's features, and the critic's opinion of drawn frames; and the critic's
        own loss, whose gradient reaches the critic alone."""
        tokenizer, real = self.tokenizer, batch.frames[batch.valid][:, None]
        with torch.no_grad():
            vectors = tokenizer.vectors(tokenizer.encode(real))
            plain = self.plain.decode(vectors)[:, 0, :_COLOURS].float()
        real, drawn = real[:, 0], tokenizer.codec.decode(vectors)[:, 0].float()
        reconstruction = (drawn - real).square().mean()
        real, drawn = real[:, :_COLOURS], drawn[:, :_COLOURS]
        real_scores, real_seen = self.critic(real, plain)
        drawn_scores, _ = self.critic(drawn.detach(), plain)
        critic = (1 - real_scores).relu().mean() + (1 + drawn_scores).relu().mean()

        frozen = {name: parameter.detach() for name, parameter in self.critic.named_parameters()}
        scores, seen = functional_call(self.critic, frozen, (drawn, plain))
        pairs = zip(seen, real_seen, strict=True)
        matching = torch.stack([(ours - theirs.detach()).abs().float().mean() for ours, theirs in pairs]).mean()
        adversarial = -scores.float().mean()
        total = _RECONSTRUCTION * reconstruction + _MATCHING * matching + _ADVERSARIAL * adversarial + critic.float()
        parts = {
            "decoder/reconstruction": reconstruction,
            "decoder/matching": matching,
            "decoder/adversarial": adversarial,
            "decoder/critic": critic,
        }
        return Loss(total, {name: value.detach() for name, value in parts.items()})
