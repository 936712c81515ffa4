"""Archives of numpy laid out as DreamerV3's and CALVIN's."""

import numpy as np
import pytest

from oneiros.data.episodes.dataset import Dataset
from tests.data.conftest import Counting
from tests.data.episodes.imports.command import run


def drawn(numbers) -> np.ndarray:
    return np.stack([Counting.draw(number) for number in numbers])


def check(path, lengths) -> Dataset:
    data = Dataset.open(path, strict=True)
    assert [episode.length for episode in data.episodes] == lengths
    for episode in data.episodes:
        done = data.actions(episode.index)
        numbers = Counting.numbers(data, episode.index)
        assert (done if done.ndim == 1 else done[:, 0]).tolist() == [
            number % 3 if done.ndim == 1 else number for number in numbers
        ]
    return data


@pytest.mark.parametrize("choices", [True, False])
def test_dreamer(tmp_path, choices):
    folder = tmp_path / "replay"
    folder.mkdir()
    for name, rows, firsts in (("a", range(8), (0, 5)), ("b", range(8, 12), (0,))):
        numbers = np.array(rows)
        action = np.eye(3, dtype=np.float32)[numbers % 3] if choices else np.stack([numbers, numbers / 2], 1)
        first = np.isin(np.arange(len(numbers)), firsts)
        np.savez_compressed(folder / f"{name}.npz", image=drawn(rows), action=action, is_first=first)
    (folder / "c.npz").write_bytes(b"no archive")
    assert run(folder, "--out", tmp_path / "data") == 0
    assert check(tmp_path / "data", [5, 3, 4]).action_spec.kind == ("discrete" if choices else "continuous")


@pytest.mark.parametrize("listed", [True, False])
def test_calvin(tmp_path, listed, capsys):
    folder = tmp_path / "training"
    folder.mkdir()
    for number in (*range(5), *range(8, 12)):
        values = {"rel_actions": np.array([number, 0.5]), "robot_obs": np.array([number, 1.0, 2.0])}
        np.savez(folder / f"episode_{number:07d}.npz", rgb_static=Counting.draw(number), **values)
    if listed:
        np.save(folder / "ep_start_end_ids.npy", np.array([[0, 4], [8, 11], [11, 13]]))
    assert run(folder, "--out", tmp_path / "data") == 0
    data = check(tmp_path / "data", [5, 4])
    assert (data.fps, data.states(1)[:, 0].tolist()) == (30, [8, 9, 10, 11])
    assert ("episode_0000012.npz is missing" in capsys.readouterr().err) == listed


def test_other_archives_and_lance_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", pictures=np.zeros(3))
    assert run(tmp_path / "x.npz", "--out", tmp_path / "data") == 2
    assert "x.npz: holds pictures; neither image, action and is_first (DreamerV3)" in capsys.readouterr().err
    np.savez(tmp_path / "y.npz", image=np.array([{}]), action=np.zeros(1), is_first=np.ones(1))
    assert run(tmp_path / "y.npz", "--out", tmp_path / "data") == 2
    assert "Object arrays cannot be loaded" in capsys.readouterr().err
    (tmp_path / "set" / "frames.lance").mkdir(parents=True)
    assert run(tmp_path / "set", "--out", tmp_path / "data") == 2
    assert "is kept in Lance, which is not read here; write each table as parquet" in capsys.readouterr().err
