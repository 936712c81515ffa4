"""What a point network knows of depth images, row by row on the world's grid."""

import numpy as np
import pytest

from oneiros.data.episodes.dataset import Dataset
from oneiros.loading import load
from oneiros.policy.training import policy
from oneiros.policy.training import teacher as geometry_teacher
from oneiros.policy.training.depths import read_depths
from oneiros.policy.training.teacher import Teacher, cached_teacher
from oneiros.train.log import read_metrics
from tests.recorded import DEPTH, SIZE, policy_settings, record


@pytest.fixture(scope="module")
def depths(demonstrations, tmp_path_factory):
    from oneiros.data.episodes.clips import load_frames

    dataset, cache = Dataset.open(demonstrations), tmp_path_factory.mktemp("cache")
    episodes = load_frames(dataset, [0, 2], height=SIZE, width=SIZE)
    return read_depths(dataset, episodes, camera="observation.images.front", height=SIZE, width=SIZE, cache=cache)


def test_depth_is_that_of_the_row_in_metres(depths, demonstrations):
    dataset = Dataset.open(demonstrations)
    found = depths.metres([(1, 3), (0, 7)])
    assert np.array_equal(found, np.stack([dataset.depth(2)[3], dataset.depth(0)[7]]))
    assert depths.intrinsics == (DEPTH.fx, DEPTH.fy, DEPTH.cx, DEPTH.cy)


def test_the_teacher_tells_the_square_from_the_floor(depths, demonstrations, tmp_path, capsys):
    dataset = Dataset.open(demonstrations)
    teacher = cached_teacher(tmp_path, dataset, depths, grid=(4, 4), steps=30, seed=0)
    assert "100.0% of unseen points apart, 2 classes" in capsys.readouterr().err
    assert teacher.features.shape == (60, 16, geometry_teacher.WIDTH)
    assert teacher.mask.all()
    # of what rows 0-19 of episode 2 show, a line from features tells how much of a cell the square fills in rows 20-29
    shares = dataset.labels(2).reshape(30, 4, 8, 4, 8).mean((2, 4)).reshape(30, 16)
    features = np.concatenate([teacher.features[30:], np.ones((30, 16, 1))], -1).astype(np.float64)
    line, *_ = np.linalg.lstsq(features[:20].reshape(320, -1), shares[:20].ravel(), rcond=None)
    left = (features[20:] @ line - shares[20:]).var() / shares[20:].var()
    assert left < 0.2

    again = cached_teacher(tmp_path, dataset, depths, grid=(4, 4), steps=30, seed=0)
    assert np.array_equal(again.features, teacher.features)
    assert len(list(tmp_path.glob("teacher-*"))) == 1


def test_rows_of_a_moment_and_nothing_beyond_the_episode():
    features = np.arange(7, dtype=np.float16)[:, None, None] * np.ones((1, 2, 3), np.float16)
    known = np.ones((7, 2), bool)
    known[4, 1] = False
    teacher = Teacher(features, known, np.array([0, 4, 7]))
    found, there = teacher.of([(0, 1), (1, 0)], (-2, 0, 2, 4))
    assert found[..., 0, 0].tolist() == [[0, 1, 3, 3], [4, 4, 6, 6]]
    assert there[..., 0].tolist() == [[True, True, True, False], [True, True, True, False]]
    assert there[1, 0].tolist() == [True, False]


def test_a_policy_learns_geometry(demonstrations, acting_world, tmp_path):
    settings = policy_settings(
        demonstrations, acting_world, tmp_path, steps=2, geometry_tokens=2, alignment=True, teacher_steps=2
    )
    policy.run(settings)
    config = load(tmp_path).config
    assert (config.former, config.geometry_tokens) == ("geometry", 2)
    assert config.intrinsics == (DEPTH.fx, DEPTH.fy, DEPTH.cx, DEPTH.cy)
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["policy/alignment"] > 0


def test_depth_without_a_focal_length_is_refused(tmp_path):
    data = record(tmp_path / "data", depth=True, num_episodes=2, intrinsics=False)
    dataset = Dataset.open(data)
    with pytest.raises(ValueError, match="has no focal length"):
        read_depths(dataset, [], camera="observation.images.front", height=SIZE, width=SIZE, cache=tmp_path)
