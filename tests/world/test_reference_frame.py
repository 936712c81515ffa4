"""A decoder that is shown an earlier frame: what stays need not be said by codes."""

from dataclasses import replace

import pytest
import torch

from oneiros.data.episodes.clips import Clips
from oneiros.data.episodes.source import EpisodeArrays
from oneiros.records import Clip
from oneiros.sampling import Sampling
from oneiros.world.evaluation.fidelity import reconstruct
from oneiros.world.nn.codec import IdentityCodec, ImageCodec
from oneiros.world.settings import DecoderSettings
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from oneiros.world.training import decoder, tokenizer
from oneiros.world.training.drawn_frames import drawn_again, frames_of
from tests.recorded import tokenizer_settings
from tests.world.worlds import make_world, scramble

CONFIG = TokenizerConfig(
    height=16, width=16, codebook_size=8, code_dim=4, codec_width=8, codec_depth=1, reference_frame=True
)
NOISE = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1  # a wall that no 8 entries can say


def make(**options) -> Tokenizer:
    torch.manual_seed(0)
    made = Tokenizer(replace(CONFIG, **options), trainable=True)
    scramble(made.codec)
    made.start_codebook(made.codebook.clone())
    return made.eval()


def random_clip(batch: int = 2, frames: int = 3) -> Clip:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(batch, frames, 3, 16, 16, generator=generator) * 2 - 1
    return Clip(pixels, None, torch.ones(batch, frames, dtype=torch.bool))


def test_codes_depend_on_their_frame_alone_and_drawings_on_the_reference_too():
    made, clip = make(), random_clip()
    codes = made.encode(clip.frames)
    assert torch.equal(codes[:, 1:], made.encode(clip.frames[:, 1:]))
    with_one, with_other = (made.decode(codes, reference=clip.frames[:, i : i + 1]) for i in (0, 1))
    assert not torch.allclose(with_one, with_other)
    grey = torch.zeros_like(clip.frames[:, :1])
    torch.testing.assert_close(made.decode(codes), made.decode(codes, reference=grey))


@pytest.mark.parametrize("linear_path", [False, True])
def test_a_decoder_in_bf16_changes_pixels_by_rounding_alone(linear_path, monkeypatch):
    monkeypatch.setattr("oneiros.world.tokenizer.bf16_is_faster", lambda device: True)
    made, clip = make(linear_path=linear_path), random_clip()
    codes, reference = made.encode(clip.frames), clip.frames[:, :1]
    exact = made.decode(codes, reference=reference)
    made.prepare_for_inference()
    rounded = made.decode(codes, reference=reference)
    assert not torch.equal(rounded, exact)
    assert (rounded - exact).abs().mean() < 0.02


def test_where_the_mask_is_open_the_reference_shows_and_elsewhere_the_drawing():
    codec = ImageCodec(latent_dim=4, width=8, depth=1, reference_frame=True)
    last = codec.decoder[-2]
    latents, reference = torch.randn(2, 3, 4, 2, 2), torch.rand(2, 1, 3, 16, 16)
    with torch.no_grad():
        last.bias[-4:] = 30.0  # pixel-shuffled by 2: the last four are the mask's
    torch.testing.assert_close(codec.decode(latents, reference), reference.expand(-1, 3, -1, -1, -1))
    with torch.no_grad():
        last.bias[-4:] = -30.0
    drawn = codec.decode(latents, reference)
    with torch.no_grad():
        last.weight[-4:] = 0
    torch.testing.assert_close(codec.decode(latents, reference), drawn, atol=1e-5, rtol=0)
    assert (drawn - reference).abs().max() > 0.1


def test_a_still_wall_is_learned_from_the_reference_and_what_moves_from_codes():
    """A bright square before a wall of noise, different in every clip: too much for 8 entries of 4 cells."""
    torch.manual_seed(0)

    def batch(seed: int, count: int = 16) -> Clip:
        generator = torch.Generator().manual_seed(seed)
        frames = torch.rand(count, 1, 3, 16, 16, generator=generator).repeat(1, 2, 1, 1, 1) - 1
        for clip in range(count):
            row, column = (8 * torch.randint(2, (2,), generator=generator)).tolist()
            frames[clip, 1, :, row : row + 8, column : column + 8] = 0.9
        return Clip(frames, None, torch.ones(count, 2, dtype=torch.bool), seeds=torch.arange(count) + seed * count)

    errors = {}
    for shown in (True, False):
        torch.manual_seed(0)
        made = Tokenizer(replace(CONFIG, reference_frame=shown, rotation_trick=False), trainable=True).train()
        optimizer = torch.optim.Adam(made.parameters(), 5e-3)
        for step in range(100):
            clip = batch(step)
            loss = made(clip if shown else replace(clip, frames=clip.frames[:, 1:], valid=clip.valid[:, 1:])).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            made.after_step()
        made.eval()
        clip = batch(1000)
        drawn = made.decode(made.encode(clip.frames[:, 1:]), reference=clip.frames[:, :1])
        errors[shown] = float((drawn - clip.frames[:, 1:]).square().mean())
    assert errors[True] < 0.25 * errors[False], errors


