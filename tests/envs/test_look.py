"""Scenes that look otherwise."""

import numpy as np
import pytest

from oneiros.envs.look import Appearance, read_look
from oneiros.envs.make import make_env

ENV, COLOUR = "metaworld:drawer-open-v3", "observation.images.corner4"


def test_words_become_a_look():
    assert read_look(()) is None
    assert read_look(("table=1,0,0.5", "shift=0.03,0,-0.01")) == Appearance(table=(1, 0, 0.5), shift=(0.03, 0, -0.01))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tabel=1,0,0", "is no look; write NAME=NUMBERS"),
        ("table=red", "something that is no number"),
        ("table=1,0", "look table has 2 numbers; it needs 3"),
        ("table=2,0,0", "numbers from 0 to 1"),
        ("brightness=-1", "brightness 0 or more"),
        ("shift=nan,0,0", "must be finite"),
        ("light=0,0,0", "it must come from somewhere"),
    ],
)
def test_words_that_are_none_are_one_clear_line(word, message):
    with pytest.raises(ValueError, match=message):
        read_look((word,))


def test_what_draws_itself_has_no_look():
    with pytest.raises(ValueError, match="draws itself"):
        make_env("gym:CartPole-v1", look=Appearance())


def test_each_look_changes_what_it_says_and_nothing_else():
    pytest.importorskip("metaworld")
    shots = {}
    for word in ("", "table=0,0,1", "brightness=0.5", "light=1,0,0.2", "shift=0.05,0,0"):
        env = make_env(
            ENV, height=48, width=48, depth=True, labels=True, camera="ray", look=read_look((word,)[: len(word)])
        )
        observation, _ = env.reset(options={"start": 3})
        shots[word] = [
            observation[name.replace("images", kind)] for kind in ("images", "depth", "labels") for name in [COLOUR]
        ]
        env.close()
    (seen, depth, _), table = shots[""], shots[""][2] == 1
    assert 0.1 < table.mean() < 0.9
    blue = shots["table=0,0,1"]
    changed = (blue[0] != seen).any(-1)
    assert not changed[~table].any()
    assert changed[table].all()
    assert (blue[0][table][:, :2] == 0).all()
    np.testing.assert_allclose(shots["brightness=0.5"][0].astype(int), seen / 2, atol=1)
    for word in ("table=0,0,1", "brightness=0.5", "light=1,0,0.2"):
        np.testing.assert_array_equal(shots[word][1], depth)
    lit = shots["light=1,0,0.2"][0].astype(int)
    assert np.abs(lit - seen).max() > 20
    assert np.abs(shots["shift=0.05,0,0"][1] - depth).mean() > 0.005
