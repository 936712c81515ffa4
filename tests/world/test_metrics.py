"""Every measure against a value known by other means."""

import math

import pytest
import torch

from oneiros.records import ActionSpec
from oneiros.world import metrics

DISCRETE = ActionSpec("discrete", ("left", "right"))
KEYS = ActionSpec("keys", ("up", "fire"))
CONTINUOUS = ActionSpec("continuous", ("x", "y"))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error_is_the_textbook_value():
    real = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    real[1] = 90
    expected = [20 * math.log10(255 / 5), 20 * math.log10(255 / 15)]
    torch.testing.assert_close(metrics.psnr(torch.full_like(real, 105), real), torch.tensor(expected))


def test_psnr_does_not_wrap_around_at_zero():
    dark, bright = torch.zeros(8, 8, 3, dtype=torch.uint8), torch.full((8, 8, 3), 255, dtype=torch.uint8)
    assert metrics.psnr(dark, bright).item() == 0.0


def test_identical_frames_score_the_cap():
    frames = noise(3, 16, 16)
    assert metrics.psnr(frames, frames).tolist() == [60.0] * 3
    torch.testing.assert_close(metrics.ssim(frames, frames), torch.ones(3))


def test_ssim_keeps_shape_and_order_and_prefers_the_likeness():
    real = noise(2, 40, 16, 16)
    close = torch.where(noise(2, 40, 16, 16, seed=1) < 30, noise(2, 40, 16, 16, seed=2), real)
    values = metrics.ssim(torch.stack([close[0], noise(40, 16, 16, seed=3)]), real)
    assert values.shape == (2, 40)
    assert values[0].min() > 0.5 > values[1].max()
    single = metrics.ssim(close[0, 33], real[0, 33])
    torch.testing.assert_close(values[0, 33], single)


def test_float_frames_are_refused():
    with pytest.raises(ValueError, match=r"uint8 \(\.\.\., H, W, 3\)"):
        metrics.psnr(torch.zeros(8, 8, 3), torch.zeros(8, 8, 3))


@pytest.mark.parametrize("count", [2, 3, 5, 256])
def test_a_derangement_moves_every_clip(count: int):
    order = metrics.derangement(count, torch.Generator().manual_seed(count))
    assert sorted(order.tolist()) == list(range(count))
    assert not (order == torch.arange(count)).any()


def test_one_clip_has_no_derangement():
    with pytest.raises(ValueError, match="at least 2 clips"):
        metrics.derangement(1, torch.Generator())


def test_action_scores_by_kind():
    assert metrics.action_scores(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]), DISCRETE) == {"accuracy": 0.75}
    predicted, true = torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])
    scores = metrics.action_scores(predicted, true, KEYS)
    assert scores["f1"] == pytest.approx(0.8)
    assert scores["exact"] == 0.5
    assert metrics.action_scores(torch.zeros(2, 2), torch.zeros(2, 2), KEYS)["f1"] == 1.0


def test_continuous_scores_know_the_perfect_and_the_mean_prediction_and_skip_dimensions_that_stand_still():
    true = torch.tensor([[0.0, 7.0], [2.0, 7.0]])
    assert metrics.action_scores(true, true, CONTINUOUS) == {"mae": 0.0, "r2": 1.0}
    assert metrics.action_scores(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), true, CONTINUOUS) == {"mae": 1.0, "r2": 0.0}
    assert math.isnan(metrics.action_scores(true[:1], true[:1], CONTINUOUS)["r2"])


def test_statistics_of_drift_have_their_known_values():
    stripes = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    stripes[..., ::2, :] = 100
    torch.testing.assert_close(metrics.sharpness(stripes), torch.full((2,), 50.0))
    stripes[1] = stripes[0] + 3
    torch.testing.assert_close(metrics.motion(stripes), torch.tensor([3.0]))
    assert metrics.code_entropy(torch.tensor([[0, 1], [2, 3]])) == 2.0
    assert metrics.code_entropy(torch.tensor([5, 5, 5])) == 0.0


def test_nearest_distance_is_zero_for_a_member_and_the_shift_for_a_shifted_one():
    gallery = noise(5, 32, 32).clamp(max=200)
    torch.testing.assert_close(metrics.nearest_distance(gallery[3:4], gallery), torch.zeros(1), atol=1e-2, rtol=0)
    torch.testing.assert_close(metrics.nearest_distance(gallery[3:4] + 10, gallery), torch.tensor([10.0]))


def test_frechet_distance_of_known_gaussians():
    a = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert metrics.frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)
    assert metrics.frechet_distance(a, a + 2) == pytest.approx(12.0)
    assert metrics.frechet_distance(a, 3 * a) == pytest.approx(3 * (3 - 1) ** 2, rel=0.05)


def test_a_pixel_moves_when_one_colour_changes_by_more_than_what_compression_does():
    before = torch.full((1, 4, 4, 3), 100, dtype=torch.uint8)
    frames = before.repeat(3, 1, 1, 1)
    frames[0, 0, 0, 2], frames[1, 1, 1] = 117, 116
    frames[2, 2, 2, 0] = 83
    assert metrics.moves(frames, before).nonzero().tolist() == [[0, 0, 0], [2, 2, 2]]
