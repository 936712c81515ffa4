"""What a world learns from: valid frames, each by its own action."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from oneiros.records import Clip, CodeClip, Outcomes
from oneiros.world.config import WorldConfig
from oneiros.world.nn.motion import motion_weights
from tests.world.worlds import (
    KINDS,
    close,
    code_clip,
    context,
    full_logits,
    make_tokenizer,
    make_world,
    random_actions,
    random_codes,
    rows,
)


def cut(clip: CodeClip, frames: int) -> CodeClip:
    actions = None if clip.actions is None else clip.actions[:, : frames - 1]
    return CodeClip(clip.codes[:, :frames], actions, clip.valid[:, :frames], seeds=clip.seeds)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learn_first_frame", [False, True])
def test_state_loss_is_the_cross_entropy_of_the_logits_a_dream_draws_from(kind, learn_first_frame):
    world = make_world(kind, learn_first_frame=learn_first_frame, action_weight=0.0)
    clip = code_clip(world, kind)
    first = 0 if learn_first_frame else 1
    logits = full_logits(world, clip.codes, clip.actions)[:, first:].flatten(0, 2)
    target = clip.codes[:, first:, world.dynamics.layout.order].flatten()
    loss = world(clip)
    assert set(loss.parts) == {"world/state", "world/accuracy"}
    torch.testing.assert_close(loss.total, F.cross_entropy(logits, target))
    torch.testing.assert_close(loss.parts["world/accuracy"], (logits.argmax(-1) == target).float().mean())


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_each_part_is_reported_and_weighed(kind):
    world = make_world(kind, state_weight=0.7, action_weight=0.3)
    clip = code_clip(world, kind)
    loss = world(clip)
    torch.testing.assert_close(loss.total.detach(), 0.7 * loss.parts["world/state"] + 0.3 * loss.parts["world/action"])
    assert not any(part.requires_grad for part in loss.parts.values())
    outputs = world.dynamics(clip.codes, world.action_embedding(clip.actions, 5, 2))
    features = world.dynamics.frame_features(outputs[:, :-1]).flatten(0, 1)
    expected = world.action_head.loss(features, clip.actions.flatten(0, 1)).mean()
    torch.testing.assert_close(loss.parts["world/action"], expected.detach())


def test_default_weights_are_the_specs():
    config = WorldConfig()
    assert (config.state_weight, config.action_weight, config.action_dropout) == (1.0, 0.1, 0.5)
    assert (config.num_meta_tokens, config.residual_streams, config.max_keys, config.joint) == (16, 1, 10, False)


@pytest.mark.parametrize("config", [WorldConfig, type(make_tokenizer().config)])
def test_no_weight_of_a_config_is_idle(config):
    """Each `*_weight` changes the total of joint training with temporal convolutions."""

    def total(**changed):
        of_world = {k: v for k, v in changed.items() if config is WorldConfig}
        of_tokenizer = {k: v for k, v in changed.items() if config is not WorldConfig}
        tokenizer = make_tokenizer(trainable=True, temporal_convs=True, **of_tokenizer)
        paid = {"reward_values": (0.0, 1.0), "end_rate": 0.1}
        world = make_world(tokenizer=tokenizer, joint=True, action_dropout=0.0, **paid, **of_world).train()
        frames = torch.rand(2, 4, 4, 4, 8, generator=torch.Generator().manual_seed(0)) - 0.5
        never = torch.zeros(2, 3, dtype=torch.bool)
        outcomes = Outcomes(torch.ones(2, 3), never, never, ~never)
        valid = torch.ones(2, 4, dtype=torch.bool)
        return world(Clip(frames, random_actions("discrete", 2, 3), valid, outcomes=outcomes)).total.item()

    names = [name for name in config.__dataclass_fields__ if name.endswith("_weight")]
    assert names
    idle = [name for name in names if total(**{name: 3.0}) == total()]
    assert idle == []


def test_more_keys_than_the_head_can_say_are_refused_by_frame():
    world = make_world("keys", max_keys=2)
    clip = code_clip(world, "keys")
    clip.actions[:] = False
    world(clip)
    clip.actions[1, 2] = torch.tensor([True, False, True, True])
    with pytest.raises(ValueError, match="3 keys are held after frame 2 of clip 1, more than the world's max_keys, 2"):
        world(clip)
    clip.valid[1, 3:] = False  # padding holds what it likes
    world(clip)
    clip.valid[1, 3:] = True
    make_world("keys", max_keys=2, action_weight=0.0)(clip)


def test_action_weight_zero_builds_no_head():
    world = make_world(action_weight=0.0)
    assert world.action_head is None
    assert "world/action" not in world(code_clip(world, "discrete")).parts
    state = world.init(context(world, random_codes(world, 1, 2), None))
    with pytest.raises(ValueError, match="no action head"):
        world.predict_action(state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learn_first_frame", [False, True])
def test_padding_changes_neither_loss_nor_gradient(kind, learn_first_frame):
    """Nothing of the padding counts: codes, actions and length."""
    world = make_world(kind, learn_first_frame=learn_first_frame)
    alone, padded = code_clip(world, kind, frames=4), code_clip(world, kind, frames=7, seed=1)
    padded.codes[:, :4] = alone.codes
    padded.valid[:, 4:] = False
    if kind is not None:
        padded.actions[:, :3] = alone.actions
    seen = []
    for clip in (alone, padded):
        world.zero_grad()
        loss = world(clip)
        loss.total.backward()
        seen.append((loss.parts, [p.grad.clone() for p in world.parameters() if p.grad is not None]))
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("learn_first_frame", [False, True])
def test_a_ragged_batch_is_the_mean_over_its_frames(learn_first_frame):
    world = make_world(learn_first_frame=learn_first_frame, action_weight=0.0)
    clip, lengths = code_clip(world, "discrete", batch=3, frames=6), (6, 4, 1)
    for row, length in enumerate(lengths):
        clip.valid[row, length:] = False
    total = count = 0
    for row, length in enumerate(lengths):
        predicted = length if learn_first_frame else length - 1
        if predicted:
            total = total + predicted * world(cut(rows(clip, slice(row, row + 1)), length)).total
            count += predicted
    torch.testing.assert_close(world(clip).total, total / count)


@pytest.mark.parametrize("learn_first_frame", [False, True])
@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_parts_of_a_ragged_batch_weigh_what_they_hold(kind, learn_first_frame):
    """A micro-batch of padding alone weighs nothing, and is no NaN."""
    world = make_world(kind, learn_first_frame=learn_first_frame, action_weight=0.0 if learn_first_frame else 0.1)
    clip = code_clip(world, kind, batch=4, frames=5)
    clip.valid[1, 3:] = clip.valid[2, 1:] = False
    whole = world(clip)
    parts = [rows(clip, slice(row, row + 1)) for row in range(4)]
    weights = torch.stack([world.loss_weight(part) for part in parts])
    assert weights.sum() == world.loss_weight(clip)
    losses = torch.stack([world(part).total for part in parts])
    torch.testing.assert_close((losses * weights).sum() / weights.sum(), whole.total)


def test_one_frame_clips_can_teach_the_first_frame_only():
    clip = code_clip(make_world(), "discrete", frames=1)
    with pytest.raises(ValueError, match="clips of 2 or more"):
        make_world()(clip)
    assert make_world(learn_first_frame=True)(clip).total.isfinite()


@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_their_codes_give_one_loss(kind):
    world = make_world(kind)
    clip = code_clip(world, kind)
    close(world(context(world, clip.codes, clip.actions)), world(clip))


@pytest.mark.parametrize(
    ("kind", "actions"),
    [
        ("discrete", torch.zeros(2, 3, dtype=torch.int64)),  # one too few
        ("discrete", torch.zeros(2, 5, dtype=torch.int64)),
        ("discrete", torch.zeros(2, 4, 3)),  # one-hot
        ("discrete", torch.full((2, 4), 3)),  # no such action
        ("discrete", torch.full((2, 4), -1)),
        ("keys", torch.zeros(2, 4, 3, dtype=torch.bool)),
        ("keys", torch.zeros(2, 4, dtype=torch.int64)),
        ("continuous", torch.zeros(2, 4, 3)),
        ("continuous", torch.full((2, 4, 2), torch.nan)),
    ],
)
def test_actions_that_do_not_fit_are_refused_in_one_line(kind, actions):
    world = make_world(kind)
    clip = replace(code_clip(world, kind), actions=actions)
    with pytest.raises(ValueError, match="action") as refused:
        world(clip)
    assert "\n" not in str(refused.value)


def test_frame_stride_widens_continuous_actions_alone():
    world = make_world("continuous", frame_stride=3)
    clip = replace(code_clip(world, "continuous"), actions=random_actions("continuous", 2, 4, repeats=3))
    assert world(clip).total.isfinite()
    with pytest.raises(ValueError, match="6"):
        world(code_clip(world, "continuous"))
    for kind in ("discrete", "keys"):
        world = make_world(kind, frame_stride=3)
        assert world(code_clip(world, kind)).total.isfinite()


def test_the_scale_has_its_own_learning_rate():
    world = make_world(scale_learning_rate=5.0)
    scales = {name: world.learning_rate_scale(name) for name, _ in world.named_parameters()}
    assert scales.pop("dynamics.log_scale") == 5.0
    assert set(scales.values()) == {1.0}


def test_codes_where_something_moved_count_more():
    """Each code's loss by its weight, in the order in which codes are drawn."""
    plain, weighed = (make_world("discrete", motion_weight=weight).eval() for weight in (0.0, 3.0))
    clip = code_clip(plain, "discrete", frames=4)
    outputs = plain.dynamics(clip.codes, plain.action_embedding(clip.actions, 4, len(clip.codes)))
    order = plain.dynamics.layout.order
    losses, _ = plain.dynamics.code_losses(plain.dynamics.predictions(outputs[:, 1:]), clip.codes[:, 1:, order])
    weights = motion_weights(plain.tokenizer.vectors(clip.codes), 3.0)[:, 1:, order]
    expected = plain(clip).total + (losses * weights).mean() - losses.mean()
    torch.testing.assert_close(weighed(clip).total, expected)
    torch.testing.assert_close(weighed(clip).parts["world/state"], plain(clip).parts["world/state"])


def test_the_decoder_of_held_keys_has_the_shape_that_the_config_says():
    shape = {"key_depth": 3, "key_heads": 2, "key_head_dim": 8, "key_gated": True}
    keys = WorldConfig(max_keys=3, **shape).keys
    assert (keys.max_keys, keys.depth, keys.heads, keys.head_dim, keys.gated) == (3, 3, 2, 8, True)
    head = make_world("keys", max_keys=3, **shape).action_head.head
    assert (head.max_keys, len(head.layers)) == (3, 3)
