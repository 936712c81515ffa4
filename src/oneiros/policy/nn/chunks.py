"""Chunks of actions by diffusion: what the head's training is measured by, and how it acts.

Legend: B batch, M tokens of width D, R noisy chunks of a sample, L actions of a chunk, A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from oneiros.nn.per_sample import PerSample
from oneiros.policy.nn.action_numbers import from_numbers, to_numbers
from oneiros.policy.nn.diffusion import (
    SIGMA_DATA,
    Preconditioning,
    ddim,
    exponential_schedule,
    network_target,
    training_sigmas,
)
from oneiros.policy.nn.head import PolicyHead
from oneiros.records import ActionSpec

_SMALL_MISS = 0.1  # standard deviations of the actions: below, the guess's loss is quadratic


def chunk_losses(
    head: PolicyHead,
    context: Tensor,
    actions: Tensor,
    valid: Tensor,
    random: PerSample,
    spec: ActionSpec,
    draws: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """From context (B, M, D), actions (B, L, ...) and which of them were done (B, L): the losses of denoising `draws`
    chunks of each sample and of the guess, and the mean error of the chunks denoised from the most noise, in standard
    deviations of the actions."""
    shape = (draws, *valid.shape[1:], spec.size)
    counted = valid[:, None, :, None]
    clean = SIGMA_DATA * to_numbers(actions, spec)[:, None] * counted
    # one level from each of as many equal parts of the density: the draws of a sample are spread
    spread = (random.uniform(draws) + torch.arange(draws, device=clean.device)) / draws
    sigmas = training_sigmas(spread)[..., None, None]
    at = Preconditioning.of(sigmas)
    noise = random.normal(shape[0] * shape[1] * shape[2]).view(len(clean), *shape)
    noisy = clean + sigmas * noise
    inputs = head.decoder_input(context)
    predicted = head(at.into * noisy, head.modulation(at.level[..., 0, 0]), inputs).float()
    many = (counted.sum() * draws * shape[2]).clamp_min(1)
    loss = ((predicted - network_target(clean, noisy, at)).square() * counted).sum() / many
    denoised = (at.skip * noisy + at.out * predicted)[:, -1:]
    error = ((denoised - clean).abs() * counted).sum() * draws / many / SIGMA_DATA
    missed = F.smooth_l1_loss(inputs.guess, clean / SIGMA_DATA, reduction="none", beta=_SMALL_MISS) * counted
    return loss, missed.sum() * draws / many, error


def denoised_chunks(head: PolicyHead, context: Tensor, seeds: Sequence[int], spec: ActionSpec, steps: int) -> Tensor:
    """Chunks (B, L, ...) in the environments' units, from context (B, M, D) in so many steps. seeds: of each one's
    noise."""
    sigmas, (horizon, size), device = exponential_schedule(steps), head.shape, context.device
    at = Preconditioning.of(sigmas[:-1].to(device))
    inputs, modulations = head.decoder_input(context), head.modulation(at.level)
    skips, outs, intos = (values.tolist() for values in (at.skip, at.out, at.into))

    def denoised(noisy: Tensor, index: int) -> Tensor:
        predicted = head(intos[index] * noisy, modulations[None, index : index + 1], inputs)
        return skips[index] * noisy + outs[index] * predicted.float()

    noise = PerSample(torch.tensor(seeds)).normal(horizon * size).to(device)
    chunk = ddim(denoised, noise.view(len(seeds), 1, horizon, size), sigmas)
    return from_numbers(chunk[:, 0] / SIGMA_DATA, spec)
