"""What one player can ask: steps, going back, other futures, the real environment beside, recording."""

import json
import struct
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from oneiros.data.episodes.dataset import Dataset
from oneiros.envs.replay import Replayed
from oneiros.sampling import Sampling
from oneiros.web import messages
from oneiros.web.messages import HEADER, Extras, Reset, Rewind, SetRecording, SetSampling, SetSide, TakeStep
from oneiros.web.model_thread import ModelThread
from oneiros.web.recorder import Recorder
from oneiros.web.session import Session, checked_action
from tests.dot_world import SIZE, SPECS, DotWorld, over, paid, places_of
from tests.web.games import DotEnv, dot_game, real_game

PIXELS = SIZE * SIZE * 3
KEYS = [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]


class Seat:
    """A player in front of a session: numbers requests, opens answers."""

    def __init__(self, game, path, **extras: bool) -> None:
        self.recorder = Recorder(path, game)
        self.session = Session(game, self.recorder, ModelThread(shared=game.dreams))
        self.extras, self.id = Extras(**extras), 0

    def ask(self, request, *values):
        self.id += 1
        answer = self.session.answer(request(self.id, *values))
        if isinstance(answer, str):
            told = json.loads(answer)
            assert told["id"] == self.id
            return told
        assert HEADER.unpack_from(answer)[6] == self.id
        return answer

    def reset(self, start=0, seed=1):
        return frame_of(self.ask(Reset, start, seed, self.extras))

    def step(self, action=KEYS[0]):
        return frame_of(self.ask(TakeStep, action, self.extras))

    def rewind(self, frame):
        return frame_of(self.ask(Rewind, frame, self.extras))

    def play(self, count, first=0):
        return [self.step(KEYS[(first + index) % len(KEYS)]) for index in range(count)]

    def close(self):
        self.session.close()
        self.recorder.close()


def frame_of(answer):
    """(frame number, pixels) of a binary answer."""
    assert isinstance(answer, bytes), answer
    return HEADER.unpack_from(answer)[7], answer[HEADER.size : HEADER.size + PIXELS]


@pytest.fixture
def sit(tmp_path):
    """Players who get up at the end."""
    seats = []

    def take(game=None, **extras):
        seats.append(Seat(game or dot_game(), tmp_path / "played", **extras))
        return seats[-1]

    yield take
    for seat in seats:
        seat.close()


def test_the_dream_obeys_the_keys(sit):
    seat = sit()
    _, before = seat.reset()
    number, after = seat.step([0, 1, 0, 1])
    expected = np.roll(np.frombuffer(before, np.uint8).reshape(SIZE, SIZE, 3), (1, 1), (0, 1))
    assert number == 1
    np.testing.assert_array_equal(np.frombuffer(after, np.uint8).reshape(SIZE, SIZE, 3), expected)


@pytest.mark.parametrize("frame", [0, 5, 16, 33, 100, 139])
def test_going_back_and_doing_the_same_leads_to_the_same(sit, frame):
    """The dot's world is random at this temperature: random numbers must be put back too."""
    seat = sit(dot_game(sampling=Sampling()))
    shown = [seat.reset(), *seat.play(140)]
    assert seat.rewind(frame) == shown[frame]
    assert seat.play(30, first=frame)[: 140 - frame] == shown[frame + 1 : frame + 31]


def test_another_branch_differs_and_the_old_one_is_gone(sit):
    seat = sit()
    seat.reset()
    shown = seat.play(20)
    assert seat.rewind(10) == shown[9]
    assert seat.rewind(20) == shown[19]  # until a step is made, everything can still be seen
    seat.rewind(10)
    assert seat.step([0, 0, 0, 1]) != shown[10]
    assert "frame 20 is not remembered; frames 0 to 11 are" in seat.ask(Rewind, 20, Extras())["error"]


def test_what_was_drawn_boldly_is_replayed_boldly(sit):
    """Sampling may have been changed on the way; a replay follows the values of then, what comes next those of now."""
    seat = sit(dot_game(sampling=Sampling()))
    seat.reset()
    bold = seat.play(40)
    assert seat.ask(SetSampling, {"temperature": 0.0})["sampling"]["temperature"] == 0.0
    seat.rewind(39)
    still = [[0, 0, 0, 0]] * 30
    assert [seat.step(action)[1] for action in still] == [bold[38][1]] * 30
    seat.rewind(38)
    seat.ask(SetSampling, {"temperature": Sampling().temperature})
    assert seat.play(2, first=38) == bold[38:]


