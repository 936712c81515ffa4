"""From the codes of a dream to its frames, step by step as over the whole video."""

from dataclasses import replace

import pytest
import torch

from oneiros.sampling import Sampling
from oneiros.world.nn.detail import Detail
from tests.world.worlds import (
    at,
    code_clip,
    context,
    make_tokenizer,
    make_world,
    random_actions,
    random_codes,
    state_after,
)

FRAMES = 12
GREEDY = Sampling(temperature=0.0)


@pytest.mark.parametrize("window", [2, 3, 8])
@pytest.mark.parametrize("first", [1, 2, 7])
def test_temporal_convolutions_decode_in_a_rollout_as_over_the_whole_video(window, first):
    """The kernel reaches four latents back, further than a short window."""
    world = make_world(tokenizer=make_tokenizer(temporal_convs=True), window=window)
    codes, actions = random_codes(world, 2, FRAMES), random_actions("discrete", 2, FRAMES - 1)
    clip = code_clip(world, "discrete", 2, first)
    state, history = world._init_codes(clip), clip.codes
    for frame in range(first, FRAMES):
        ahead, drawn = world.step_codes(state.clone(), at(actions, frame), sampling=GREEDY)
        assert ahead.time == frame
        state, seen = world.step(state, at(actions, frame), sampling=GREEDY)
        history = torch.cat([history, drawn[:, None]], 1)
        torch.testing.assert_close(seen, world.tokenizer.decode(history)[:, -1], atol=1e-5, rtol=0)
    assert codes.shape[1] == FRAMES


def test_codes_given_and_taken_are_in_raster_order():
    world = make_world(tokens_per_step=4)
    state = state_after(world, random_codes(world, 2, 3), None, 3)
    ahead, codes = world.step_codes(state.clone(), None, sampling=GREEDY)
    _, frame = world.step(state, None, sampling=GREEDY)
    assert torch.equal(world.tokenizer.encode(frame[:, None])[:, 0], codes)
    assert torch.equal(ahead.codes[:, -1], codes)


def test_carried_detail_sharpens_frames_and_changes_no_code():
    plain, detailed = (make_world("keys", carry_detail=scale) for scale in (0.0, 0.5))
    clip = context(plain, random_codes(plain, 2, 3), random_actions("keys", 2, 2))
    clip = replace(clip, frames=(clip.frames + 0.1).clamp(-1, 1))
    action = random_actions("keys", 2, 1)[:, 0]
    one, other = (world.init(clip) for world in (plain, detailed))
    for _ in range(2):
        one, blurred = plain.step(one, action, sampling=GREEDY)
        branch = other.clone()
        other, sharp = detailed.step(other, action, sampling=GREEDY)
        assert torch.equal(one.codes, other.codes)
        assert torch.equal(sharp, detailed.step(branch, action, sampling=GREEDY)[1])
        decoded = detailed.tokenizer.decode(detailed.tokenizer.encode(clip.frames[:, -1:]))
        expected = Detail.of(clip.frames[:, -1:], decoded).added_to(blurred[:, None], 0.5)[:, 0]
        torch.testing.assert_close(sharp, expected)
        assert not torch.equal(sharp, blurred)
