"""The cache: what it draws from equals a pass over the whole history, however long the dream, whatever interrupts."""

from dataclasses import replace

import pytest
import torch

from oneiros.sampling import Sampling
from oneiros.world.nn.ring import Ring
from tests.world.worlds import (
    KINDS,
    Teacher,
    at,
    context,
    counted,
    full_logits,
    largest_difference,
    make_world,
    random_actions,
    random_codes,
    state_after,
)

WINDOW, FRAMES = 3, 12  # the longest history is four windows
TOLERANCE = 1e-4


@pytest.fixture(params=["plain", "compiled"])
def make(request):
    """Makes worlds whose dreams run their blocks as they are trained, or compiled for the CPU."""

    def make(*arguments, **options):
        world = make_world(*arguments, **options)
        if request.param == "compiled":
            world.dynamics.compile_for_cpu()
        return world

    return make


def check_cached(world, kind, monkeypatch, *, first=2, between=None):
    codes, actions = random_codes(world, 2, FRAMES), random_actions(kind, 2, FRAMES - 1)
    whole = full_logits(world, codes, actions)
    teacher, state = Teacher(world, monkeypatch), state_after(world, codes, actions, first)
    for frame in range(first, FRAMES):
        state, logits, _ = teacher.step(state, codes[:, frame], at(actions, frame))
        assert largest_difference(logits, whole[:, frame]) < TOLERANCE, f"frame {frame}"
        if between is not None:
            state = between(state, frame)


