"""Latent actions: a few codes of what can happen between two frames, learned from films alone.

An encoder sees what moved in a step and says it by one code of a few; a decoder that sees only what moved before, and
the code, tells what moved (Bruce et al., Genie, arXiv 2402.15391, section 2.1; here of motions instead of pixels). So
codes hold what the past does not tell: what was done. Numbers are standardised place by place, so that what moves much
everywhere, as when the camera turns, counts no more than what moves little in one place.

Legend: T steps, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.console import Track, silent
from oneiros.world.inverse.motion import FEATURES, Watched

STEPS = 1000
MOST_ROWS = 20_000  # that are learned from
_PAST, _WIDTH, _CODE, _FORGOTTEN = 2, 128, 8, 0.5
_BATCH, _RATE, _DEAD = 256, 1e-3, 2  # _DEAD: steps of a batch, below which a code is given another place


class LatentActions(nn.Module):
    """Codes of steps. mean, std: (FEATURES,), of the motions to learn from. Learning needs vector-quantize-pytorch."""

    mean: Tensor
    std: Tensor

    def __init__(self, count: int, mean: Tensor, std: Tensor) -> None:
        from vector_quantize_pytorch import VectorQuantize

        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std + 1e-3)
        self.encoder = nn.Sequential(
            nn.Dropout(_FORGOTTEN), nn.Linear(FEATURES, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _CODE)
        )
        self.forget = nn.Dropout(_FORGOTTEN)  # else the decoder learns by heart what followed, and needs no code
        self.decoder = nn.Sequential(
            nn.Linear(_PAST * FEATURES + _CODE, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, FEATURES)
        )
        self.quantiser = VectorQuantize(
            dim=_CODE,
            codebook_size=count,
            decay=0.99,
            kmeans_init=True,
            threshold_ema_dead_code=_DEAD,
            commitment_weight=1.0,
        )

    def standardised(self, motion: Tensor) -> Tensor:
        """(T, D) -> (T, D)."""
        return ((motion.float() - self.mean) / self.std).clamp(-5, 5)

    def loss(self, past: Tensor, now: Tensor) -> Tensor:
        """Standardised motions before (B, 2 D) and of the steps (B, D) -> squared error of the decoder, and how far
        the encoder is from the codes."""
        codes, _, committed = self.quantiser(self.encoder(now))
        return F.mse_loss(self.decoder(torch.cat([self.forget(past), codes], 1)), now) + committed.sum()

    @torch.no_grad()
    def codes(self, motion: Tensor) -> Tensor:
        """(T, D) -> int64 (T,)."""
        return self.quantiser(self.encoder(self.standardised(motion)))[1].flatten()

    @torch.no_grad()
    def told(self, past: Tensor, now: Tensor) -> tuple[float, float]:
        """What share of the motions' variance the decoder tells with the codes, and with those of other steps: where
        the two are alike, it takes no notice of them."""
        codes = self.quantiser(self.encoder(now))[0]
        shuffled = codes[torch.randperm(len(codes))]
        total = now.square().mean()
        shares = [1 - F.mse_loss(self.decoder(torch.cat([past, each], 1)), now) / total for each in (codes, shuffled)]
        return float(shares[0]), float(shares[1])


def learn_codes(
    episodes: Sequence[Watched], count: int, *, steps: int = STEPS, seed: int = 0, track: Track = silent
) -> tuple[LatentActions, tuple[float, float]]:
    """The codes, and what `LatentActions.told` says of a tenth of the episodes, which they were not learned from.

    Raises ValueError for fewer than two episodes, or too few steps.
    """
    episodes = [each for each in episodes if len(each.motion) > _PAST]
    if len(episodes) < 2 or sum(len(each.motion) - _PAST for each in episodes[1:]) <= 4 * count:
        raise ValueError(f"there are too few steps, or episodes, to learn {count} codes from")
    torch.manual_seed(seed)
    every = torch.cat([each.motion for each in episodes]).float()
    model = LatentActions(count, every.mean(0), every.std(0, correction=0))
    motions = [model.standardised(each.motion).half() for each in episodes]
    held = torch.arange(len(motions)) % 10 == 0
    places = torch.tensor([(place, row) for place, each in enumerate(motions) for row in range(_PAST, len(each))])
    learned, kept = places[~held[places[:, 0]]], places[held[places[:, 0]]]
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.01)
    advance = track("learning what can happen", steps)

    def batch(chosen: Tensor) -> tuple[Tensor, Tensor]:
        rows = [motions[place][row - _PAST : row + 1].float() for place, row in chosen.tolist()]
        steps = torch.stack(rows)
        return steps[:, :-1].flatten(1), steps[:, -1]

    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(*batch(learned[torch.randint(len(learned), (_BATCH,))])).backward()
        optimizer.step()
        advance(1)
    model.eval()
    return model, model.told(*batch(kept[torch.randint(len(kept), (4 * _BATCH,))]))


def code_table(
    codes: Sequence[np.ndarray], labels: Sequence[np.ndarray], *, num_codes: int, num_labels: int
) -> tuple[np.ndarray, float, float]:
    """How often each label goes with each code, (num_codes, num_labels); how often the label that a code goes with most
    in the other episodes is the right one; and how often the most frequent label is. codes, labels: (T,) of each
    episode. Raises ValueError for fewer than two episodes."""
    if len(codes) < 2:
        raise ValueError(f"{len(codes)} labelled episode is too few: it takes one to map by and one to judge by")
    tables = []
    for code, label in zip(codes, labels, strict=True):
        table = np.zeros((num_codes, num_labels), np.int64)
        np.add.at(table, (code, label), 1)
        tables.append(table)
    whole = np.sum(tables, axis=0)
    right = usual = 0
    for table in tables:
        others = whole - table
        chosen = np.where(others.sum(1) > 0, others.argmax(1), others.sum(0).argmax())
        right += int(table[np.arange(num_codes), chosen].sum())
        usual += int(table[:, others.sum(0).argmax()].sum())
    return whole, right / max(1, whole.sum()), usual / max(1, whole.sum())
