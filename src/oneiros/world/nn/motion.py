"""How much each code of a frame counts in the loss: more where something has just moved.

Legend: B batch, T frames, C channels of a codebook vector, h x w latent grid, N = h * w codes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_STILL = 1e-3  # change that counts as none, of squared vectors: where all is still, all weigh the same


def motion_weights(vectors: Tensor, factor: float) -> Tensor:
    """Codebook vectors (B, T, C, h, w) of a clip -> what the loss of each code weighs (B, T, N), 1 on average a frame.

    A cell has 1 + factor * its share, its share being how much it or a neighbour changed between the two frames before,
    over the mean of the frame. That is known before the code is predicted, so predicted probabilities stay unbiased.
    """
    weights = torch.ones_like(vectors[:, :, 0])
    if vectors.shape[1] > 2:
        change = (vectors[:, 1:-1] - vectors[:, :-2]).square().sum(2) + _STILL
        near = F.max_pool2d(change, 3, stride=1, padding=1)
        weights[:, 2:] = (1 + factor * near / near.mean((2, 3), keepdim=True)) / (1 + factor)
    return weights.flatten(2)
