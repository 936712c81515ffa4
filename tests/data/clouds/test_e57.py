"""Scans in E57 files that pye57 writes: poses, colours, invalid points, and labels, which go into a LAZ file."""

import builtins

import numpy as np
import pytest

from oneiros.data.clouds.formats import open_cloud, write_cloud, write_labels
from tests.towns import town

pye57 = pytest.importorskip("pye57", reason="pye57 is not installed")
HALF = np.sqrt(0.5)


def scan(count, *, first=0.0, invalid=(), **more):
    along = np.arange(count, dtype=np.float64) + first
    state = np.isin(np.arange(count), invalid).astype("i1")
    return {
        "cartesianX": along,
        "cartesianY": 2 * along,
        "cartesianZ": 0.5 * along,
        "cartesianInvalidState": state,
        **more,
    }


def coloured(count):
    return {name: (np.arange(count) % 256).astype("u1") for name in ("colorRed", "colorGreen", "colorBlue")}


@pytest.fixture
def path(tmp_path):
    """Two scans, the second turned by a quarter about z and shifted, one of its points invalid."""
    path = tmp_path / "scans.e57"
    with pye57.E57(str(path), mode="w") as file:
        file.write_scan_raw(scan(5, intensity=np.linspace(0, 1, 5, dtype="f4"), **coloured(5)))
        file.write_scan_raw(
            scan(4, first=1, invalid=[2], intensity=np.full(4, 0.5, "f4"), **coloured(4)),
            rotation=np.array([HALF, 0, 0, HALF]),
            translation=np.array([100.0, 200.0, 300.0]),
        )
    return path


def test_scans_come_together_as_they_stand(path):
    file = open_cloud(path)
    assert (file.format, file.num_points, file.unit) == ("E57", 8, "metre")
    cloud = file.read()
    assert set(cloud.attributes) == {"intensity", "red", "green", "blue"}
    np.testing.assert_allclose(cloud.xyz[:5], np.arange(5)[:, None] * [1, 2, 0.5], atol=1e-5)
    turned = np.array([1.0, 2, 4])[:, None] * [-2, 1, 0.5] + [100, 200, 300]
    np.testing.assert_allclose(cloud.xyz[5:], turned, atol=1e-4)
    assert cloud.attributes["intensity"].tolist() == [0, 16384, 32768, 49151, 65535, 32768, 32768, 32768]
    assert cloud.attributes["red"].tolist() == [0, 1, 2, 3, 4, 0, 1, 3]


def test_what_one_scan_lacks_is_left_out(tmp_path):
    path = tmp_path / "scans.e57"
    with pye57.E57(str(path), mode="w") as file:
        file.write_scan_raw(scan(3, intensity=np.array([10, 20, 300], "f4")))
        file.write_scan_raw(scan(3))
    assert set(open_cloud(path).read().attributes) == set()


def test_labels_go_into_a_laz(path, tmp_path):
    out = tmp_path / "labelled.laz"
    with pytest.raises(ValueError, match=r"as LAZ, since \.e57 has no place for them: the name must end in \.laz"):
        write_labels(path, tmp_path / "labelled.e57", np.arange(8))
    write_labels(path, out, np.arange(8), probabilities=np.full((8, 2), 0.5), class_names=("a", "b"))
    source, copy = open_cloud(path).read(), open_cloud(out).read()
    np.testing.assert_allclose(copy.xyz, source.xyz, atol=0.0006)
    assert copy.classification.tolist() == list(range(8))
    assert np.array_equal(copy.attributes["intensity"], source.attributes["intensity"])
    assert copy.attributes["entropy"].tolist() == [1] * 8


def test_what_cannot_be_read_or_written_is_one_line(path, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"\.e57 has no place for classes and is not written; write \.laz"):
        write_cloud(tmp_path / "town.e57", town())
    whole = path.read_bytes()
    for spoiled in (b"nothing", whole[:2000], whole[:1024] + bytes(1000) + whole[2024:]):
        path.write_bytes(spoiled)
        with pytest.raises(ValueError, match="cannot be read as E57") as refused:
            open_cloud(path)
        assert "\n" not in str(refused.value)
    plain = builtins.__import__

    def without(name, *more, **named):
        if name == "pye57":
            raise ImportError(name)
        return plain(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match="not installed: pip install pye57"):
        open_cloud(path)