def test_sampling_that_does_not_fit_is_refused_and_changes_nothing(sit):
    seat = sit()
    assert "temperature is -1" in seat.ask(SetSampling, {"temperature": -1.0})["error"]
    assert seat.ask(SetSampling, {"guidance_scale": 2.0})["sampling"] == {
        "temperature": 0.0,
        "min_p": 0.1,
        "guidance_scale": 2.0,
    }


def test_nothing_works_before_a_reset(sit):
    seat = sit()
    assert "reset first" in seat.ask(TakeStep, KEYS[0], Extras())["error"]
    assert "not remembered" in seat.ask(Rewind, 0, Extras())["error"]
    assert "start 9 does not exist" in seat.ask(Reset, 9, 1, Extras())["error"]
    with pytest.raises(ValueError, match="nothing was played"):
        seat.session.frames()


def test_the_same_seed_begins_the_same_and_no_seed_another(sit):
    seat = sit(dot_game(sampling=Sampling()))
    seat.reset(seed=3)
    first = seat.play(40)
    seat.reset(seed=3)
    assert seat.play(40) == first
    seat.reset(seed=None)
    assert seat.play(40) != first


@pytest.mark.parametrize(
    ("kind", "action", "taken"),
    [
        ("keys", [1, 0, 0, 1], [True, False, False, True]),
        ("discrete", 3, 3),
        ("continuous", [0.5, -2], [0.5, -2.0]),
        (None, None, 0),
    ],
)
def test_actions_become_the_envs(kind, action, taken):
    np.testing.assert_array_equal(checked_action(action, SPECS[kind] if kind else None), taken)


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        *(("keys", bad) for bad in ([1, 0], [1, 0, 0, 2], [1, 0, 0, "1"], None, 3, {"a": 1}, [[1, 0, 0, 0]])),
        *(("discrete", bad) for bad in (5, -1, 1.5, "left", None, [1, 2])),
        *(("continuous", bad) for bad in ([1], [1, 1e30], [1, None], None)),
    ],
)
def test_what_is_no_action_is_refused(kind, action):
    with pytest.raises(ValueError, match=r"does not fit; it must be .*(left|down)"):
        checked_action(action, SPECS[kind])


def test_the_end_of_an_episode_is_told_and_can_be_undone(sit):
    seat = sit(real_game(length=3))
    seat.reset(start=None)
    seat.play(2)
    answer = seat.ask(TakeStep, KEYS[0], Extras())
    assert answer[5] & messages.OVER
    assert "the episode is over" in seat.ask(TakeStep, KEYS[0], Extras())["error"]
    seat.rewind(1)
    assert seat.step()[0] == 2


def test_a_real_environment_goes_back_by_doing_the_same_again(sit):
    seat = sit(real_game(length=1000))
    shown = [seat.reset(start=None), *seat.play(60)]
    seat.rewind(21)
    assert seat.play(20, first=21) == shown[22:42]
    assert "draws nothing" in seat.ask(SetSampling, {"temperature": 1.0})["error"]
    assert "not at hand" in seat.ask(SetSide, True)["error"]


