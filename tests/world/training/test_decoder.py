"""A decoder that learns to draw sharp: of a finished tokenizer or world, and as the last part of training one."""

import shutil

import pytest
import torch

from oneiros.data.frames import to_uint8
from oneiros.disk import contained
from oneiros.records import Clip
from oneiros.run_folder import read_config, read_origin
from oneiros.train.log import read_metrics
from oneiros.world.built_in import STARTS
from oneiros.world.codes import fingerprint_of
from oneiros.world.metrics import sharpness
from oneiros.world.model import World
from oneiros.world.settings import DecoderSettings
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from oneiros.world.training import decoder, tokenizer
from oneiros.world.training.sharpening import Sharpening
from tests.recorded import tokenizer_settings
from tests.world.worlds import make_tokenizer


def decoder_settings(run, data, out, **options) -> DecoderSettings:
    defaults = {"preset": "tiny", "steps": 4, "batch_size": 4, "precision": "float32", "cache": run.parent / "frames"}
    return DecoderSettings(run=run, data=data, out=out, **{**defaults, **options})


def weights(model: torch.nn.Module, *, drawing: bool) -> dict[str, torch.Tensor]:
    """Those that draw frames from codes, or all others."""
    draws = ("codec.decoder.", "codec.latent_to_patch.")
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(draws) == drawing}


def test_only_what_draws_is_changed(recording, tokenizer_run, tmp_path):
    before = fingerprint_of(Tokenizer.load(tokenizer_run))
    decoder.run(decoder_settings(tokenizer_run, recording, tmp_path / "sharp"))
    old, new = Tokenizer.load(tokenizer_run), Tokenizer.load(tmp_path / "sharp")
    assert fingerprint_of(old) == before
    torch.testing.assert_close(weights(new, drawing=False), weights(old, drawing=False), rtol=0, atol=0)
    assert any(not torch.equal(new.state_dict()[name], tensor) for name, tensor in weights(old, drawing=True).items())
    assert read_origin(tmp_path / "sharp").held_out == read_origin(tokenizer_run).held_out
    assert read_metrics(tmp_path / "sharp" / "metrics.jsonl")[-1]["held_out/sharpness"] > 0


def test_a_world_keeps_its_dreams_and_its_starts(recording, world_run, tmp_path):
    decoder.run(decoder_settings(world_run, recording, tmp_path / "sharp"))
    old, new = World.load(world_run), World.load(tmp_path / "sharp")
    torch.testing.assert_close(new.dynamics.state_dict(), old.dynamics.state_dict(), rtol=0, atol=0)
    assert (tmp_path / "sharp" / STARTS).read_bytes() == (world_run / STARTS).read_bytes()


def test_a_stopped_run_goes_on_to_the_same_end(recording, tokenizer_run, tmp_path, monkeypatch):
    whole = decoder_settings(tokenizer_run, recording, tmp_path / "whole", save_every=2)
    decoder.run(whole)
    saved = decoder_settings(tokenizer_run, recording, tmp_path / "cut", save_every=2)
    monkeypatch.setattr("oneiros.train.fit._Run._finished", lambda run: run.stepper.step == 2)
    decoder.run(saved)
    monkeypatch.undo()
    decoder.run(decoder_settings(tokenizer_run, recording, tmp_path / "cut", save_every=2, resume=True))
    one, other = Tokenizer.load(tmp_path / "whole"), Tokenizer.load(tmp_path / "cut")
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_a_tokenizers_training_ends_with_it(recording, tokenizer_run, tmp_path):
    settings = tokenizer_settings(recording, tmp_path, cache=tokenizer_run / "cache", steps=6, sharpen_steps=3)
    tokenizer.run(settings)
    plain = tokenizer_settings(recording, tmp_path / "plain", cache=tokenizer_run / "cache", steps=6)
    tokenizer.run(plain)
    sharp, before = Tokenizer.load(tmp_path), Tokenizer.load(tmp_path / "plain")
    torch.testing.assert_close(weights(sharp, drawing=False), weights(before, drawing=False), rtol=0, atol=0)
    within = Tokenizer.load(contained(tmp_path, "sharp"))
    torch.testing.assert_close(weights(sharp, drawing=True), weights(within, drawing=True), rtol=0, atol=0)
    assert any(not torch.equal(sharp.state_dict()[name], old) for name, old in weights(before, drawing=True).items())
    assert read_config(tmp_path).recipe["sharpen_steps"] == 3


