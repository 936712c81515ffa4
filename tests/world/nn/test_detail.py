import math

import torch

from oneiros.world.nn.detail import Detail

REAL = torch.rand(2, 1, 3, 16, 16) - 0.5
DECODED = (REAL + 0.1 * torch.randn_like(REAL)).clamp(-0.8, 0.8)


def test_a_frame_that_decodes_as_the_real_one_did_is_the_real_one():
    kept = Detail.of(REAL, DECODED).added_to(DECODED.expand(2, 3, -1, -1, -1), 0.1)
    torch.testing.assert_close(kept, REAL.expand(2, 3, -1, -1, -1))


def test_detail_fades_where_something_changes_and_nowhere_else():
    dreamed = DECODED.clone()
    dreamed[..., :8] += 0.2
    kept = Detail.of(REAL, DECODED).added_to(dreamed, 0.1)
    torch.testing.assert_close(kept[..., 10:], REAL[..., 10:])
    left = kept[..., :6] - dreamed[..., :6]
    torch.testing.assert_close(left, (REAL - DECODED)[..., :6] * math.exp(-2), atol=1e-6, rtol=0)


def test_frames_stay_in_range():
    kept = Detail.of(torch.ones(1, 1, 3, 8, 8), torch.zeros(1, 1, 3, 8, 8)).added_to(
        torch.full((1, 1, 3, 8, 8), 0.05), 1.0
    )
    assert kept.max() == 1