class TestSideBySide:
    def difference(self, answer):
        return struct.unpack_from("<f", answer, 24)[0]

    def test_both_begin_in_the_same_place_and_obey_the_same_keys(self, sit):
        seat = sit(dot_game(beside=True))
        assert seat.ask(SetSide, True)["side"] is True
        answers = [seat.ask(Reset, None, 5, Extras(side=True))]
        answers += [seat.ask(TakeStep, KEYS[index % 4], Extras(side=True)) for index in range(30)]
        for answer in answers:
            assert answer[5] == messages.SIDE
            assert self.difference(answer) == 0.0
            assert answer[28 : 28 + PIXELS] == answer[28 + PIXELS :]
        frames, _ = seat.session.frames()
        assert frames.shape == (31, SIZE, 2 * SIZE, 3)

    def test_both_go_back_together(self, sit):
        seat = sit(dot_game(beside=True))
        seat.ask(SetSide, True)
        seat.ask(Reset, None, 5, Extras())
        seat.play(40)
        seat.rewind(21)
        assert self.difference(seat.ask(TakeStep, KEYS[2], Extras(side=True))) == 0.0

    def test_the_difference_is_told_while_they_part(self, sit):
        seat = sit(dot_game(beside=True, sampling=Sampling()))
        seat.ask(SetSide, True)
        seat.ask(Reset, None, 5, Extras())
        apart = [self.difference(seat.ask(TakeStep, KEYS[0], Extras(side=True))) for _ in range(60)]
        assert apart[-1] > 0
        assert seat.ask(SetSide, False)["side"] is False
        assert np.isnan(self.difference(seat.ask(Reset, 0, 5, Extras(side=True))))

    def test_after_the_real_episode_its_last_picture_stays(self, sit):
        seat = sit(dot_game(beside=True, length=8))
        seat.ask(SetSide, True)
        seat.ask(Reset, None, 5, Extras())
        answers = [seat.ask(TakeStep, KEYS[0], Extras(side=True)) for _ in range(8)]
        assert [np.isnan(self.difference(answer)) for answer in answers[:4]] == [False] * 4
        assert np.isnan(self.difference(answers[-1]))
        assert answers[-1][5] == messages.SIDE
        assert answers[-1][28 + PIXELS :] == answers[-2][28 + PIXELS :]


class TestRecording:
    def read(self, path):
        dataset = Dataset.open(path)
        return [(dataset.frames(index.index), dataset.actions(index.index)) for index in dataset.episodes]

    def test_what_is_played_becomes_an_episode(self, sit, tmp_path):
        seat = sit()
        seat.reset()
        shown = seat.play(5)
        assert seat.ask(SetRecording, True) == {
            "id": seat.id,
            "ok": True,
            "recording": True,
            "episode": 0,
            "path": str(tmp_path / "played"),
        }
        shown = [shown[-1], *seat.play(6, first=1)]
        told = seat.ask(SetRecording, False)
        assert (told["recording"], told["episode"]) == (False, 1)
        ((frames, actions),) = self.read(tmp_path / "played")
        assert len(frames) == 7
        np.testing.assert_array_equal(np.asarray(actions), [*(KEYS[(1 + i) % 4] for i in range(6)), [0] * 4])
        truth = np.stack([np.frombuffer(pixels, np.uint8).reshape(SIZE, SIZE, 3) for _, pixels in shown])
        assert np.abs(np.asarray(frames).astype(int) - truth).mean() < 12  # H.264 of 16 x 16 pixels

    def test_a_branch_is_recorded_as_it_went_in_the_end(self, sit, tmp_path):
        seat = sit()
        seat.reset()
        seat.ask(SetRecording, True)
        seat.play(8)
        seat.rewind(3)
        seat.step(KEYS[1])
        seat.ask(SetRecording, False)
        ((frames, actions),) = self.read(tmp_path / "played")
        assert len(frames) == 5
        np.testing.assert_array_equal(np.asarray(actions)[3], KEYS[1])

    def test_what_steps_paid_and_the_end_are_recorded_beside_the_actions(self, sit, tmp_path):
        seat = sit(dot_game(world=DotWorld("keys", pays=True)))
        (_, pixels), down = seat.reset(), [0, 0, 0, 1]
        shown = [pixels]
        seat.ask(SetRecording, True)
        while isinstance(answer := seat.ask(TakeStep, down, seat.extras), bytes):
            shown.append(frame_of(answer)[1])
        assert "over" in answer["error"]
        seat.ask(SetRecording, False)
        places = places_of(torch.tensor(np.frombuffer(b"".join(shown), np.uint8)).view(-1, SIZE, SIZE, 3))
        outcomes = Dataset.open(tmp_path / "played").outcomes(0)
        steps = len(shown) - 1
        assert outcomes.valid.tolist() == [True] * steps + [False]
        assert torch.equal(outcomes.reward[:steps], paid(places[:-1]))
        assert torch.equal(outcomes.terminated[:steps], over(places[:-1], torch.tensor([1, 0]).expand(steps, 2)))
        assert bool(outcomes.terminated[steps - 1])
        assert not outcomes.truncated.any()

    def test_an_episode_that_is_only_left_did_not_end(self, sit, tmp_path):
        seat = sit(dot_game(world=DotWorld("keys", pays=True)))
        seat.reset()
        seat.ask(SetRecording, True)
        seat.step([0, 0, 1, 0])
        seat.ask(SetRecording, False)
        outcomes = Dataset.open(tmp_path / "played").outcomes(0)
        assert not (outcomes.terminated | outcomes.truncated).any()

    def test_a_reset_begins_the_next_episode_and_leaving_saves_the_last(self, sit, tmp_path):
        seat = sit()
        seat.reset()
        seat.ask(SetRecording, True)
        seat.play(3)
        seat.reset()
        seat.play(4)
        seat.close()
        assert [len(frames) for frames, _ in self.read(tmp_path / "played")] == [4, 5]

    def test_very_long_recordings_become_several_episodes(self, sit, tmp_path, monkeypatch):
        monkeypatch.setattr("oneiros.web.game.MOST_KEPT", 20)
        seat = sit()
        seat.reset()
        seat.ask(SetRecording, True)
        seat.play(50)
        seat.ask(SetRecording, False)
        episodes = self.read(tmp_path / "played")
        assert [len(frames) for frames, _ in episodes] == [20, 20, 13]
        taken = np.concatenate([np.asarray(actions)[:-1] for _, actions in episodes])
        np.testing.assert_array_equal(taken, [KEYS[index % 4] for index in range(50)])

    def test_two_players_record_into_one_dataset(self, tmp_path):
        game = dot_game()
        recorder = Recorder(tmp_path / "played", game)
        model_thread = ModelThread(shared=True)
        sessions = [Session(game, recorder, model_thread) for _ in range(2)]
        for request in (partial(Reset, 1, 0, 1, Extras()), partial(SetRecording, 2, True)):
            for session in sessions:
                session.answer(request())
        for number in range(3, 6):
            for session in sessions:
                session.answer(TakeStep(number, KEYS[0], Extras()))
        for session in sessions:
            session.close()
        recorder.close()
        assert [len(frames) for frames, _ in self.read(tmp_path / "played")] == [4, 4]

    def test_a_folder_of_something_else_is_refused(self, sit, tmp_path):
        (tmp_path / "played").mkdir()
        (tmp_path / "played" / "thesis.txt").write_text("mine")
        seat = sit()
        seat.reset()
        assert "is no LeRobot dataset but holds thesis.txt" in seat.ask(SetRecording, True)["error"]
        assert seat.step()[0] == 1


