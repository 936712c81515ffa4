"""`generate`: the context, then what was dreamed, and the actions that led there."""

import pytest
import torch

from oneiros.records import Clip
from oneiros.sampling import Sampling
from tests.world.worlds import (
    KINDS,
    SPECS,
    context,
    make_tokenizer,
    make_world,
    random_actions,
    random_codes,
)

GREEDY = Sampling(temperature=0.0)


def start(world, kind, batch=2, frames=3) -> Clip:
    return context(world, random_codes(world, batch, frames), random_actions(kind, batch, frames - 1))


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_a_dream_is_the_context_then_one_frame_an_action(kind):
    world = make_world(kind)
    clip, actions = start(world, kind), random_actions(kind, 2, 5, seed=1)
    dream = world.generate(clip, actions, sampling=GREEDY)
    assert dream.frames.shape == (2, 8, 4, 4, 8)
    assert torch.equal(dream.frames[:, :3], clip.frames)
    assert torch.equal(dream.actions, torch.cat([clip.actions, actions], 1))
    assert dream.valid.shape == (2, 8)
    assert dream.valid.all()
    assert dream.frames.abs().max() <= 1
    again = world.generate(clip, actions, num_frames=3, sampling=GREEDY)
    assert torch.equal(again.frames, dream.frames[:, :6])


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_generate_loops_over_step(kind):
    """The first action was done between the last frame of the context and the first one dreamed."""
    world = make_world(kind)
    clip, actions = start(world, kind), random_actions(kind, 2, 5, seed=1)
    sampling = Sampling(temperature=1.0)
    dream = world.generate(clip, actions, sampling=sampling, generator=torch.Generator().manual_seed(4))
    state, generator = world.init(clip), torch.Generator().manual_seed(4)
    for index in range(5):
        state, frame = world.step(state, actions[:, index], sampling=sampling, generator=generator)
        assert torch.equal(frame, dream.frames[:, 3 + index])


def test_each_frame_follows_its_own_action_and_no_later_one(monkeypatch):
    """Greedy draws may hide it, so compare the logits that frames are drawn from."""
    world, drawn = make_world(), []
    monkeypatch.setattr(
        "oneiros.world.nn.sampling.draw",
        lambda logits, *_: (drawn.append(logits), torch.zeros(logits.shape[:2]).long())[1],
    )

    def logits(actions):
        drawn.clear()
        world.generate(clip, torch.tensor([actions] * 2))
        return torch.stack(drawn).unflatten(0, (4, -1))  # (frames, steps, ...)

    clip = start(world, "discrete")
    before = logits([0, 1, 2, 0])
    for changed in range(4):
        actions = [0, 1, 2, 0]
        actions[changed] = (actions[changed] + 1) % 3
        differs = (logits(actions) != before).flatten(1)
        assert differs[:changed].sum() == 0
        assert (logits(actions)[changed] != before[changed]).flatten(1).any(1).all()  # from the first step on


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_image_is_a_context(kind):
    world = make_world(kind)
    clip, actions = start(world, kind, frames=1), random_actions(kind, 2, 4)
    of_clip, of_images = (world.generate(s, actions, num_frames=4, sampling=GREEDY) for s in (clip, clip.frames[:, 0]))
    assert torch.equal(of_images.frames, of_clip.frames)
    assert of_images.frames.shape[:2] == (2, 5)
    alone = world.generate(clip.frames[0, 0], None if actions is None else actions[:1], num_frames=4, sampling=GREEDY)
    torch.testing.assert_close(alone.frames, of_clip.frames[:1], atol=1e-5, rtol=0)
    if kind is not None:
        assert torch.equal(of_images.actions, actions)


@pytest.mark.parametrize("kind", KINDS)
def test_without_actions_dreams_take_the_null_embedding(kind):
    world = make_world(kind)
    clip = start(world, kind)
    dream = world.generate(clip, num_frames=4, sampling=GREEDY)
    assert dream.actions is None
    state = world.init(clip)
    for index in range(4):
        state, frame = world.step(state, None, sampling=GREEDY)
        assert torch.equal(frame, dream.frames[:, 3 + index])
    with pytest.raises(ValueError, match="num_frames"):
        world.generate(clip)
    with pytest.raises(ValueError, match="num_frames"):
        world.generate(clip, "head")


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_the_head_plays_on_its_own(kind):
    world = make_world(kind)
    clip, sampling = start(world, kind), Sampling(temperature=1.0)
    dream = world.generate(clip, "head", num_frames=4, sampling=sampling, generator=torch.Generator().manual_seed(2))
    assert dream.actions.shape == random_actions(kind, 2, 6).shape
    assert torch.equal(dream.actions[:, :2], clip.actions)
    # Its choices, given as a script, lead to the same frames when nothing is drawn.
    greedy = world.generate(clip, "head", num_frames=4, sampling=GREEDY)
    scripted = world.generate(clip, greedy.actions[:, 2:], sampling=GREEDY)
    torch.testing.assert_close(scripted.frames, greedy.frames)