def test_longer_training_begins_the_last_part_anew(recording, tokenizer_run, tmp_path):
    options = {"cache": tokenizer_run / "cache", "sharpen_steps": 3}
    tokenizer.run(tokenizer_settings(recording, tmp_path, steps=6, **options))
    before = Tokenizer.load(tmp_path).codebook
    tokenizer.run(tokenizer_settings(recording, tmp_path, steps=8, resume=True, **options))
    assert not torch.equal(Tokenizer.load(tmp_path).codebook, before)
    whole, within = Tokenizer.load(tmp_path), Tokenizer.load(tmp_path / "sharp")
    torch.testing.assert_close(whole.state_dict(), within.state_dict(), rtol=0, atol=0)
    assert read_metrics(tmp_path / "sharp" / "metrics.jsonl")[-1]["step"] == 3


def test_texture_that_codes_leave_open_is_drawn(monkeypatch):
    """Frames are noise that no code can hold: squared error learns their mean, a grey; with a critic, some is drawn."""

    def sharpness_after(steps: int) -> float:
        torch.manual_seed(0)
        config = TokenizerConfig(height=16, width=16, codebook_size=16, code_dim=4, codec_width=16, codec_depth=1)
        frames, model = (torch.rand(64, 1, 3, 16, 16) - 0.5).sign() * 0.8, Sharpening(Tokenizer(config))
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(learned, lr=2e-3, betas=(0.5, 0.95))
        for step in range(steps):
            batch = frames[torch.arange(step * 8, step * 8 + 8) % 64]
            optimizer.zero_grad()
            model(Clip(batch, None, torch.ones(8, 1, dtype=torch.bool))).total.backward()
            optimizer.step()
        drawn = model.tokenizer.decode(model.tokenizer.encode(frames))[:, 0]
        return float(sharpness(to_uint8(drawn[:, None])).mean())

    with_critic = sharpness_after(150)
    monkeypatch.setattr("oneiros.world.training.sharpening._MATCHING", 0.0)
    monkeypatch.setattr("oneiros.world.training.sharpening._ADVERSARIAL", 0.0)
    assert with_critic > 1.4 * sharpness_after(150)


