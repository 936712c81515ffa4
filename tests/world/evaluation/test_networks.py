"""LPIPS and FVD with the user's own functions."""

import sys

import pytest
import torch

from oneiros.imports import find_function
from oneiros.world.evaluation.fidelity import evaluate
from oneiros.world.evaluation.networks import Networks, lpips, video_features
from tests.dot_world import DotWorld
from tests.world.evaluation.test_fidelity import CONFIG, dot_clips


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    assert a.min() >= -1
    assert a.max() <= 1
    return (a - b).abs().mean(dim=(1, 2, 3))


def features(clips: torch.Tensor) -> torch.Tensor:
    return clips.mean(dim=2).flatten(2)[:, :, ::50].flatten(1)


def test_every_variant_is_measured_by_the_users_networks():
    measured = evaluate(DotWorld(), dot_clips(), config=CONFIG, networks=Networks(distance, features)).metrics
    assert measured["lpips"]["model"] == [0.0] * 5
    assert min(measured["lpips"]["shuffled_actions"]) > 0
    assert measured["fvd"]["model"] == pytest.approx(0.0, abs=1e-3)
    assert measured["fvd"]["copy_last_frame"] > 0.1


def test_without_networks_there_is_nothing_and_that_is_said():
    measured = evaluate(DotWorld(), dot_clips(), config=CONFIG).metrics
    assert measured["lpips"] is None
    assert measured["fvd"] is None


def test_a_function_is_found_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text("def distance(a, b):\n    return a\nnumber = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert find_function("my_networks:distance")(1, 2) == 1
    with pytest.raises(ValueError, match="my_networks has no function 'number'"):
        find_function("my_networks:number")
    with pytest.raises(ValueError, match="cannot be imported"):
        find_function("no_such_module:distance")
    with pytest.raises(ValueError, match="write module:function"):
        find_function("my_networks")


def test_networks_of_another_shape_are_refused():
    frames = torch.zeros(2, 3, 16, 16, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="returned 18 distances for 6 pairs"):
        lpips(lambda a, b: a.mean(dim=(2, 3)), frames, frames)
    with pytest.raises(ValueError, match=r"returned \(2, 3, 3, 16, 16\) for 2 clips"):
        video_features(lambda clips: clips, frames)
