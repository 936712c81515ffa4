"""A world learns from several datasets at once, of which some are films without actions."""

import numpy as np
import pytest
import torch

from oneiros.data.episodes.clips import Clips, EpisodeArrays
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import FrameSource, joined
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.envs.explore import StickyRandom
from oneiros.envs.make import make_env
from oneiros.envs.record import record_episode
from oneiros.loading import load
from oneiros.records import ActionSpec, Outcomes
from oneiros.run_folder import read_origin
from oneiros.train.log import read_metrics
from oneiros.world.recorded import held_out_episodes
from oneiros.world.training import world
from tests.envs import echo_env  # noqa: F401 - registers
from tests.recorded import RGB, SIZE, SPEC, draw, world_settings


def record_films(path, *, fps=10, episodes=3, length=12, spec=SPEC, act=False):
    """Episodes of `tests.recorded` without their actions."""
    with DatasetWriter(path, fps=fps, cameras=(RGB,), action_spec=spec, confidence=spec is not None) as writer:
        for number in range(episodes):
            with writer.episode(task="move") as episode:
                for row in range(length):
                    done = {"action": 1} if act else {"action": None, "confidence": 0.0}
                    done = done if spec is not None else {}
                    episode.add(images=draw((number * 5 + 4 * row) % SIZE, (RGB,)), **done)
    return path


def test_recording_without_actions_keeps_all_but_them(tmp_path):
    env = make_env("gym:EchoBox-v0")
    for name, without in (("films", True), ("played", False)):
        with DatasetWriter.of(env, tmp_path / name, confidence=without) as writer:
            record_episode(env, writer, StickyRandom, seed=3, max_steps=9, task="t", without_actions=without)
    films, played = (Dataset.open(tmp_path / name) for name in ("films", "played"))
    np.testing.assert_array_equal(films.frames(0), played.frames(0))
    np.testing.assert_array_equal(films.states(0), played.states(0))
    assert not films.actions(0).any()
    assert played.actions(0).any()
    assert not films.confidence(0).any()
    assert played.confidence(0) is None


def test_what_has_actions_may_follow_films_and_alone_says_how_they_are_spread(tmp_path):
    env = make_env("gym:EchoBox-v0")
    for without in (True, False):
        with DatasetWriter.of(env, tmp_path / "both", confidence=without) as writer:
            record_episode(env, writer, StickyRandom, seed=3, max_steps=9, task="t", without_actions=without)
    data = Dataset.open(tmp_path / "both")
    assert [data.confidence(episode).all() for episode in (0, 1)] == [False, True]
    mean, std = data.action_spec.statistics
    np.testing.assert_allclose(mean, data.actions(1).mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, data.actions(1).std(0), rtol=1e-5)

    with DatasetWriter.of(env, tmp_path / "played") as writer:
        record_episode(env, writer, StickyRandom, seed=3, max_steps=9, task="t")
    with pytest.raises(ValueError, match="was begun with actions in every row; record films without them into a fold"):
        DatasetWriter.of(env, tmp_path / "played", confidence=True)


def test_colour_recorded_without_loss_is_what_was_seen(tmp_path):
    random = np.random.default_rng(0)
    seen = random.integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)
    env = make_env("gym:EchoBox-v0", height=SIZE, width=SIZE)
    (camera,) = env.cameras
    with DatasetWriter.of(env, tmp_path, lossless=True) as writer:
        for episodes in (seen[:2], seen[2:]):
            with writer.episode(task="t") as episode:
                for frame in episodes:
                    episode.add(images={camera.name: frame}, action=np.zeros(4), state=np.zeros(len(env.state_names)))
    data = Dataset.open(tmp_path)
    assert data.cameras[0].lossless
    np.testing.assert_array_equal(np.concatenate([data.frames(0), data.frames(1)]), seen)
    with pytest.raises(ValueError, match="was recorded with lossless True; this recording has lossless False"):
        DatasetWriter.of(env, tmp_path)


@pytest.mark.parametrize("spec", [SPEC, None])
def test_a_world_learns_from_demonstrations_and_films(spec, recording, tokenizer_run, tmp_path):
    films = record_films(tmp_path / "films", spec=spec)
    settings = {"data": recording, "further": (films,), "tokenizer": tokenizer_run, "steps": 4, "save_every": 2}
    world.run(world_settings(tmp_path / "run", **settings))
    origin, alone = read_origin(tmp_path / "run"), Dataset.open(films)
    assert origin.path == str(recording)
    assert [each.path for each in origin.further] == [str(films)]
    assert origin.of(alone.fingerprint()) == origin.further[0]
    assert origin.of("another") is None
    assert held_out_episodes(tmp_path / "run", alone) == (2,)
    assert held_out_episodes(tmp_path / "run", Dataset.open(recording)) == (5,)
    assert load(tmp_path / "run").config.action_spec.names == SPEC.names
    world.run(world_settings(tmp_path / "run", **{**settings, "steps": 6, "resume": True}))
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")][-1] == 6
    assert read_origin(tmp_path / "run") == origin
    third = record_films(tmp_path / "third", episodes=2)
    again = {**settings, "further": (films, third), "steps": 8, "resume": True}
    with pytest.raises(ValueError, match="began with 2 of the datasets named, not with this; leave it out"):
        world.run(world_settings(tmp_path / "run", **again))


def test_films_show_every_clip_with_the_null_action_and_all_are_drawn(recording, tmp_path):
    films = record_films(tmp_path / "films", spec=None)
    parts = [FrameSource(Dataset.open(path), (SIZE, SIZE), False, None, tmp_path) for path in (recording, films)]
    both = joined([part.episodes() for part in parts])
    clips = both.clips(length=4)
    batch = clips.batch(range(len(clips)))
    of_films = ~batch.known.any(1)
    assert of_films.sum() == 2 * (12 - 3)  # two films of three are learned from
    assert batch.known[~of_films].all()
    assert not batch.actions[of_films].any()


def test_clips_without_outcomes_lie_beside_others():
    paid = Outcomes(torch.ones(5), None, None, torch.ones(5, dtype=torch.bool))
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    clips = Clips([EpisodeArrays(frames, None, "", 0, paid), EpisodeArrays(frames, None, "", 1)], None, length=5)
    outcomes = clips.batch([0, 1]).outcomes
    assert outcomes.valid.tolist() == [[True] * 4, [False] * 4]
    assert clips.batch([1]).outcomes is None


def test_what_does_not_go_together_is_one_clear_line(recording, tokenizer_run, tmp_path):
    films = record_films(tmp_path / "films")
    faster = record_films(tmp_path / "faster", fps=20)
    other = record_films(tmp_path / "other", spec=ActionSpec("discrete", ("up", "stay", "down")))

    def run(*data, **options):
        first, *further = data
        world.run(
            world_settings(tmp_path / "run", data=first, further=tuple(further), tokenizer=tokenizer_run, **options)
        )

    with pytest.raises(ValueError, match=r"faster runs at 20 steps a second; .* learned from 10"):
        run(recording, faster)
    with pytest.raises(ValueError, match=r"other has discrete actions \(up, stay, down\)"):
        run(recording, other)
    with pytest.raises(ValueError, match=r"films has no action that is known; name .*squares, which has some, before"):
        run(films, recording)
    with pytest.raises(ValueError, match="named twice"):
        run(recording, recording)
    with pytest.raises(ValueError, match="--recent is of one dataset"):
        run(recording, films, recent=0.5)
    assert not (tmp_path / "run" / "state.pt").exists()
