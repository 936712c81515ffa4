"""Where actions are unknown a world learns from the null action, and of nothing else; what acts, learns only from
episodes whose actions are all known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from oneiros.data.episodes.clips import Clips, EpisodeArrays, fully_known
from oneiros.data.episodes.dataset import Dataset
from oneiros.loading import load
from oneiros.policy.training.moments import acted
from oneiros.world.codes import read_codes
from oneiros.world.inverse.rewrite import write_with_actions
from oneiros.world.recorded import load_clips
from oneiros.world.training import world
from tests.recorded import SPEC, record, world_settings
from tests.world.worlds import close, code_clip, make_world


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_an_unknown_action_is_the_null_action(kind):
    model = make_world(kind)
    whole = code_clip(model, kind)
    nothing = replace(whole, known=torch.zeros(2, 4, dtype=torch.bool))
    losses = [model(clip) for clip in (replace(whole, actions=None), nothing)]
    assert torch.equal(losses[0].parts["world/state"], losses[1].parts["world/state"])
    assert losses[1].parts["world/action"] == 0
    close(model(whole), model(replace(whole, known=torch.ones(2, 4, dtype=torch.bool))))

    known = torch.tensor([[True, False, True, True], [False, True, True, False]])
    partly = replace(whole, known=known)
    other = whole.actions.clone()
    other[~known] = 0
    close(model(partly), model(replace(partly, actions=other)))  # what fills the rows is never looked at
    other = whole.actions.clone()
    other[0, 2] = other[0, 2] == 0
    assert model(partly).total != model(replace(partly, actions=other)).total


def test_a_step_of_several_rows_is_known_where_all_of_them_are():
    frames, actions = np.zeros((7, 8, 8, 3), np.uint8), np.arange(7) % 3
    known = np.array([True, True, True, False, True, True, True])
    clips = Clips([EpisodeArrays(frames, actions, "", 0, known=known)], SPEC, length=4, stride=2)
    assert clips.batch([0]).known.tolist() == [[True, False, True]]
    whole = Clips([EpisodeArrays(frames, actions, "", 0)], SPEC, length=4, stride=2)
    assert whole.batch([0]).known is None


def test_what_is_measured_has_actions_or_none():
    frames, actions = np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64)
    none, all_but_last = np.zeros(4, bool), np.array([True, True, True, False])
    known, unknown = (
        EpisodeArrays(frames, actions, "", 0, known=all_but_last),
        EpisodeArrays(frames, actions, "", 1, known=none),
    )
    assert [each.index for each in fully_known([unknown, known])] == [0]
    assert fully_known([unknown])[0].actions is None
    assert Clips(fully_known([unknown]), SPEC, length=2).batch([0]).actions is None
    assert [each.index for each in acted([unknown, known])] == [0]
    with pytest.raises(ValueError, match="no episode says all that was done in it"):
        acted([unknown])


def test_a_dataset_whose_actions_are_mostly_missing_trains_and_plays(tokenizer_run, tmp_path):
    record(tmp_path / "data")
    data = Dataset.open(tmp_path / "data")
    length = data.episodes[0].length
    done = {
        each.index: (data.actions(each.index), np.full(length, each.index == 0, np.float32)) for each in data.episodes
    }
    write_with_actions(data, tmp_path / "partly", SPEC, done)
    partly, cache = Dataset.open(tmp_path / "partly", strict=True), tmp_path / "cache"
    assert partly.fingerprint() != data.fingerprint()
    run = tmp_path / "run"
    world.run(world_settings(run, data=partly.path, tokenizer=tokenizer_run, steps=2, cache=cache))
    model = load(run)
    assert model.config.action_spec == SPEC
    (folder,) = cache.glob("codes-*")
    episodes = read_codes(folder, model.tokenizer)
    assert [each.all_known for each in (*episodes.train, *episodes.held_out)] == [True] + 5 * [False]
    clips = load_clips(model, run, partly, [4, 5], length=4)
    assert clips.batch([0]).actions is None
    assert load_clips(model, run, partly, [0, 5], length=4).batch([0]).actions is not None
    world.run(world_settings(tmp_path / "again", codes=folder, steps=1))
