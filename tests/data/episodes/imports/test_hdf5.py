"""HDF5 written by h5py as robomimic and ALOHA lay it out."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from oneiros.data.episodes.dataset import Dataset
from tests.data.conftest import Counting
from tests.data.episodes.imports.command import run

h5py = pytest.importorskip("h5py")


def drawn(numbers) -> np.ndarray:
    return np.stack([Counting.draw(number) for number in numbers])


def check(path, *, fps, names) -> Dataset:
    data = Dataset.open(path, strict=True)
    assert (data.fps, data.action_spec.names) == (fps, names)
    for episode in data.episodes:
        assert data.actions(episode.index)[:, 0].tolist() == Counting.numbers(data, episode.index)
    return data


def test_robomimic(tmp_path):
    with h5py.File(tmp_path / "low.hdf5", "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "env_kwargs": {"control_freq": 15}}
        )
        for number, rows in (("2", range(7, 12)), ("10", range(12, 19)), ("0", range(7))):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = np.stack([[n, n / 2, -n] for n in rows]).astype(float)
            demo["obs/agentview_image"] = drawn(rows)
            demo["obs/robot0_eef_pos"] = np.stack([[n, 0.5] for n in rows]).astype(float)
    assert run(tmp_path / "low.hdf5", "--out", tmp_path / "data") == 0
    data = check(tmp_path / "data", fps=15, names=("action_0", "action_1", "action_2"))
    assert [episode.length for episode in data.episodes] == [7, 5, 7]
    assert data.episodes[0].task == "Lift"
    assert data.state_names == ("robot0_eef_pos_0", "robot0_eef_pos_1")
    assert [camera.name for camera in data.cameras] == ["observation.images.agentview_image"]


@pytest.mark.parametrize("jpeg", [False, True])
def test_aloha(tmp_path, jpeg, capsys):
    folder = tmp_path / "episodes"
    folder.mkdir()
    for number in range(3):
        rows = range(6 * number, 6 * number + 6)
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            file["action"] = np.stack([[n, 0.0] for n in rows]).astype(np.float32)
            file["observations/qpos"] = np.zeros((6, 2), np.float32)
            images = drawn(rows)
            if jpeg:
                packed = []
                for image in images:
                    content = io.BytesIO()
                    Image.fromarray(image).save(content, "JPEG", quality=95)
                    packed.append(np.frombuffer(content.getvalue(), np.uint8))
                longest = max(map(len, packed))
                images = np.stack([np.pad(each, (0, longest - len(each))) for each in packed])
            file["observations/images/top"] = images
    (folder / "episode_9.hdf5").write_bytes(b"nothing")
    assert run(folder, "--out", tmp_path / "data", "--task", "fold") == 0
    assert "left out: episode_9.hdf5" in capsys.readouterr().err
    data = check(tmp_path / "data", fps=50, names=("action_0", "action_1"))
    assert {episode.task for episode in data.episodes} == {"fold"}
    assert data.state_names == ("qpos_0", "qpos_1")


@pytest.mark.parametrize("way", ["link", "raw", "virtual"])
def test_other_files_are_not_read(tmp_path, capsys, way):
    (tmp_path / "secret").write_bytes(bytes(10_000))
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["action"] = np.zeros((4, 2), np.float32)
    with h5py.File(tmp_path / "bad.hdf5", "w") as file:
        if way == "link":
            file["action"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/action")
        elif way == "raw":
            file.create_dataset("action", (4, 2), np.float32, external=[(str(tmp_path / "secret"), 0, 32)])
        else:
            layout = h5py.VirtualLayout((4, 2), np.float32)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "action", (4, 2))
            file.create_virtual_dataset("action", layout)
        file["observations/qpos"] = np.zeros((4, 2), np.float32)
        file["observations/images/top"] = drawn(range(4))
    assert run(tmp_path / "bad.hdf5", "--out", tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "put a copy in its place" in err
    assert not (tmp_path / "data").exists()
