"""Codecs plugged in by the user: video, channel-last, none at all, four channels, grids of any shape."""

import pytest
import torch
from torch import nn

from oneiros.records import Clip
from oneiros.sampling import Sampling
from oneiros.world.config import WorldConfig
from oneiros.world.model import World
from oneiros.world.nn.codec import IdentityCodec
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from tests.world.worlds import SPECS, context, make_tokenizer, make_world, random_actions, random_codes

GREEDY = Sampling(temperature=0.0)


class PairCodec(nn.Module):
    """Latent 0 is frame 0, latent j is frames 2j - 1 and 2j: two frames of 2 channels side by side in 4."""

    temporal_stride = 2

    def encode(self, frames):
        first = torch.cat([frames[:, :1], frames[:, :1]], 2)
        rest = frames[:, 1:].unflatten(1, (-1, 2)).flatten(2, 3)
        return torch.cat([first, rest], 1)

    def decode(self, latents):
        rest = latents[:, 1:].unflatten(2, (2, -1)).flatten(1, 2)
        return torch.cat([latents[:, :1, :2], rest], 1)


def video_world(kind="discrete", **options) -> World:
    torch.manual_seed(0)
    config = TokenizerConfig(height=2, width=4, channels=2, code_dim=4, codebook_size=12, external_codec=True)
    tokenizer = Tokenizer(config, PairCodec())
    with torch.no_grad():
        tokenizer.codebook.clamp_(-0.9, 0.9)
        tokenizer.codebook[:, 2:] += 0.05  # no code is a still image, so frames 2j - 1 and 2j differ
    sizes = {"dim": 32, "depth": 2, "head_dim": 16, "tokens_per_step": 4, "window": 3, **options}
    return World(WorldConfig(action_spec=SPECS[kind], **sizes), tokenizer).eval()


def video(world, latents, seed=0):
    codes = random_codes(world, 2, latents, seed)
    return codes, world.tokenizer.decode(codes)


def test_a_video_latent_is_so_many_frames():
    world = video_world()
    codes, frames = video(world, 4)
    assert frames.shape == (2, 1 + 3 * 2, 2, 2, 4)
    assert torch.equal(world.tokenizer.encode(frames)[:, 1:], codes[:, 1:])


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_a_step_dreams_the_latents_own_frames(kind, window):
    world = video_world(kind, window=window)
    _, frames = video(world, 3)
    clip = Clip(frames, random_actions(kind, 2, 4), torch.ones(2, 5, dtype=torch.bool))
    state, history = world.init(clip), world.tokenizer.encode(frames)
    for seed in range(6):
        action = SPECS[kind].join(random_actions(kind, 2, 2, seed), 2)[:, 0]
        _, codes = world.step_codes(state.clone(), action, sampling=GREEDY)
        state, seen = world.step(state, action, sampling=GREEDY)
        history = torch.cat([history, codes[:, None]], 1)
        assert seen.shape == (2, 2, 2, 2, 4)
        assert torch.equal(seen, world.tokenizer.decode(history)[:, -2:])


def test_a_video_dream_of_a_single_image_and_of_a_clip():
    world = video_world()
    _, frames = video(world, 3)
    actions = random_actions("discrete", 2, 8)
    dream = world.generate(Clip(frames, actions[:, :4], torch.ones(2, 5, dtype=torch.bool)), actions[:, 4:])
    assert dream.frames.shape == (2, 9, 2, 2, 4)
    assert torch.equal(dream.frames[:, :5], frames)
    assert torch.equal(dream.actions, actions)
    dream = world.generate(frames[:, 0], actions[:, :6])
    assert dream.frames.shape == (2, 7, 2, 2, 4)
    assert torch.equal(dream.actions, actions[:, :6])
    with pytest.raises(ValueError, match="2 frames at a time"):
        world.generate(frames[:, 0], num_frames=3)


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_actions_chosen_by_the_head_of_a_video_world_are_told(kind):
    world = video_world(kind)
    _, frames = video(world, 1)
    dream = world.generate(frames[:, 0], "head", num_frames=4, sampling=GREEDY)
    told = SPECS[kind].join(dream.actions, 2)
    state = world.init(Clip(frames, None, torch.ones(2, 1, dtype=torch.bool)))
    for index in range(2):
        state, seen = world.step(state, told[:, index], sampling=GREEDY)
        assert torch.equal(seen, dream.frames[:, 1 + 2 * index : 3 + 2 * index])