def test_the_critics_loss_reaches_the_critic_alone():
    config = TokenizerConfig(height=16, width=16, codebook_size=16, code_dim=4, codec_width=8, codec_depth=1)
    model = Sharpening(Tokenizer(config))
    frames = torch.rand(4, 1, 3, 16, 16) * 2 - 1
    model(Clip(frames, None, torch.ones(4, 1, dtype=torch.bool))).total.backward()
    before = {name: parameter.grad.clone() for name, parameter in model.critic.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = None
    real, plain = frames[:, 0], model.plain.decode(model.tokenizer.vectors(model.tokenizer.encode(frames)))[:, 0]
    ours = (
        model.critic(real, plain)[0],
        model.critic(
            model.tokenizer.codec.decode(model.tokenizer.vectors(model.tokenizer.encode(frames)))[:, 0].detach(), plain
        )[0],
    )
    ((1 - ours[0]).relu().mean() + (1 + ours[1]).relu().mean()).backward()
    for name, parameter in model.critic.named_parameters():
        torch.testing.assert_close(parameter.grad, before[name])


def test_depth_learns_from_squared_error_alone(monkeypatch):
    """A critic of depth finds the steps of its recording, and roughens what should be smooth."""
    config = TokenizerConfig(
        height=16, width=16, channels=4, codebook_size=16, code_dim=4, codec_width=8, codec_depth=1, linear_path=True
    )
    model = Sharpening(Tokenizer(config))
    monkeypatch.setattr("oneiros.world.training.sharpening._RECONSTRUCTION", 0.0)
    frames = torch.rand(4, 1, 4, 16, 16) * 2 - 1
    model(Clip(frames, None, torch.ones(4, 1, dtype=torch.bool))).total.backward()
    of_patches = model.tokenizer.codec.latent_to_patch.bias.grad.view(4, 64)
    assert of_patches[:3].abs().amin() > 0
    assert of_patches[3].abs().amax() == 0


def test_half_is_drawn_of_dreamed_codes_and_stays_with_what_was_drawn_of_them(monkeypatch):
    monkeypatch.setattr("oneiros.world.training.sharpening._MATCHING", 0.0)
    monkeypatch.setattr("oneiros.world.training.sharpening._ADVERSARIAL", 0.0)
    torch.manual_seed(0)
    config = TokenizerConfig(height=16, width=16, codebook_size=16, code_dim=4, codec_width=8, codec_depth=1)
    made = Tokenizer(config)
    codes, asked = torch.randint(16, (4, 1, 4)), []

    def dream(clip: Clip) -> torch.Tensor:
        asked.append(clip)
        return codes

    model = Sharpening(made, dream)
    clip = Clip(torch.rand(4, 6, 3, 16, 16) * 2 - 1, None, torch.ones(4, 6, dtype=torch.bool))
    real, vectors, _, dreamed = model._examples(clip)
    assert torch.equal(real, clip.frames[:, 5])
    assert dreamed.tolist() == [False, True, False, True]
    of_dream, of_real = made.vectors(codes), made.vectors(made.encode(clip.frames[:, 5:]))
    assert torch.equal(vectors[1::2], of_dream[1::2])
    assert torch.equal(vectors[::2], of_real[::2])
    drawn = made.codec.decode(of_real)[::2, 0]
    parts = model(clip).parts  # the decoder draws still as it did: nothing is lost where a code was dreamed
    torch.testing.assert_close(parts["decoder/reconstruction"], (drawn - real[::2]).square().mean() / 2)
    assert asked[0] is clip


def test_beside_a_reference_what_is_drawn_of_dreamed_codes_is_held_against_the_real_frame():
    torch.manual_seed(0)
    config = TokenizerConfig(
        height=16, width=16, codebook_size=16, code_dim=4, codec_width=8, codec_depth=1, reference_frame=True
    )
    made, codes = Tokenizer(config).eval(), torch.randint(16, (4, 1, 4))
    model = Sharpening(made, lambda clip: codes).eval()
    clip = Clip(torch.rand(4, 6, 3, 16, 16) * 2 - 1, None, torch.ones(4, 6, dtype=torch.bool))
    real, vectors, reference, dreamed = model._examples(clip)
    assert torch.equal(real, clip.frames[:, 5])
    assert torch.equal(reference[:, 0], clip.frames[:, 3])
    assert torch.equal(vectors[dreamed], made.vectors(codes)[dreamed])
    drawn = made.codec.decode(vectors, reference)[:, 0]
    torch.testing.assert_close(model(clip).parts["decoder/reconstruction"], (drawn - real).square().mean())


def test_what_is_drawn_of_a_world_follows_its_dreams(recording, world_run):
    recipe = decoder.prepare(decoder_settings(world_run, recording, world_run.parent / "unused").completed())
    batch = recipe.make_batch([0, 7], torch.arange(2))
    assert batch.frames.shape[:2] == (2, 6)
    torch.manual_seed(0)
    codes = recipe.model.dream(batch)
    world = World.load(world_run).prepare_for_inference()
    torch.manual_seed(0)
    state = world.init(Clip(batch.frames[:, :4], batch.actions[:, :3], batch.valid[:, :4]))
    state, _ = world.step_codes(state, batch.actions[:, 3])
    assert torch.equal(world.step_codes(state, batch.actions[:, 4])[1][:, None], codes)


def test_decoders_that_are_not_ours_are_refused():
    with pytest.raises(ValueError, match="only the default codec's decoder"):
        Sharpening(make_tokenizer())


def test_a_run_that_draws_nothing_is_refused(recording, tokenizer_run, tmp_path):
    shutil.copytree(tokenizer_run, tmp_path / "run", ignore=shutil.ignore_patterns("cache"))
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"kind": "tokenizer"', '"kind": "cloning"'))
    with pytest.raises(ValueError, match="holds a cloning; only a tokenizer's or a world's decoder draws frames"):
        decoder.run(decoder_settings(tmp_path / "run", recording, tmp_path / "out"))
