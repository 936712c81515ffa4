"""What was done is told from what moves: in films of a square that moves as told, whose actions are known."""

import numpy as np
import pytest
import torch

from oneiros.cli import main
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.records import ActionSpec
from oneiros.world.inverse.latent import code_table, learn_codes
from oneiros.world.inverse.model import decide
from oneiros.world.inverse.motion import SIDE, Watched, motion, watch
from oneiros.world.inverse.training import complete, learn
from tests.recorded import RGB, SPEC, XY, draw, record

KEYS = ActionSpec("keys", ("left", "right"))


def run(*arguments) -> int:
    try:
        main(["actions", *map(str, arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def seen(path, *, actions=True):
    data = Dataset.open(path)
    return [watch(data, data.camera(), episode.index, actions=actions) for episode in data.episodes]


@pytest.mark.parametrize("spec", [KEYS, XY], ids=lambda spec: spec.kind)
def test_an_inverse_model_tells_what_moved_the_square(tmp_path, spec):
    episodes = seen(record(tmp_path / "data", spec=spec, num_episodes=12))
    spec = Dataset.open(tmp_path / "data").action_spec
    inverse = learn(episodes[:10], spec, steps=60 if spec.kind == "keys" else 150)
    name = {"keys": "f1", "continuous": "r2"}[spec.kind]
    assert inverse.scores[name] > 0.7 > 0.5 > inverse.constant[name]
    for episode in episodes[10:]:
        told, sure = inverse.tell(episode)
        assert told.shape == tuple(episode.actions.shape)
        assert sure.shape == (len(told),)
        error = np.abs(told[:-1].astype(float) - episode.actions[:-1].numpy())
        assert (error < 0.5).mean() > 0.85
        assert sure.mean() > 0.3


def test_motion_is_where_a_thing_went():
    frames = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    frames[0, 24:40, 20:36], frames[1, 24:40, 28:44] = 255, 255  # 8 to the right: 4 of half the size
    odds = motion(frames).float().view(5, 17, 8)  # down, across, cells
    assert odds.sum((0, 1)).allclose(torch.ones(8), atol=1e-2)
    down, across = divmod(int(odds[:, :, 1].argmax()), 17)  # of the cell that it covers most
    assert (down - 2, across - 8) == (0, 4)


def test_what_was_recorded_stays():
    own, recorded = np.array([5, 6, 7, 8]), np.array([True, False, False, True])
    told = np.array([1, 2, 3, 4]), np.array([0.9, 0.9, 0.2, 0.9], np.float32)
    actions, sure = complete(own, recorded, told, least_sure=0.5)
    assert actions.tolist() == [5, 2, 0, 8]
    assert sure.tolist() == pytest.approx([1, 0.9, 0, 1])
    actions, sure = complete(own, recorded, None)
    assert (actions.tolist(), sure.tolist()) == ([5, 0, 0, 8], [1, 0, 0, 1])


def test_confidence_is_the_odds_of_being_right():
    action, sure = decide([torch.tensor([[0.9, 0.2]]), torch.tensor([[0.7, 0.4]])], KEYS)
    assert action.tolist() == [[True, False]]
    assert sure.item() == pytest.approx(0.8 * 0.7)
    spec = ActionSpec("continuous", ("x", "y"), mean=(1.0, 5.0), std=(2.0, 0.0))
    action, sure = decide([torch.tensor([[0.5, 0.0, 0.25, 1.0]])], spec)
    assert action.tolist() == [[2.0, 5.0]]
    assert sure.item() == pytest.approx(0.75)


def test_the_command_writes_a_dataset_that_says_what_is_recorded(tmp_path, capsys):
    record(tmp_path / "data", num_episodes=10)
    before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert run(tmp_path / "data", "--labelled", "0-6,8", "--steps", "60", "--out", tmp_path / "told") == 0
    out = capsys.readouterr().out
    assert "8 of 10 episodes as they were recorded" in out
    assert before == {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    old, new = Dataset.open(tmp_path / "data"), Dataset.open(tmp_path / "told", strict=True)
    assert new.action_spec == old.action_spec
    for episode in new.episodes:
        assert (new.frames(episode.index) == old.frames(episode.index)).all()
        sure, same = new.confidence(episode.index), new.actions(episode.index) == old.actions(episode.index)
        recorded = episode.index not in (7, 9)
        assert (sure == 1).all() if recorded else ((sure > 0) & (sure < 1)).all()
        assert same.all() if recorded else same[:-1].mean() > 0.75
    main(["inspect", str(tmp_path / "told"), "--json", "--fast"])
    assert '"recorded": 0.8' in capsys.readouterr().out
    assert run(tmp_path / "told", "--out", tmp_path / "data") == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--out", "new"], "every action is recorded"),
        ([], "the new dataset needs a place"),
        (["--labelled", "3", "--out", "new"], "too few"),
        (["--labelled", "x", "--out", "new"], "write numbers of episodes"),
        (["--labelled", "77", "--out", "new"], "has no episode 77; it has 0 to 5"),
        (["--latent", "1", "--out", "new"], "there may be 2 to 64 codes"),
        (["--map", "data"], "each of 6 episodes mapped by the others"),
    ],
)
def test_bad_input_gets_one_line(recording, tmp_path, monkeypatch, capsys, options, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(recording)
    code = run("data", *options)
    out, err = capsys.readouterr()
    assert told in out + err
    assert code == (0 if "--map" in options else 2)
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return record(tmp_path_factory.mktemp("inverse") / "data")


def turning(random: np.random.Generator, length: int) -> Watched:
    """A camera that turns by 6 pixels to the left, not at all, or to the right."""
    wall = random.integers(0, 255, (1, 16, 64, 3), np.uint8).repeat(4, 1).repeat(4, 2).repeat(SIDE // 4, 0)
    wall = wall.reshape(SIDE, -1, 3)
    moves = random.integers(3, size=length - 1)
    places = np.cumsum([0, *(6 * (moves - 1))])
    frames = np.stack([np.roll(wall, -place, axis=1)[:, :SIDE] for place in places])
    return Watched(0, motion(frames), torch.from_numpy(moves))


def test_codes_of_films_without_actions_are_what_was_done():
    pytest.importorskip("vector_quantize_pytorch")
    random = np.random.default_rng(0)
    episodes = [turning(random, 40) for _ in range(8)]
    model, (told, shuffled) = learn_codes(episodes, 4, steps=120)
    assert told > shuffled + 0.2
    codes, labels = zip(*((model.codes(each.motion).numpy(), each.actions.numpy()) for each in episodes), strict=True)
    counts, right, usual = code_table(codes, labels, num_codes=4, num_labels=3)
    assert counts.sum() == 8 * 39
    assert right > 0.9 > 0.6 > usual


def test_the_command_writes_codes_as_actions_and_says_what_they_stand_for(recording, tmp_path, capsys):
    pytest.importorskip("vector_quantize_pytorch")
    assert run(recording, "--latent", "4", "--steps", "20", "--out", tmp_path / "coded") == 0
    assert "of 4 codes are used" in capsys.readouterr().out
    coded = Dataset.open(tmp_path / "coded", strict=True)
    assert coded.action_spec == ActionSpec("discrete", ("1", "2", "3", "4"))
    assert (coded.frames(2) == Dataset.open(recording).frames(2)).all()
    assert (coded.confidence(2) == 1).all()
    assert run(tmp_path / "coded", "--map", recording, "--labelled", "0-3") == 0
    assert "each of 4 episodes mapped by the others" in capsys.readouterr().out


def test_codes_are_judged_by_episodes_that_did_not_map_them():
    codes = [np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])]
    labels = [np.array([2, 2, 0, 0]), np.array([2, 0, 0, 2])]
    counts, right, usual = code_table(codes, labels, num_codes=3, num_labels=3)
    assert counts.tolist() == [[0, 0, 3], [2 + 2, 0, 1], [0, 0, 0]]
    assert right == 7 / 8
    assert usual == (2 + 2) / 8
    with pytest.raises(ValueError, match="too few"):
        code_table(codes[:1], labels[:1], num_codes=3, num_labels=3)


def test_a_row_may_have_no_action(tmp_path):
    with DatasetWriter(tmp_path, fps=10, cameras=[RGB], action_spec=SPEC, confidence=True) as writer:
        with writer.episode(task="") as episode:
            for row in range(4):
                unknown = row % 2
                images = draw(row, (RGB,))
                episode.add(images=images, action=None if unknown else 2, confidence=0.0 if unknown else 1.0)
        with writer.episode(task="") as episode:
            episode.add(images=draw(0, (RGB,)), action=1)
            episode.add(images=draw(0, (RGB,)))
            with pytest.raises(ValueError, match="the episode ended there"):
                episode.add(images=draw(0, (RGB,)))
    data = Dataset.open(tmp_path)
    assert data.actions(0).tolist() == [2, 0, 2, 0]
    assert data.confidence(0).tolist() == [1, 0, 1, 0]
    assert data.confidence(1).tolist() == [1, 1]