def test_a_video_world_learns_from_latents_whose_frames_are_all_real():
    world = video_world()
    _, frames = video(world, 4)
    actions, valid = random_actions("discrete", 2, 6), torch.ones(2, 7, dtype=torch.bool)
    alone = world(Clip(frames[:, :5], actions[:, :4], valid[:, :5]))
    for real in (5, 6):  # with 6, latent 3 is half padding
        padded = valid.clone()
        padded[:, real:] = False
        torch.testing.assert_close(world(Clip(frames, actions, padded)).total, alone.total)


def test_video_codecs_and_temporal_convolutions_exclude_each_other():
    config = TokenizerConfig(
        height=2, width=4, channels=2, code_dim=4, codebook_size=12, external_codec=True, temporal_convs=True
    )
    with pytest.raises(ValueError, match="temporal_stride"):
        Tokenizer(config, PairCodec())


class ChannelLast(IdentityCodec):
    latent_channel_first = False

    def encode(self, frames):
        return frames.movedim(2, -1)

    def decode(self, latents):
        assert latents.shape[-1] == 4
        return latents.movedim(-1, 2)


@pytest.mark.parametrize("temporal_convs", [False, True])
def test_channel_last_latents_are_turned_at_the_boundary(temporal_convs):
    """On a grid that is not square, a missed turn would be silent no longer, but so would a wrong one."""
    first = make_tokenizer((2, 6), trainable=True, temporal_convs=temporal_convs)
    last = Tokenizer(first.config, ChannelLast(), trainable=True)
    last.load_state_dict(first.state_dict())
    frames = torch.rand(2, 3, 4, 2, 6) * 2 - 1
    codes = first.encode(frames)
    assert torch.equal(last.encode(frames), codes)
    assert torch.equal(last.decode(codes), first.decode(codes))
    clip = Clip(frames, None, torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(last(clip).total, first(clip).total)


def test_identity_codec_trains_a_world_on_latents_outside_the_range_of_pixels():
    tokenizer = make_tokenizer()
    with torch.no_grad():
        tokenizer.codebook.mul_(10)
    codes = torch.randint(12, (2, 3, 32))
    latents = tokenizer.decode(codes)
    assert latents.abs().max() > 1
    assert torch.equal(tokenizer.encode(latents), codes)


def test_codec_and_config_must_agree():
    config = TokenizerConfig(height=2, width=4, channels=4, code_dim=4, external_codec=True)
    with pytest.raises(ValueError, match="external_codec"):
        Tokenizer(config)
    with pytest.raises(ValueError, match="external_codec"):
        Tokenizer(TokenizerConfig(), IdentityCodec())
    with pytest.raises(ValueError, match="code_dim"):
        Tokenizer(TokenizerConfig(height=2, width=4, channels=3, code_dim=4, external_codec=True), IdentityCodec())
    with pytest.raises(ValueError, match="multiples of 8"):
        Tokenizer(TokenizerConfig(height=20, width=16))


@pytest.mark.parametrize(("height", "width", "channels"), [(16, 32, 3), (32, 16, 4), (16, 16, 4)])
def test_the_default_codec_dreams_rgb_and_depth_on_any_grid(height, width, channels):
    torch.manual_seed(0)
    config = TokenizerConfig(
        height=height, width=width, channels=channels, codebook_size=16, code_dim=4, codec_width=8, codec_depth=1
    )
    tokenizer = Tokenizer(config)
    assert tokenizer.grid == (height // 8, width // 8)
    world = make_world(tokenizer=tokenizer, tokens_per_step=1)
    dream = world.generate(torch.rand(2, channels, height, width) * 2 - 1, num_frames=3)
    assert dream.frames.shape == (2, 4, channels, height, width)
    assert dream.frames.abs().max() <= 1


def test_codes_keep_their_place_on_the_grid():
    """One code changed changes its own 8 x 8 pixels most, wherever it lies."""
    tokenizer = make_tokenizer((2, 6))
    codes = torch.zeros(1, 1, 12, dtype=torch.int64)
    blank = tokenizer.decode(codes)
    for place in range(12):
        changed = codes.clone()
        changed[0, 0, place] = 1
        where = (tokenizer.decode(changed) != blank)[0, 0].any(0).nonzero().tolist()
        assert where == [[place // 6, place % 6]]


def test_contexts_of_the_tests_encode_to_their_codes():
    world = make_world()
    codes = random_codes(world, 2, 4)
    assert torch.equal(world.tokenizer.encode(context(world, codes, None).frames), codes)