class Mortal(Replayed):
    """An environment whose engine dies when it is told to, and comes back with the next reset."""

    dead, deaths = False, 0

    def reset(self, *, seed=None, options=None):
        self.dead = False
        return super().reset(seed=seed, options=options)

    def step(self, action):
        if self.dead:
            self.deaths += 1
            raise OSError("the engine has stopped")
        return super().step(action)


def test_an_engine_that_dies_is_started_anew_where_it_was(sit):
    envs = []

    def make_env():
        envs.append(Mortal(DotEnv(1000)))
        return envs[-1]

    game = replace(real_game(length=1000), make_env=make_env)
    whole, broken = sit(game), sit(game)
    whole.reset()
    broken.reset()
    expected, found = whole.play(40), broken.play(20)
    envs[1].dead = True
    found += broken.play(10, first=20)
    broken.rewind(25)  # and while another frame is shown
    envs[1].dead = True
    found = found[:25] + broken.play(15, first=25)
    assert found == expected
    assert envs[1].deaths == 1


def test_an_engine_that_cannot_be_started_is_refused_and_tried_again(sit):
    env = Mortal(DotEnv(1000))
    player = sit(replace(real_game(length=1000), make_env=lambda: env))
    player.reset()
    player.play(5)
    env.dead, reset = True, env.reset

    def fails(**options):
        raise OSError("no room for an engine")

    env.reset = fails  # type: ignore[method-assign]
    for _ in range(2):
        assert player.ask(TakeStep, KEYS[0], Extras())["error"] == "no room for an engine"
    env.reset = reset  # type: ignore[method-assign]
    assert player.step()[0] == 6
