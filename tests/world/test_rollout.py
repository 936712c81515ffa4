"""The cache: what it draws from equals a pass over the whole history, however long the dream, whatever interrupts."""

from dataclasses import replace

import pytest
import torch

from oneiros.records import Sampling
from oneiros.world.nn.detail import Detail
from oneiros.world.nn.ring import Ring
from tests.world.worlds import (
    KINDS,
    Teacher,
    at,
    code_clip,
    context,
    counted,
    full_logits,
    largest_difference,
    make_tokenizer,
    make_world,
    random_actions,
    random_codes,
)

WINDOW, FRAMES = 3, 12  # the longest history is four windows
TOLERANCE = 1e-4
GREEDY = Sampling(temperature=0.0)


def start(world, codes, actions, frames):
    return world.init(context(world, codes[:, :frames], None if actions is None else actions[:, : frames - 1]))


def check_cached(world, kind, monkeypatch, *, first=2, between=None):
    codes, actions = random_codes(world, 2, FRAMES), random_actions(kind, 2, FRAMES - 1)
    whole = full_logits(world, codes, actions)
    teacher, state = Teacher(world, monkeypatch), start(world, codes, actions, first)
    for frame in range(first, FRAMES):
        state, logits, _ = teacher.step(state, codes[:, frame], at(actions, frame))
        assert largest_difference(logits, whole[:, frame]) < TOLERANCE, f"frame {frame}"
        if between is not None:
            state = between(state, frame)


