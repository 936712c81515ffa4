"""A tokenizer trained along with its world, and one that is not."""

import pytest
import torch

from oneiros.records import Clip
from oneiros.world.nn.codec import IdentityCodec
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from tests.world.worlds import (
    code_clip,
    make_tokenizer,
    make_world,
    random_actions,
)


def test_a_frozen_tokenizer_learns_nothing():
    world = make_world(tokenizer=make_tokenizer(temporal_convs=True)).train()
    clip = code_clip(world, "discrete")
    frames = world.tokenizer.decode(clip.codes)
    world(Clip(frames, clip.actions, clip.valid)).total.backward()
    assert all(p.grad is None and not p.requires_grad for p in world.tokenizer.parameters())
    assert not world.tokenizer.training
    before = world.dynamics.codebook.clone()
    world.after_step()
    assert torch.equal(world.dynamics.codebook, before)


def test_joint_training_reports_and_weighs_every_part():
    weights = {"commitment_weight": 0.7, "latent_reconstruction_weight": 0.3}
    tokenizer = make_tokenizer(trainable=True, temporal_convs=True, **weights)
    world = make_world(tokenizer=tokenizer, joint=True, state_weight=0.9, action_weight=0.2).train()
    frames = torch.rand(2, 4, 4, 4, 8) - 0.5
    loss = world(Clip(frames, random_actions("discrete", 2, 3), torch.ones(2, 4, dtype=torch.bool)))
    expected = {
        "world/state": 0.9,
        "world/action": 0.2,
        "tokenizer/reconstruction": 1.0,
        "tokenizer/commitment": 0.7,
        "tokenizer/latent_reconstruction": 0.3,
    }
    assert set(loss.parts) == {*expected, "world/accuracy", "tokenizer/codebook_use"}
    torch.testing.assert_close(loss.total.detach(), sum(weight * loss.parts[name] for name, weight in expected.items()))
    loss.total.backward()
    assert world.tokenizer.before.weight.grad.abs().amax() > 0
    assert world.tokenizer.after.weight.grad.abs().amax() > 0


def test_joint_training_moves_the_codebook_that_the_world_scores():
    world = make_world(tokenizer=make_tokenizer(trainable=True), joint=True).train()
    before = world.dynamics.codebook.clone()
    frames = torch.rand(2, 4, 4, 4, 8) - 0.5
    world(Clip(frames, random_actions("discrete", 2, 3), torch.ones(2, 4, dtype=torch.bool))).total.backward()
    world.after_step()
    assert not torch.equal(world.dynamics.codebook, before)
    fresh = make_world(tokenizer=make_tokenizer(trainable=True), joint=True)
    fresh.dynamics.load_state_dict(world.dynamics.state_dict())
    fresh.tokenizer.load_state_dict(world.tokenizer.state_dict())
    fresh.dynamics.set_codebook(fresh.tokenizer.codebook)
    torch.testing.assert_close(fresh.dynamics.codebook, world.dynamics.codebook)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("codec", ["learns", "has nothing to learn"])
def test_after_step_cannot_be_forgotten(codec, fused):
    tokenizer = make_tokenizer(trainable=True)
    if codec == "has nothing to learn":  # as for latents that are made beforehand
        config = TokenizerConfig(height=4, width=8, channels=4, code_dim=4, codebook_size=8, external_codec=True)
        tokenizer = Tokenizer(config, IdentityCodec(), trainable=True)
    world = make_world(tokenizer=tokenizer, joint=True).train()
    clip = Clip(torch.rand(2, 4, 4, 4, 8) - 0.5, random_actions("discrete", 2, 3), torch.ones(2, 4, dtype=torch.bool))
    optimiser = torch.optim.AdamW(world.parameters(), fused=fused)
    for _ in range(2):
        for _ in range(2):  # micro-batches
            world(clip).total.backward()
        optimiser.step()
        world.after_step()
    world(clip).total.backward()
    optimiser.step()
    with pytest.raises(ValueError, match=r"after_step\(\) of the model was not called"):
        world(clip)
    assert len(tokenizer._seen) == 1
    world.eval()(clip)  # evaluation asks for nothing


def test_a_tokenizer_by_itself_does_not_forget_after_step_either():
    tokenizer = make_tokenizer(trainable=True, temporal_convs=True)
    clip = Clip(torch.rand(2, 4, 4, 4, 8) - 0.5, None, torch.ones(2, 4, dtype=torch.bool))
    optimiser = torch.optim.SGD(tokenizer.parameters(), 0.1)
    tokenizer(clip).total.backward()
    optimiser.step()
    with pytest.raises(ValueError, match="call it after every"):
        tokenizer(clip)
