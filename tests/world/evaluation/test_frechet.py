"""The network that comes with the package: what is spoiled more is farther away, and what is the same is not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import oneiros.world.evaluation.frechet as package
from oneiros.world.built_in import bundled_world
from oneiros.world.evaluation.frechet.network import FEATURES, WEIGHTS, load_network, pair_features
from oneiros.world.evaluation.frechet.scores import FrechetScores
from oneiros.world.metrics import frechet_distance

NETWORK = load_network()


@pytest.fixture(scope="module")
def clips() -> Tensor:
    """Beginnings of the world that ships, which the network never saw: uint8 (8, 8, 64, 64, 3)."""
    return load_file(bundled_world() / "starts.safetensors")["frames"][..., :3].contiguous()


def blurred(clips: Tensor, radius: int) -> Tensor:
    flat = clips.flatten(0, 1).permute(0, 3, 1, 2).float()
    flat = F.avg_pool2d(F.pad(flat, (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1)
    return flat.permute(0, 2, 3, 1).round().to(torch.uint8).view_as(clips)


def noisy(clips: Tensor, levels: float) -> Tensor:
    noise = levels * torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    return (clips + noise).clamp(0, 255).to(torch.uint8)


def distance(spoiled: Tensor, clips: Tensor) -> float:
    a, b = (pair_features(NETWORK, each).flatten(0, 1) for each in (spoiled, clips))
    return frechet_distance(a, b)


def test_the_same_frames_are_no_distance_apart_in_any_order(clips):
    assert distance(clips, clips) == pytest.approx(0, abs=1e-6)
    assert distance(clips.flip(0), clips) == pytest.approx(0, abs=1e-6)


def test_it_rises_with_blur_and_with_noise(clips):
    by_blur = [distance(blurred(clips, radius), clips) for radius in (0, 1, 2, 4)]
    by_noise = [distance(noisy(clips, levels), clips) for levels in (0, 4, 8, 16, 32)]
    assert by_blur == sorted(by_blur)
    assert by_noise == sorted(by_noise)
    assert by_blur[1] > 0.5
    assert by_noise[-1] > 2


def test_it_sees_a_dream_that_stands_still_although_each_frame_is_real(clips):
    assert distance(clips[:, :1].expand_as(clips), clips) > 0.5


def test_frames_of_other_sizes_have_features_too():
    frames = torch.randint(0, 256, (2, 3, 16, 24, 3), dtype=torch.uint8)
    assert pair_features(NETWORK, frames).shape == (2, 2, FEATURES)


def test_the_weights_that_ship_are_small():
    assert (Path(package.__path__[0]) / WEIGHTS).stat().st_size < 500_000


def test_scores_are_by_dreamed_frame_and_error_needs_two_episodes(clips):
    """A dream that is right at first and a blur from the third frame on."""
    last, real = clips[:, :1], clips[:, 1:5]
    late = torch.cat([real[:, :2], blurred(real[:, 2:], 2)], 1)
    dreams = {"sampled": late, "model": real, "reconstruction": real, "copy_last_frame": last.expand_as(real)}
    scores = FrechetScores()
    scores.add(last[:3], real[:3], {name: frames[:3] for name, frames in dreams.items()})
    scores.add(last[3:], real[3:], {name: frames[3:] for name, frames in dreams.items()})
    found = scores.summary([number // 2 for number in range(8)])
    assert found["by_frame"]["model"] == pytest.approx([0.0] * 4, abs=1e-6)
    assert found["by_frame"]["sampled"][:2] == pytest.approx([0.0] * 2, abs=1e-6)
    assert min(found["by_frame"]["sampled"][2:]) > 0.5
    assert 0 < found["all"]["sampled"] < max(found["by_frame"]["sampled"])
    assert found["standard_error"]["sampled"][3] > 0
    assert scores.summary([3] * 8)["standard_error"]["sampled"] is None
