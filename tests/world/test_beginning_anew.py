"""Dreams of a batch that begin one by one, and states that watch what happens instead of dreaming it."""

import pytest
import torch

from oneiros.world.state import WorldState
from tests.world.worlds import (
    Teacher,
    at,
    full_logits,
    largest_difference,
    make_world,
    random_actions,
    random_codes,
    state_after,
)

FRAMES, TOLERANCE = 12, 1e-4


@pytest.fixture(params=["plain", "compiled"])
def world(request):
    world = make_world()
    if request.param == "compiled":
        world.dynamics.compile_for_cpu()
    return world


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("first", [1, 2, 4])
def test_a_dream_in_anothers_place_remembers_its_own_beginning_alone(world, first, flushed, monkeypatch):
    """Begun from fewer frames than the window, too: it must not see what the one before it left in the ring."""
    codes, actions = random_codes(world, 2, FRAMES), random_actions("discrete", 2, FRAMES - 1)
    other, its_actions = random_codes(world, 1, first + 6, seed=1), random_actions("discrete", 1, first + 5, seed=1)
    teacher, state = Teacher(world, monkeypatch), state_after(world, codes, actions, 2)
    for frame in range(2, 6):
        state, _, _ = teacher.step(state, codes[:, frame], at(actions, frame))
    if flushed:
        state, _ = world.features(state)
    conditions = world.action_embedding(its_actions[:, : first - 1], first, 1)
    with torch.no_grad():
        begun = WorldState.after(world.dynamics, other[:, :first], conditions, lookback=first, time=state.time)
    begun = begun.flushed() if flushed else begun
    kept = begun.codes[:, :1].expand(-1, state.codes.shape[1], -1)
    state = state.replaced(torch.tensor([1]), WorldState(**{**vars(begun), "codes": kept}))

    own, its = full_logits(world, codes[:1], actions[:1]), full_logits(world, other, its_actions)
    for step in range(6):
        now, then = 6 + step, first + step
        forced = torch.cat([codes[:1, now], other[:, then]])
        led = torch.cat([actions[:1, now - 1], its_actions[:, then - 1]])
        state, logits, _ = teacher.step(state, forced, led)
        assert largest_difference(logits[:1], own[:, now]) < TOLERANCE
        assert largest_difference(logits[1:], its[:, then]) < TOLERANCE


def test_dreams_at_other_times_do_not_mix(world):
    codes, actions = random_codes(world, 2, 4), random_actions("discrete", 2, 3)
    state, early = state_after(world, codes, actions, 4), state_after(world, codes[:1], actions[:1], 3)
    with pytest.raises(ValueError, match="same time"):
        state.replaced(torch.tensor([0]), early)


def test_a_dream_taken_several_times_goes_on_alike(world):
    codes, actions = random_codes(world, 2, 4), random_actions("discrete", 2, 3)
    state = state_after(world, codes, actions, 4)
    many = state.of(torch.tensor([1, 1, 0]))
    _, alone = world.features(state)
    _, together = world.features(many)
    torch.testing.assert_close(together, alone[[1, 1, 0]], atol=1e-5, rtol=0)
    assert torch.equal(many.step_features, state.step_features[[1, 1, 0]])


def test_watching_is_reading_the_whole_clip(world):
    """Frame by frame, over more frames than the window."""
    codes, actions = random_codes(world, 2, FRAMES), random_actions("discrete", 2, FRAMES - 1)
    state = state_after(world, codes, actions, 1)
    for frame in range(1, FRAMES):
        conditions = world.action_embedding.vectors(actions[:, frame - 1])
        with torch.no_grad():
            state = state.observed(codes[:, frame], conditions)
        _, features = world.features(state.clone())
        _, whole = world.features(state_after(world, codes, actions, frame + 1))
        assert largest_difference(features, whole) < TOLERANCE
        alone = state_after(world, codes, actions, frame + 1)
        assert largest_difference(state.step_features, alone.step_features) < TOLERANCE