@pytest.mark.parametrize("tokens_per_step", [1, 4, 16, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_equals_full(kind, tokens_per_step, monkeypatch):
    check_cached(make_world(kind, tokens_per_step=tokens_per_step), kind, monkeypatch)


@pytest.mark.parametrize("tokens_per_step", [1, 4, 32])
@pytest.mark.parametrize("options", [{"residual_streams": 4}, {"num_meta_tokens": 0}, {"window": 1}, {"depth": 4}])
def test_cached_equals_full_whatever_the_blocks(options, tokens_per_step, monkeypatch):
    check_cached(make_world(tokens_per_step=tokens_per_step, **options), "discrete", monkeypatch)


@pytest.mark.parametrize("first", [1, 3, 4, 5, 9])
def test_cached_equals_full_from_contexts_shorter_and_longer_than_the_ring(first, monkeypatch):
    check_cached(make_world(), "discrete", monkeypatch, first=first)


@pytest.mark.parametrize("tokens_per_step", [1, 4, 32])
def test_reading_features_in_between_changes_nothing(tokens_per_step, monkeypatch):
    world = make_world(tokens_per_step=tokens_per_step)

    def read(state, frame):
        if frame % 3:  # some frames are flushed, some stay pending
            state, _ = world.predict_action(state)
            state, _ = world.features(state)
        return state

    check_cached(world, "discrete", monkeypatch, between=read)


@pytest.mark.parametrize("tokens_per_step", [1, 4, 32])
def test_features_are_those_of_the_full_pass_in_raster_order(tokens_per_step, monkeypatch):
    world = make_world(tokens_per_step=tokens_per_step)
    codes, actions = random_codes(world, 2, FRAMES), random_actions("discrete", 2, FRAMES - 1)
    with torch.no_grad():
        outputs = world.dynamics(codes, world.action_embedding(actions, FRAMES, 2))
    layout = world.dynamics.layout
    expected = outputs[:, :, tokens_per_step:][:, :, layout.inverse]
    teacher, state = Teacher(world, monkeypatch), start(world, codes, actions, 2)
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
def test_the_head_predicts_from_the_newest_frame(kind, monkeypatch):
    world = make_world(kind)
    codes, actions = random_codes(world, 2, 6), random_actions(kind, 2, 5)
    with torch.no_grad():
        outputs = world.dynamics(codes, world.action_embedding(actions, 6, 2))
        expected = world.action_head.predict(world.dynamics.frame_features(outputs[:, -1]))
    _, predicted = world.predict_action(start(world, codes, actions, 6))
    torch.testing.assert_close(predicted, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("flushed", [False, True])
def test_clones_dream_independently(flushed, monkeypatch):
    world = make_world()
    codes, actions = random_codes(world, 2, FRAMES), random_actions("discrete", 2, FRAMES - 1)
    other_codes, other_actions = random_codes(world, 2, FRAMES, 1), random_actions("discrete", 2, FRAMES - 1, 1)
    other_codes[:, :5], other_actions[:, :4] = codes[:, :5], actions[:, :4]
    teacher, state = Teacher(world, monkeypatch), start(world, codes, actions, 3)
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


def test_a_huge_clock_changes_nothing(monkeypatch):
    world = make_world()
    codes, actions = random_codes(world, 2, FRAMES), random_actions("discrete", 2, FRAMES - 1)
    whole = full_logits(world, codes, actions)
    state = start(world, codes, actions, 2)
    conditions = world.action_embedding(actions[:, :1], 2, 2)
    with torch.no_grad():
        ring, _ = Ring.filled(world.dynamics, codes[:, :2], conditions, first_time=10**9)
    state, teacher = replace(state, ring=ring, time=10**9 + 1), Teacher(world, monkeypatch)
    for frame in range(2, FRAMES):
        state, logits, _ = teacher.step(state, codes[:, frame], at(actions, frame))
        assert largest_difference(logits, whole[:, frame]) < TOLERANCE


# -- guidance ------------------------------------------------------------------------------------------------------


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
    teacher, state, began = Teacher(world, monkeypatch), start(world, codes, actions, 2), None
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
    teacher, state = Teacher(world, monkeypatch), start(world, codes, actions, 2)
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
    teacher, state = Teacher(world, monkeypatch), start(world, codes, None, 2)
    for frame in range(2, 8):
        state, logits, unconditional = teacher.step(state, codes[:, frame], None, guidance_scale=2.0)
        assert largest_difference(logits, unconditional) < TOLERANCE


# -- cost ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens_per_step", "calls"), [(1, 32), (4, 8), (16, 2), (32, 1)])
def test_a_frame_costs_one_call_a_group(tokens_per_step, calls, monkeypatch):
    world = make_world(tokens_per_step=tokens_per_step)
    state = start(world, random_codes(world, 1, 3), random_actions("discrete", 1, 2), 3)
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
def test_memory_is_constant(guidance_scale):
    world = make_world(tokens_per_step=32)
    state = start(world, random_codes(world, 2, 3), random_actions("discrete", 2, 2), 3)
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


# -- batches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_worlds_of_a_batch_dream_as_each_alone(kind, guidance_scale):
    world = make_world(kind)
    codes, actions, future = random_codes(world, 3, 4), random_actions(kind, 3, 3), random_actions(kind, 3, 8, 1)
    sampling = Sampling(temperature=0.0, guidance_scale=guidance_scale)

    def dream(rows):
        part = context(world, codes[rows], None if actions is None else actions[rows])
        return world.generate(part, None if future is None else future[rows], num_frames=8, sampling=sampling).frames

    together = dream(slice(None))
    for row in range(3):
        torch.testing.assert_close(dream(slice(row, row + 1)), together[row : row + 1], atol=1e-5, rtol=0)


# -- decoding ------------------------------------------------------------------------------------------------------


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
    state = start(world, random_codes(world, 2, 3), None, 3)
    ahead, codes = world.step_codes(state.clone(), None, sampling=GREEDY)
    _, frame = world.step(state, None, sampling=GREEDY)
    assert torch.equal(world.tokenizer.encode(frame[:, None])[:, 0], codes)
    assert torch.equal(ahead.codes[:, -1], codes)


# -- precision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_blocks_in_bf16_dream_the_same_but_for_rounding(guidance_scale, monkeypatch):
    world = make_world()
    codes, actions = random_codes(world, 2, 8), random_actions("discrete", 2, 7)
    exact = full_logits(world, codes, actions)
    world.dynamics.blocks.to(torch.bfloat16)
    teacher, state = Teacher(world, monkeypatch), start(world, codes, actions, 2)
    for frame in range(2, 8):
        state, logits, _ = teacher.step(state, codes[:, frame], at(actions, frame), guidance_scale=guidance_scale)
        assert logits.dtype == torch.float32
        error = (logits - exact[:, frame]).abs().mean()
        assert error < 0.05 * exact[:, frame].std()
        state, action = world.predict_action(state)
        assert action.shape == (2,)


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