def test_the_head_needs_a_head():
    world = make_world(None)
    with pytest.raises(ValueError, match="no action head"):
        world.generate(start(world, None), "head", num_frames=2)


def test_a_word_that_is_no_source_of_actions_is_refused():
    world = make_world()
    with pytest.raises(ValueError, match="head"):
        world.generate(start(world, "discrete"), "heads", num_frames=2)  # type: ignore[arg-type]


def test_too_few_actions_are_refused():
    world = make_world()
    with pytest.raises(ValueError, match="3 actions for 5 frames"):
        world.generate(start(world, "discrete"), random_actions("discrete", 2, 3), num_frames=5)


def test_a_context_with_unknown_actions_tells_no_partial_record():
    world = make_world()
    clip = start(world, "discrete")
    dream = world.generate(Clip(clip.frames, None, clip.valid), random_actions("discrete", 2, 3), sampling=GREEDY)
    assert dream.actions is None
    assert dream.frames.shape[1] == 6


def test_a_dream_starts_from_real_frames():
    world = make_world()
    clip = start(world, "discrete")
    clip.valid[1, 2] = False
    with pytest.raises(ValueError, match="padding"):
        world.init(clip)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("joint", [True, False])
def test_generate_runs_in_eval_mode_without_gradients_and_restores(training, joint):
    world = make_world(tokenizer=make_tokenizer(trainable=joint), joint=joint).train(training)
    modes, grad = {name: module.training for name, module in world.named_modules()}, torch.is_grad_enabled()
    seen = []
    world.dynamics.register_forward_pre_hook(lambda module, _: seen.append((module.training, torch.is_grad_enabled())))
    dream = world.generate(start(world, "discrete"), num_frames=2)
    assert seen
    assert set(seen) == {(False, False)}
    assert {name: module.training for name, module in world.named_modules()} == modes
    assert torch.is_grad_enabled() == grad
    assert not dream.frames.requires_grad
    with pytest.raises(ValueError, match="actions"):
        world.generate(start(world, "discrete"), torch.full((2, 2), 9))
    assert world.training == training


def test_dreams_are_those_of_their_generator():
    world = make_world()
    clip, actions = start(world, "discrete"), random_actions("discrete", 2, 4)
    before = torch.random.get_rng_state()
    one, same, other = (
        world.generate(clip, actions, sampling=Sampling(1.0, 0.0), generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.frames, same.frames)
    assert not torch.equal(one.frames, other.frames)


def test_dreams_change_no_argument():
    world = make_world()
    clip, actions = start(world, "discrete"), random_actions("discrete", 2, 4)
    copies = clip.frames.clone(), clip.actions.clone(), actions.clone()
    world.generate(clip, actions)
    assert all(torch.equal(a, b) for a, b in zip((clip.frames, clip.actions, actions), copies, strict=True))


def test_tasks_travel_along():
    world = make_world()
    clip = start(world, "discrete")
    dream = world.generate(Clip(clip.frames, clip.actions, clip.valid, ("walk", "run")), num_frames=1)
    assert dream.task == ("walk", "run")


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_an_action_of_the_wrong_shape_is_refused_by_step(kind):
    world = make_world(kind)
    state = world.init(start(world, kind))
    wrong = torch.zeros(2, SPECS[kind].size + 1)
    with pytest.raises(ValueError, match="actions have shape"):
        world.step(state, wrong)


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 4, 8, 4), (1, 3, 4, 8)])
def test_an_image_of_another_size_is_refused(shape):
    """8 x 4 has as many codes as 4 x 8: they would be scrambled silently."""
    world = make_world()
    with pytest.raises(ValueError, match=r"'B', 'T', 4, 4, 8"):
        world.generate(torch.zeros(shape), num_frames=1)
