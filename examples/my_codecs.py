"""Codecs for example 06: what `--codec my_codecs:patches` and `--codec my_codecs:diffusers_vae` name.

A codec is a module with `encode(frames)` and `decode(latents)`; `oneiros.world.nn.codec` says what else it may have.
"""

from torch import nn


class Patches(nn.Module):
    """Linear patches: frames (B, T, 3, H, W) in [-1, 1] <-> latents (B, T, 16, H/8, W/8)."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 16, 8, stride=8), nn.ConvTranspose2d(16, 3, 8, stride=8)

    def encode(self, frames):
        return self.enter(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def decode(self, latents):
        return self.leave(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])


class Autoencoder(nn.Module):
    """An autoencoder of diffusers, frozen: only the codebook learns. Leave out the last line to train it along."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae
        self.requires_grad_(False)

    def encode(self, frames):
        return self.vae.encode(frames.flatten(0, 1)).latents.unflatten(0, frames.shape[:2])

    def decode(self, latents):
        return self.vae.decode(latents.flatten(0, 1)).sample.unflatten(0, latents.shape[:2])


def patches():
    return Patches()


def diffusers_vae():
    """A small one of random weights, which needs no network. Yours: AutoencoderTiny.from_pretrained("path/to/it")."""
    from diffusers import AutoencoderTiny

    widths, blocks = (16, 16, 16, 16), (1, 1, 1, 1)
    return Autoencoder(
        AutoencoderTiny(
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=blocks,
            num_decoder_blocks=blocks,
        )
    )
