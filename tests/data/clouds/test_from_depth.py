"""A room whose walls are known is recorded from known places: the points of its clouds must lie on the walls."""

from __future__ import annotations

import numpy as np
import pytest

from oneiros.cli import main
from oneiros.cli.clouds import main as clouds_verb
from oneiros.data.clouds.cloud import concatenate
from oneiros.data.clouds.formats import open_cloud
from oneiros.data.clouds.from_depth import clouds
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.records import Camera

VIEW = {"height": 24, "width": 32, "fx": 20.0, "fy": 22.0, "cx": 15.5, "cy": 11.5}
RGB = Camera("observation.images.front", **VIEW)
DEPTH = Camera("observation.depth.front", kind="depth", depth_min=0.1, depth_max=20.0, **VIEW)
LABELS = Camera("observation.labels.front", kind="labels", classes=("wall", "floor", "ceiling"), **VIEW)
LOW, HIGH = np.array([0, 0, 0]), np.array([6, 8, 3])  # the room, metres
POSES = [(3.0, 4.0, 1.5, 0.0), (2.0, 5.0, 1.2, 0.7), (4.5, 2.0, 1.8, -2.4)]  # x, y, z, yaw


def look(x: float, y: float, z: float, yaw: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) along the axis and the class of each pixel, ray by ray."""
    depth, labels = np.empty((24, 32)), np.empty((24, 32), int)
    for row in range(24):
        for column in range(32):
            left, up = (15.5 - column) / 20, (11.5 - row) / 22
            ray = np.array([np.cos(yaw) - left * np.sin(yaw), np.sin(yaw) + left * np.cos(yaw), up])
            with np.errstate(divide="ignore"):
                reach = np.where(ray > 0, (HIGH - [x, y, z]) / ray, (LOW - [x, y, z]) / ray)
            axis = int(reach.argmin())
            depth[row, column] = reach[axis]
            labels[row, column] = 0 if axis < 2 else 1 if ray[2] < 0 else 2
    return depth, labels


def record(path, cameras, rows, state_names=()):
    with (
        DatasetWriter(path, fps=5, cameras=cameras, action_spec=None, state_names=state_names) as writer,
        writer.episode(task="look") as episode,
    ):
        for row in rows:
            episode.add(**row)
    return Dataset.open(path)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    rows = []
    for pose in POSES:
        depth, labels = look(*pose)
        depth[:2, :2], depth[-1, -1] = np.nan, 25.0  # nothing seen, too far
        colour = np.broadcast_to(np.array([200, 120, 40], np.uint8), (24, 32, 3))
        rows.append({"images": {RGB.name: colour, DEPTH.name: depth, LABELS.name: labels}, "state": [100.0, *pose]})
    path = tmp_path_factory.mktemp("clouds") / "room"
    return record(path, (RGB, DEPTH, LABELS), rows, ("health", "x", "y", "z", "yaw"))


@pytest.fixture
def nowhere(tmp_path):
    """One frame without a pose: a wall 5 m away."""
    return record(tmp_path / "data", (DEPTH,), [{"images": {DEPTH.name: np.full((24, 32), 5.0)}}])


def test_points_lie_on_the_walls_of_their_class(room):
    seen = list(clouds(room, 0))
    assert len(seen) == 3
    for row, cloud in enumerate(seen):
        assert len(cloud) == 24 * 32 - 5  # without what was not seen, or too far
        assert set(cloud.attributes["row"]) == {row}
        walls = np.minimum(np.abs(cloud.xyz - LOW), np.abs(cloud.xyz - HIGH))
        assert walls.min(axis=1).max() < 0.01  # a step of the depth code is 3 mm at most
        assert np.abs(cloud.xyz[cloud.classification == 1, 2]).max() < 0.01
        assert np.abs(cloud.xyz[cloud.classification == 2, 2] - 3).max() < 0.01
        assert walls[cloud.classification == 0, :2].min(axis=1).max() < 0.01
        assert cloud.class_names == {0: "wall", 1: "floor", 2: "ceiling"}
        assert np.abs(cloud.colours().mean(axis=0) * 255 - [200, 120, 40]).max() < 6  # video is lossy
    assert set(seen[0].classification) == {0, 1, 2}


def test_a_stride_leaves_rows_out(room):
    assert [set(cloud.attributes["row"]) for cloud in clouds(room, 0, stride=2)] == [{0}, {2}]
    with pytest.raises(ValueError, match="stride is 0"):
        clouds(room, 0, stride=0)


def test_without_poses_the_camera_is_the_origin(nowhere):
    (cloud,) = clouds(nowhere, 0)
    assert np.allclose(cloud.xyz[:, 0], 5, atol=0.01)
    assert np.allclose(cloud.xyz[0], [5, 5 * 15.5 / 20, 5 * 11.5 / 22], atol=0.02)  # the upper left pixel: left and up
    assert list(cloud.attributes) == ["row"]


def test_depth_without_intrinsics_or_no_depth(tmp_path):
    bare = Camera("observation.depth.front", 24, 32, "depth")
    blind = record(tmp_path / "bare", (bare,), [{"images": {bare.name: np.ones((24, 32))}}])
    with pytest.raises(ValueError, match="no focal length"):
        clouds(blind, 0)
    flat = record(tmp_path / "rgb", (RGB,), [{"images": {RGB.name: np.zeros((24, 32, 3), np.uint8)}}])
    with pytest.raises(ValueError, match="has no depth camera"):
        clouds(flat, 0)


@pytest.mark.parametrize("ending", ["laz", "ply"])
def test_the_verb_writes_what_was_seen(room, tmp_path, capsys, ending):
    clouds_verb([str(room.path), "--out", str(tmp_path / "frames"), "--stride", "2", "--format", ending])
    assert capsys.readouterr().out == f"{tmp_path / 'frames'}: 2 clouds of 1,526 points in all\n"
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [f"episode_000000_frame_{row:06d}.{ending}" for row in (0, 2)]
    clouds_verb([str(room.path), "--out", str(tmp_path / "scenes"), "--together", "--format", ending])
    whole = open_cloud(tmp_path / f"scenes/episode_000000.{ending}").read()
    expected = concatenate([*clouds(room, 0)])
    assert np.allclose(whole.xyz, expected.xyz, rtol=0, atol=0.0006)
    assert np.array_equal(whole.classification, expected.classification)
    assert np.array_equal(whole.colours(), expected.colours())
    assert np.array_equal(whole.attributes["row"], expected.attributes["row"])
    assert whole.class_names == expected.class_names


def test_clouds_of_frames_are_put_together_only_where_poses_are_known(nowhere, tmp_path):
    with pytest.raises(ValueError, match="no x, y, z, yaw"):
        clouds_verb([str(nowhere.path), "--out", str(tmp_path / "out"), "--together"])


def test_floor_and_ceiling_of_a_real_maze_are_level(tmp_path):
    """ViZDoom's own depth and labels, from several places: a wrong pose or focal length would tilt or spread them."""
    pytest.importorskip("vizdoom")
    options = ["--episodes", "1", "--max-steps", "12", "--depth", "--labels", "--out", str(tmp_path / "maze")]
    main(["record", "doom:my_way_home", *options])
    cloud = concatenate([*clouds(Dataset.open(tmp_path / "maze"), 0)])
    heights = cloud.xyz[cloud.classification == list(cloud.class_names.values()).index("Floor or ceiling"), 2]
    off = np.minimum(np.abs(heights), np.abs(heights - 4))  # my_way_home: 128 map units from floor to ceiling, 4 m
    assert len(heights) > 1000
    assert np.quantile(off, 0.9) < 0.3
