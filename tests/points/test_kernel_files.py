"""Kernel points come back from files, and bad files are named."""

import numpy as np
import pytest
import torch

from oneiros.points.kernel_files import load_kernel_points
from oneiros.points.nn.kernel_points import fibonacci

SHELLS = (0, 0.5, 1.0), (1, 7, 13)


def write_ply(path, points):
    plyfile = pytest.importorskip("plyfile")
    vertex = np.array([tuple(point) for point in points.tolist()], dtype=[("x", "f8"), ("y", "f8"), ("z", "f8")])
    plyfile.PlyData([plyfile.PlyElement.describe(vertex, "vertex")]).write(str(path))


WRITERS = {
    ".npy": lambda path, points: np.save(path, points.numpy()),
    ".csv": lambda path, points: np.savetxt(path, points.numpy(), delimiter=",", header="x,y,z", fmt="%.17g"),
    ".ply": write_ply,
}


@pytest.mark.parametrize("ending", WRITERS)
def test_points_come_back_from_a_file(tmp_path, ending):
    points = fibonacci(*SHELLS)
    WRITERS[ending](tmp_path / f"q{ending}", points)
    assert torch.equal(load_kernel_points(tmp_path / f"q{ending}"), points)


HUGE = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 3)}".ljust(118)
AXES = b"property float x\nproperty float y\nproperty float z\nend_header\n1 2 3\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("q.txt", b"0,0,0", "not from '.txt'"),
        ("q.csv", b"0,0,here", "cannot be read"),
        ("q.csv", b"# nothing\n", "shape"),
        ("q.csv", b"0,0,0\n1,nan,0\n", "kernel point 1"),
        ("q.npy", b"not an array", "cannot be read"),
        ("q.ply", b"not a cloud", "cannot be read"),
        ("q.npy", HUGE, "cannot be read"),
        ("q.ply", b"ply\nformat ascii 1.0\nelement vertex 99999999999\n" + AXES, "cannot be read"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        load_kernel_points(tmp_path / name)
    assert name in str(error.value)


def test_arrays_of_objects_are_not_executed(tmp_path):
    np.save(tmp_path / "q.npy", np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        load_kernel_points(tmp_path / "q.npy")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"gone\.npy"):
        load_kernel_points(tmp_path / "gone.npy")