def test_the_first_frame_is_the_reference_and_is_not_learned_from():
    made, clip = make(), random_clip()
    rest, reference = made.with_reference(clip)
    assert torch.equal(reference, clip.frames[:, :1])
    assert torch.equal(rest.frames, clip.frames[:, 1:])
    assert rest.valid.shape == (2, 2)
    loss = made(clip).parts["tokenizer/reconstruction"]
    drawn = made._frames(made.vectors(made.encode(rest.frames)), reference)
    torch.testing.assert_close(loss, (drawn - rest.frames).square().mean())
    with pytest.raises(ValueError, match="2 frames or more"):
        made.with_reference(random_clip(frames=1))


def test_in_training_one_reference_in_ten_is_hidden():
    made, clip = make().train(), random_clip(batch=400, frames=2)
    _, reference = made.with_reference(replace(clip, seeds=torch.arange(400)))
    hidden = reference.flatten(1).abs().amax(1) == 0
    assert 20 <= int(hidden.sum()) <= 60


def test_the_later_frame_is_chosen_by_the_seed_in_the_same_episode():
    lengths = (80, 5)
    clips = Clips([EpisodeArrays(np_frames(n), None, "", i) for i, n in enumerate(lengths)], None, length=1)

    def later(index: int) -> tuple[set[int], set[int]]:
        batch = frames_of(clips, CONFIG, [index] * 300, torch.arange(300))
        numbers = ((batch.frames[:, :, 0, 0, 0] + 1) * 127.5).round().int()
        assert batch.valid.all()
        return set(numbers[:, 0].tolist()), set(numbers[:, 1].tolist())

    assert later(3) == ({3}, set(range(4, 68)))
    assert later(76) == ({76}, {77, 78, 79})
    assert later(79) == ({79}, {79})
    assert later(81) == ({1}, {2, 3, 4})
    one = frames_of(clips, replace(CONFIG, reference_frame=False), [3, 81], torch.arange(2))
    assert one.frames.shape == (2, 1, 3, 16, 16)


def np_frames(count: int):
    """uint8 frames (count, 16, 16, 3), each of its own number."""
    numbers = torch.arange(count, dtype=torch.uint8)
    return numbers[:, None, None, None].expand(-1, 16, 16, 3).contiguous().numpy()


def test_a_dream_shows_the_last_real_frame():
    world = make_world("discrete", tokenizer=make(), tokens_per_step=2)
    clip = replace(random_clip(frames=4), actions=torch.zeros(2, 3, dtype=torch.long))
    state = world.init(clip)
    for _ in range(2):
        state, frame = world.step(state, torch.ones(2, dtype=torch.long), sampling=Sampling(temperature=0))
        expected = world.tokenizer.decode(state.codes[:, -1:], reference=clip.frames[:, -1:])[:, 0]
        torch.testing.assert_close(frame, expected)
    ceiling = world.tokenizer.decode(world.tokenizer.encode(clip.frames), reference=clip.frames[:, 1:2])
    expected = ((ceiling[:, :, :3] + 1) * 127.5).round().clamp(0, 255).movedim(2, -1)
    assert (reconstruct(world, clip, 2).float() - expected).abs().max() <= 1


def test_a_codec_of_ones_own_is_shown_none():
    with pytest.raises(ValueError, match="default codec"):
        Tokenizer(replace(CONFIG, channels=4, external_codec=True), IdentityCodec())


def test_it_is_trained_saved_and_made_sharp_as_others_are(recording, tmp_path):
    settings = tokenizer_settings(recording, tmp_path / "run", reference_frame=True, steps=6, sharpen_steps=2)
    tokenizer.run(settings)
    made = Tokenizer.load(tmp_path / "run")
    assert made.config.reference_frame
    frames = torch.zeros(1, 2, 3, 32, 32)
    assert drawn_again(made, frames).shape == (1, 1, 3, 32, 32)
    decoder.run(
        DecoderSettings(
            run=tmp_path / "run", data=recording, out=tmp_path / "sharp", preset="tiny", steps=2, batch_size=4
        )
    )
    assert Tokenizer.load(tmp_path / "sharp").config.reference_frame
