"""How sharp dreamed frames are, and how right where something moves.

Legend: B clips in a batch, n in all, H horizon, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from oneiros.world import metrics
from oneiros.world.evaluation.certainty import clustered_error, decibels, ratio_of_sums


class PixelScores:
    """Sharpness, and errors over the pixels that move, of the variants of a dream; gathered batch by batch."""

    def __init__(self) -> None:
        self._real_sharpness: list[Tensor] = []
        self._moving: list[Tensor] = []
        self._sharpness: dict[str, list[Tensor]] = {}
        self._errors: dict[str, list[Tensor]] = {}

    def add(self, last: Tensor, real: Tensor, dreams: Mapping[str, Tensor]) -> None:
        """last: uint8 (B, 1, h, w, 3), the last frame given; real, dreams: uint8 (B, H, h, w, 3)."""
        moves = metrics.moves(real, last)
        self._real_sharpness.append(metrics.sharpness(real))
        self._moving.append(moves.float().mean(dim=(-2, -1)))
        for name, dreamed in dreams.items():
            squares = (dreamed.float() - real.float()).square().mean(-1)
            self._sharpness.setdefault(name, []).append(metrics.sharpness(dreamed))
            self._errors.setdefault(name, []).append((squares * moves).mean(dim=(-2, -1)))

    def summary(self, episodes: list[int]) -> dict[str, Any]:
        """`sharpness` and `moving` of metrics.json, each with its standard errors. episodes: of each clip added."""
        moving = torch.cat(self._moving)
        sharpness = {
            name: ratio_of_sums(torch.cat(parts), torch.cat(self._real_sharpness))
            for name, parts in self._sharpness.items()
        }
        psnr = {
            name: decibels(ratio_of_sums(torch.cat(parts), moving), cap=metrics.PSNR_CAP)
            for name, parts in self._errors.items()
        }
        gain = {name: psnr[name] - psnr["copy_last_frame"] for name in ("model", "sampled")}
        delta = psnr["model"] - psnr["shuffled_actions"] if "shuffled_actions" in psnr else None
        return {
            "sharpness": _means(sharpness) | {"standard_error": _errors(sharpness, episodes)},
            "moving": {
                "share": moving.mean(0).tolist(),
                "psnr": _means(psnr),
                "psnr_gain": _means(gain),
                "delta_psnr": None if delta is None else delta.mean(0).tolist(),
                "standard_error": {
                    "psnr_gain": _errors(gain, episodes),
                    "delta_psnr": None if delta is None else clustered_error(delta, episodes),
                },
            },
        }


def _means(values: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: each.mean(0).tolist() for name, each in values.items()}


def _errors(values: Mapping[str, Tensor], episodes: list[int]) -> dict[str, Any]:
    return {name: clustered_error(each, episodes) for name, each in values.items()}