@pytest.mark.parametrize("tokens_per_step", [1, 4, 16, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_equals_full(make, kind, tokens_per_step, monkeypatch):
    check_cached(make(kind, tokens_per_step=tokens_per_step), kind, monkeypatch)


@pytest.mark.parametrize("tokens_per_step", [1, 4, 32])
@pytest.mark.parametrize(
    "options", [{"residual_streams": 4}, {"num_meta_tokens": 0}, {"window": 1}, {"depth": 4}, {"heads": 3}]
)
def test_cached_equals_full_whatever_the_blocks(make, options, tokens_per_step, monkeypatch):
    check_cached(make(tokens_per_step=tokens_per_step, **options), "discrete", monkeypatch)


@pytest.mark.parametrize("first", [1, 3, 4, 5, 9])
def test_cached_equals_full_from_contexts_shorter_and_longer_than_the_ring(make, first, monkeypatch):
    check_cached(make(), "discrete", monkeypatch, first=first)


@pytest.mark.parametrize("tokens_per_step", [1, 4, 32])
def test_reading_features_in_between_changes_nothing(make, tokens_per_step, monkeypatch):
    world = make(tokens_per_step=tokens_per_step)

    def read(state, frame):
        if frame % 3:  # some frames are flushed, some stay pending
            state, _ = world.predict_action(state)
            state, _ = world.features(state)
        return state

    check_cached(world, "discrete", monkeypatch, between=read)


@pytest.mark.parametrize("tokens_per_step", [1, 4, 32])
def test_features_are_those_of_the_full_pass_in_raster_order(make, tokens_per_step, monkeypatch):
    world = make(tokens_per_step=tokens_per_step)
    codes, actions = random_codes(world, 2, FRAMES), random_actions("discrete", 2, FRAMES - 1)
    with torch.no_grad():
        outputs = world.dynamics(codes, world.action_embedding(actions, FRAMES, 2))
    layout = world.dynamics.layout
    expected = outputs[:, :, tokens_per_step:][:, :, layout.inverse]
    teacher, state = Teacher(world, monkeypatch), state_after(world, codes, actions, 2)
    for frame in range(1, FRAMES):
        if frame > 1:
            state, _, _ = teacher.step(state, codes[:, frame], at(actions, frame))
        state, features = world.features(state)
        assert largest_difference(features, expected[:, frame]) < TOLERANCE
        state, again = world.features(state)
        assert torch.equal(again, features)
        # The head reads what it was trained on.
        torch.testing.assert_close(
            features.mean(1), world.dynamics.frame_features(outputs[:, frame]), atol=TOLERANCE, rtol=0
        )


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_the_head_predicts_from_the_newest_frame(make, kind, monkeypatch):
    world = make(kind)
    codes, actions = random_codes(world, 2, 6), random_actions(kind, 2, 5)
    with torch.no_grad():
        outputs = world.dynamics(codes, world.action_embedding(actions, 6, 2))
        expected = world.action_head.predict(world.dynamics.frame_features(outputs[:, -1]))
    _, predicted = world.predict_action(state_after(world, codes, actions, 6))
    torch.testing.assert_close(predicted, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("flushed", [False, True])
def test_clones_dream_independently(make, flushed, monkeypatch):
    world = make()
    codes, actions = random_codes(world, 2, FRAMES), random_actions("discrete", 2, FRAMES - 1)
    other_codes, other_actions = random_codes(world, 2, FRAMES, 1), random_actions("discrete", 2, FRAMES - 1, 1)
    other_codes[:, :5], other_actions[:, :4] = codes[:, :5], actions[:, :4]
    teacher, state = Teacher(world, monkeypatch), state_after(world, codes, actions, 3)
    for frame in (3, 4):
        state, _, _ = teacher.step(state, codes[:, frame], at(actions, frame))
    if flushed:
        state, _ = world.features(state)
    branch = state.clone()
    whole, other = full_logits(world, codes, actions), full_logits(world, other_codes, other_actions)
    for frame in range(5, FRAMES):  # in turns, so that a shared tensor would be overwritten
        state, logits, _ = teacher.step(state, codes[:, frame], at(actions, frame))
        branch, branched, _ = teacher.step(branch, other_codes[:, frame], at(other_actions, frame))
        assert largest_difference(logits, whole[:, frame]) < TOLERANCE
        assert largest_difference(branched, other[:, frame]) < TOLERANCE


def test_a_huge_clock_changes_nothing(make, monkeypatch):
    world = make()
    codes, actions = random_codes(world, 2, FRAMES), random_actions("discrete", 2, FRAMES - 1)
    whole = full_logits(world, codes, actions)
    state = state_after(world, codes, actions, 2)
    conditions = world.action_embedding(actions[:, :1], 2, 2)
    with torch.no_grad():
        ring, _ = Ring.filled(world.dynamics, codes[:, :2], conditions, first_time=10**9)
    state, teacher = replace(state, ring=ring, time=10**9 + 1), Teacher(world, monkeypatch)
    for frame in range(2, FRAMES):
        state, logits, _ = teacher.step(state, codes[:, frame], at(actions, frame))
        assert largest_difference(logits, whole[:, frame]) < TOLERANCE


@pytest.mark.parametrize(("tokens_per_step", "calls"), [(1, 32), (4, 8), (16, 2), (32, 1)])
def test_a_frame_costs_one_call_a_group(tokens_per_step, calls, monkeypatch):
    world = make_world(tokens_per_step=tokens_per_step)
    state = state_after(world, random_codes(world, 1, 3), random_actions("discrete", 1, 2), 3)
    seen = []
    monkeypatch.setattr(world.dynamics, "run", counted(world.dynamics.run, seen))
    for _ in range(3):
        state, _ = world.step(state, torch.tensor([1]))
        assert [len(arguments[0][0]) for arguments in seen] == [2 * tokens_per_step] + [tokens_per_step] * (calls - 1)
        seen.clear()


def sizes(state):
    tensors = [state.codes, state.conditions, state.pending, state.outputs]
    return [t.shape for t in [*tensors, state.ring.keys, state.ring.values, state.ring.slots]]


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_memory_is_constant(make, guidance_scale):
    world = make(tokens_per_step=32)
    state = state_after(world, random_codes(world, 2, 3), random_actions("discrete", 2, 2), 3)
    sampling = Sampling(guidance_scale=guidance_scale)
    state, _ = world.step(state, torch.tensor([1, 2]), sampling=sampling)
    before, place = sizes(state), state.ring.keys.data_ptr()
    layout, slots = world.dynamics.layout, WINDOW + 1
    assert state.ring.keys.shape[-2] == slots * layout.num_elements + world.dynamics.num_meta_tokens
    for _ in range(5 * WINDOW):
        state, _ = world.step(state, torch.tensor([1, 2]), sampling=sampling)
    assert sizes(state) == before
    assert state.ring.keys.data_ptr() == place  # written in place
    assert state.time == 3 + 5 * WINDOW


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_worlds_of_a_batch_dream_as_each_alone(make, kind, guidance_scale):
    world = make(kind)
    codes, actions, future = random_codes(world, 3, 4), random_actions(kind, 3, 3), random_actions(kind, 3, 8, 1)
    sampling = Sampling(temperature=0.0, guidance_scale=guidance_scale)

    def dream(rows):
        part = context(world, codes[rows], None if actions is None else actions[rows])
        return world.generate(part, None if future is None else future[rows], num_frames=8, sampling=sampling).frames

    together = dream(slice(None))
    for row in range(3):
        torch.testing.assert_close(dream(slice(row, row + 1)), together[row : row + 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_blocks_in_bf16_dream_the_same_but_for_rounding(guidance_scale, monkeypatch):
    world = make_world()
    codes, actions = random_codes(world, 2, 8), random_actions("discrete", 2, 7)
    exact = full_logits(world, codes, actions)
    world.dynamics.blocks.to(torch.bfloat16)
    teacher, state = Teacher(world, monkeypatch), state_after(world, codes, actions, 2)
    for frame in range(2, 8):
        state, logits, _ = teacher.step(state, codes[:, frame], at(actions, frame), guidance_scale=guidance_scale)
        assert logits.dtype == torch.float32
        error = (logits - exact[:, frame]).abs().mean()
        assert error < 0.05 * exact[:, frame].std()
        state, action = world.predict_action(state)
        assert action.shape == (2,)
