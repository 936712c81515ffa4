"""Guidance: an unconditional branch beside the dream, which comes and goes without a trace."""

import pytest
import torch

from oneiros.sampling import Sampling
from tests.world.worlds import (
    Teacher,
    at,
    context,
    full_logits,
    largest_difference,
    make_world,
    random_actions,
    random_codes,
    state_after,
)

WINDOW, FRAMES = 3, 12  # the longest history is four windows
TOLERANCE = 1e-4


def null_logits(world, codes, *, from_start):
    conditions = world.action_embedding(None, codes.shape[1], len(codes))
    if not from_start:
        conditions = world.action_embedding.null.expand_as(conditions)
    return full_logits(world, codes, None, conditions)


@pytest.mark.parametrize("tokens_per_step", [1, 4, 32])
@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_guidance_switched_on_and_off_midway(kind, tokens_per_step, flushed, monkeypatch):
    """While it is on, the unconditional branch equals a pass with null actions over the window it began with."""
    world = make_world(kind, tokens_per_step=tokens_per_step)
    codes, actions = random_codes(world, 2, FRAMES), random_actions(kind, 2, FRAMES - 1)
    whole = full_logits(world, codes, actions)
    teacher, state, began = Teacher(world, monkeypatch), state_after(world, codes, actions, 2), None
    for frame in range(2, FRAMES):
        guided = frame in (3, 4, 7, 8, 9, 10, 11)
        if flushed:
            state, _ = world.features(state)
        if not guided:
            began = None
        elif began is None:
            began = max(0, frame - WINDOW)
        state, logits, unconditional = teacher.step(
            state, codes[:, frame], at(actions, frame), guidance_scale=2.0 if guided else 1.0
        )
        assert largest_difference(logits, whole[:, frame]) < TOLERANCE
        assert state.guided == guided
        assert len(state.ring.keys[0]) == (4 if guided else 2)
        assert (unconditional is not None) == guided
        if guided:
            expected = null_logits(world, codes[:, began : frame + 1], from_start=began == 0)
            assert largest_difference(unconditional, expected[:, -1]) < TOLERANCE


def test_guided_clones_dream_independently(monkeypatch):
    world = make_world()
    codes, actions = random_codes(world, 2, 8), random_actions("discrete", 2, 7)
    whole = full_logits(world, codes, actions)
    teacher, state = Teacher(world, monkeypatch), state_after(world, codes, actions, 2)
    state, _, _ = teacher.step(state, codes[:, 2], at(actions, 2), guidance_scale=3.0)
    branch = state.clone()
    for frame in range(3, 8):
        teacher.step(state.clone(), 1 + codes[:, frame] % 5, at(actions, frame), guidance_scale=3.0)
        branch, logits, _ = teacher.step(branch, codes[:, frame], at(actions, frame), guidance_scale=3.0)
        assert largest_difference(logits, whole[:, frame]) < TOLERANCE


def test_guidance_follows_the_action_and_needs_actions():
    world = make_world()
    clip = context(world, random_codes(world, 2, 3), random_actions("discrete", 2, 2))
    plain, strong = (
        world.generate(clip, random_actions("discrete", 2, 6), sampling=Sampling(temperature=0.0, guidance_scale=scale))
        for scale in (1.0, 8.0)
    )
    assert not torch.equal(plain.frames, strong.frames)
    unled = make_world(None)
    clip = context(unled, random_codes(unled, 2, 3), None)
    guided, plain = (
        unled.generate(clip, num_frames=4, sampling=Sampling(temperature=0.0, guidance_scale=scale))
        for scale in (8.0, 1.0)
    )
    assert torch.equal(guided.frames, plain.frames)


def test_without_an_action_guidance_has_nothing_to_push(monkeypatch):
    """Both branches are one while no action was ever known."""
    world = make_world()
    codes = random_codes(world, 2, 8)
    teacher, state = Teacher(world, monkeypatch), state_after(world, codes, None, 2)
    for frame in range(2, 8):
        state, logits, unconditional = teacher.step(state, codes[:, frame], None, guidance_scale=2.0)
        assert largest_difference(logits, unconditional) < TOLERANCE
