"""Datasets that Minari itself wrote."""

import json

import numpy as np
import pytest
from gymnasium import spaces

from oneiros.data.episodes.dataset import Dataset
from tests.data.conftest import Counting
from tests.data.episodes.imports.command import run

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")
from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: E402

LENGTHS = (6, 8)  # pictures; an action fewer
SEEN = spaces.Dict(
    {
        "view": spaces.Box(0, 255, (Counting.rgb.height, Counting.rgb.width, 3), np.uint8),
        "arm": spaces.Tuple([spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Discrete(3)]),
    }
)
ARM = spaces.Box(-1, 900, (1, 2), np.float32)


def arm(numbers):
    return np.stack([numbers, numbers / 2], 1)[:, None].astype(np.float32)


def written(monkeypatch, tmp_path, act=arm, space=ARM, **how):
    """Two episodes that count on; the first ends, the second is cut off."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    first, episodes = 0, []
    for place, length in enumerate(LENGTHS):
        numbers = np.arange(first, first + length)
        last = np.arange(length - 1) == length - 2
        position = np.stack([numbers, -numbers], 1).astype(np.float32)
        episodes.append(
            EpisodeBuffer(
                observations={
                    "view": np.stack([*map(Counting.draw, numbers)]),
                    "arm": (position, np.ones(length, int)),
                },
                actions=act(numbers[:-1]),
                rewards=list(numbers[1:] / 2),
                terminations=list(last & (place == 0)),
                truncations=list(last & (place == 1)),
            )
        )
        first += length
    minari.create_dataset_from_buffers(
        "counter/made-v0", episodes, action_space=space, observation_space=SEEN, requirements=[], **how
    )
    return tmp_path / "minari/counter/made-v0"


@pytest.mark.parametrize(
    ("how", "shut"),
    [({}, True), ({"data_format": "arrow"}, True), ({"data_format": "parquet", "jpeg_encoding": False}, False)],
)
@pytest.mark.filterwarnings("ignore")
def test_what_minari_wrote(monkeypatch, tmp_path, how, shut):
    made = written(monkeypatch, tmp_path, **how)
    assert run(made if shut else made / "data", "--out", tmp_path / "data") == 0
    data = Dataset.open(tmp_path / "data", strict=True)
    assert [episode.length for episode in data.episodes] == [*LENGTHS]
    assert [camera.name for camera in data.cameras] == ["observation.images.view"]
    assert (data.action_spec.kind, data.action_spec.high) == ("continuous", (900, 900))
    assert data.state_names == ("arm_0_0", "arm_0_1")
    first = 0
    for episode in data.episodes:
        numbers = list(range(first, first + episode.length))
        assert Counting.numbers(data, episode.index) == numbers
        assert data.states(episode.index)[:, 1].tolist() == [-number for number in numbers]
        assert data.actions(episode.index)[:-1].tolist() == [[number, number / 2] for number in numbers[:-1]]
        outcomes = data.outcomes(episode.index)
        assert outcomes.reward[: len(numbers) - 1].tolist() == [number / 2 for number in numbers[1:]]
        over = outcomes.truncated if episode.index else outcomes.terminated
        assert np.flatnonzero(over[outcomes.valid]).tolist() == [len(numbers) - 2]
        first += episode.length


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("space", "act", "kind", "names", "told"),
    [
        (spaces.Discrete(4, start=2), lambda n: 2 + n % 4, "discrete", "action_0", [0, 1, 2, 3, 0]),
        (
            spaces.MultiBinary(2),
            lambda n: np.stack([n % 2, n < 9], 1).astype(np.int8),
            "keys",
            "key_0",
            [[n % 2, 1] for n in range(5)],
        ),
        (
            spaces.Dict({"jump": spaces.Discrete(2), "turn": spaces.Box(-9, 9, (1,), np.float64)}),
            lambda n: {"jump": n % 2, "turn": n[:, None] / 4},
            "continuous",
            "jump",
            [[n % 2, n / 4] for n in range(5)],
        ),
    ],
)
def test_actions_of_every_kind(monkeypatch, tmp_path, space, act, kind, names, told):
    made = written(monkeypatch, tmp_path, act, space)
    assert run(made, "--out", tmp_path / "data") == 0
    data = Dataset.open(tmp_path / "data", strict=True)
    assert (data.action_spec.kind, data.action_spec.names[0]) == (kind, names)
    assert data.actions(0)[:-1].tolist() == told


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_imported(monkeypatch, tmp_path, capsys):
    made = written(monkeypatch, tmp_path)
    about = made / "data/metadata.json"
    found = json.loads(about.read_text())
    for change, told in (
        ({"observation_space": found["action_space"]}, "its observations hold no pictures"),
        ({"action_space": json.dumps({"type": "Sequence"})}, "a space of kind 'Sequence', which is not read"),
        ({"action_space": json.dumps({"type": "Box"})}, "tells no spaces as Minari writes them"),
        ({"action_space": None}, "tells no spaces as Minari writes them"),
        ({"data_format": "lance"}, "data_format is 'lance'; hdf5, arrow and parquet are read"),
    ):
        about.write_text(json.dumps({**found, **change}))
        assert run(made, "--out", tmp_path / "data") == 2
        told_lines = capsys.readouterr().err.splitlines()
        assert told in told_lines[-1]
        assert len(told_lines) == 1
    about.write_text(json.dumps(found))
    (made / "data/main_data.hdf5").write_bytes(b"no HDF5")
    assert run(made, "--out", tmp_path / "data") == 2
    assert "is no readable HDF5" in capsys.readouterr().err
