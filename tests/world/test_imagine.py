"""What a world imagines: its own greedy dream, and hidden states that are the ones it dreams with."""

from dataclasses import replace

import pytest
import torch

from oneiros.records import CodeClip
from oneiros.sampling import Sampling
from tests.world.worlds import KINDS, code_clip, context, largest_difference, make_world

GREEDY = Sampling(temperature=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_dreams_on_by_itself_from_frames_and_codes_alike(kind):
    world = make_world(kind)
    start = code_clip(world, kind, frames=2)
    frames = context(world, start.codes, start.actions)
    codes, features = world.imagine(start, 3)
    assert features.shape == (2, 5, 32, 32)
    assert features.dtype == torch.float32
    assert torch.equal(codes[:, :2], start.codes)
    dream = world.generate(frames, None, num_frames=3, sampling=GREEDY)
    assert torch.equal(codes, world.tokenizer.encode(dream.frames))
    again = world.imagine(frames, 3)
    assert torch.equal(again[0], codes)
    assert torch.equal(again[1], features)


@pytest.mark.parametrize("actions", [True, False])
def test_features_are_those_of_the_dream(actions):
    """Of the newest observed frame, and of an imagined one: what `World.features` says while dreaming."""
    world = make_world()
    start = code_clip(world, "discrete", frames=2)
    start = start if actions else replace(start, actions=None)
    state = world.init(context(world, start.codes, start.actions))
    _, features = world.imagine(start, 2)
    state, observed = world.features(state)
    assert largest_difference(features[:, 1], observed) < 1e-4
    state, _ = world.step(state, None, sampling=GREEDY)
    assert largest_difference(features[:, 2], world.features(state)[1]) < 1e-4


def test_no_element_is_computed_twice(monkeypatch):
    """All of the frames seen, and of those imagined, pass the blocks once, the meta tokens beside them."""
    world, passed = make_world(), []
    start, run = code_clip(world, "discrete", frames=2), world.dynamics.run
    monkeypatch.setattr(
        world.dynamics, "run", lambda x, *rest, **named: passed.append(x.shape[1]) or run(x, *rest, **named)
    )
    world.imagine(start, 3)
    layout = world.dynamics.layout
    again = layout.tokens_per_step  # the newest frame's last step is also run along with the first imagined one
    assert sum(passed) == world.config.num_meta_tokens + 5 * layout.num_elements + again


def test_a_prepared_world_imagines_the_same():
    world = make_world(tokens_per_step=16)
    start = code_clip(world, "discrete", frames=2)
    codes, features = world.imagine(start, 3)
    world.dynamics.prepare_for_inference(float32=True)
    assert world.dynamics.compiled is not None
    again = world.imagine(start, 3)
    assert torch.equal(again[0], codes)
    assert largest_difference(again[1], features) < 1e-3


def test_what_was_done_between_the_frames_counts():
    world = make_world()
    start = code_clip(world, "discrete", frames=3)
    other = replace(start, actions=(start.actions + 1) % 3)
    assert largest_difference(world.imagine(start, 0)[1], world.imagine(other, 0)[1]) > 1e-3


def test_an_earlier_block_can_be_read():
    world = make_world(depth=3)
    start = code_clip(world, "discrete", frames=2)
    codes, last = world.imagine(start, 1)
    assert largest_difference(world.imagine(start, 1, layers=(2,))[1], last) < 1e-4
    several = world.imagine(start, 1, layers=(0, 2))[1]
    assert torch.equal(several[..., :32], world.imagine(start, 1, layers=(0,))[1])
    assert largest_difference(several[..., 32:], last) < 1e-4
    seen = []
    handle = world.dynamics.blocks[1].register_forward_hook(lambda *call: seen.append(call[-1][0]))
    world.dynamics(codes, world.action_embedding(start.actions, 2, 2).new_zeros(2, 3, 32))
    seen.clear()
    got_codes, got = world.imagine(start, 1, layers=(1,))
    handle.remove()
    assert torch.equal(got_codes, codes)  # the dream itself uses all blocks
    layout = world.dynamics.layout
    wanted = seen[-1][:, world.dynamics.num_meta_tokens :].unflatten(1, (3, -1))[:, :, layout.tokens_per_step :]
    assert torch.equal(got, wanted[:, :, layout.inverse])
    assert largest_difference(got, last) > 1e-2


def test_samples_do_not_see_one_another():
    world = make_world()
    start = code_clip(world, "discrete", batch=3, frames=2)
    codes, features = world.imagine(start, 2)
    alone = CodeClip(start.codes[1:2], start.actions[1:2], start.valid[1:2])
    assert torch.equal(world.imagine(alone, 2)[0], codes[1:2])
    assert largest_difference(world.imagine(alone, 2)[1], features[1:2]) < 1e-4


def test_what_does_not_fit_is_refused():
    world = make_world()
    start = code_clip(world, "discrete", frames=2)
    with pytest.raises(ValueError, match="layer is 2; this world's are 0 to 1"):
        world.imagine(start, 1, layers=(2,))
    with pytest.raises(ValueError, match="num_frames is -1"):
        world.imagine(start, -1)
    with pytest.raises(ValueError, match="padding"):
        world.imagine(replace(start, valid=start.valid & False), 1)
