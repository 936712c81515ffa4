"""What training forgets, moves and replaces at random, by numbers keyed by sample."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from oneiros.records import CodeClip
from oneiros.world.model import World
from tests.world.worlds import (
    KINDS,
    close,
    code_clip,
    make_world,
    rows,
)


def seeded(world: World, kind, batch=6) -> CodeClip:
    return replace(code_clip(world, kind, batch), seeds=torch.arange(batch) * 1000 + 7)


@pytest.mark.parametrize("kind", KINDS)
def test_cutting_a_batch_changes_no_random_number(kind):
    world = make_world(kind, corruption=0.5).train()
    clip = seeded(world, kind)
    whole = world(clip)
    halves = [world(rows(clip, chosen)) for chosen in (slice(0, 2), slice(2, 6))]
    for name in whole.parts:
        torch.testing.assert_close(
            (2 * halves[0].parts[name] + 4 * halves[1].parts[name]) / 6, whole.parts[name], atol=1e-5, rtol=1e-5
        )
    close(world(rows(clip, torch.tensor([5, 3, 1, 0, 2, 4]))), whole)
    close(world(clip), whole)  # and nothing depends on what was drawn before
    other = world(replace(clip, seeds=clip.seeds + 1))
    assert other.total.item() != whole.total.item()


def test_seeded_training_never_touches_the_global_random_numbers():
    world = make_world(corruption=0.5).train()
    clip = seeded(world, "discrete")
    before = torch.random.get_rng_state()
    world(clip)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_without_seeds_all_the_same_is_drawn_from_torchs_generator():
    world = make_world(corruption=0.9, action_dropout=0.5)
    clip = replace(seeded(world, "discrete"), seeds=None)
    evaluated = world(clip)
    close(world(clip), evaluated)
    world.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(world(clip).total.item())
    assert drawn[0] == drawn[1]
    assert len({*drawn, evaluated.total.item()}) == 3


def test_a_clip_without_seeds_teaches_the_null_embedding_that_guidance_needs():
    world = make_world(action_dropout=1.0).train()
    world(replace(seeded(world, "discrete"), seeds=None)).total.backward()
    assert world.action_embedding.null.grad.abs().sum() > 0


def test_action_noise_is_drawn_without_seeds_too():
    world = make_world("continuous", action_dropout=0.0, action_weight=0.0, action_noise=0.5).train()
    clip = replace(seeded(world, "continuous"), seeds=None)
    assert world(clip).total.item() != world(clip).total.item()


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_action_dropout_forgets_a_whole_clips_actions(kind):
    world = make_world(kind, action_dropout=0.5, action_weight=0.0)
    clip = seeded(world, kind, batch=40)
    forgotten = 0
    for row in range(40):
        one = rows(clip, slice(row, row + 1))
        total = world.train()(one).total
        known, unknown = world.eval()(one).total, world(replace(one, actions=None)).total
        assert (known - unknown).abs().item() > 1e-6
        nearest = min((known, unknown), key=lambda t: (total - t).abs().item())
        torch.testing.assert_close(total, nearest)
        forgotten += nearest is unknown
    assert 10 <= forgotten <= 30


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_action_dropout_never_and_always(probability):
    world = make_world(action_dropout=probability, action_weight=0.0).train()
    clip = seeded(world, "discrete")
    actions = clip.actions if probability == 0 else None
    close(world(clip), world.eval()(replace(clip, actions=actions)))


def test_the_head_goes_on_learning_from_forgotten_clips():
    world = make_world(action_dropout=1.0).train()
    assert "world/action" in world(seeded(world, "discrete")).parts


def test_corruption_replaces_inputs_up_to_its_fraction_and_never_targets():
    world = make_world(corruption=0.4, action_dropout=0.0).train()
    clip, seen = seeded(world, "discrete", batch=30), []
    run = world.dynamics.forward
    world.dynamics.forward = lambda codes, *rest, **options: (seen.append(codes), run(codes, *rest, **options))[1]
    corrupted = world(clip)
    hits = (seen[0] != clip.codes).float().mean((1, 2))
    assert 0 < hits.max() < 0.4
    assert 0.1 < float(hits.mean()) < 0.25  # uniform up to 0.4, less the replacements by the same code
    # The loss is still about the true codes: on the corrupted ones it would be another.
    outputs = world.dynamics.forward(seen[0], world.action_embedding(clip.actions, 5, 30))
    logits = world.dynamics.logits(world.dynamics.predictions(outputs[:, 1:]))
    truth = clip.codes[:, 1:, world.dynamics.layout.order]
    torch.testing.assert_close(
        corrupted.parts["world/state"], F.cross_entropy(logits.flatten(0, 2), truth.flatten()).detach()
    )


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_action_noise_moves_continuous_actions_in_training_alone(kind):
    plain = make_world(kind, action_dropout=0.0, action_weight=0.0)
    noisy = make_world(kind, action_dropout=0.0, action_weight=0.0, action_noise=0.5)
    clip = seeded(plain, kind)
    for training in (False, True):
        plain.train(training)
        noisy.train(training)
        moved = not torch.equal(plain(clip).total, noisy(clip).total)
        assert moved == (training and kind == "continuous")
    close(noisy(rows(clip, torch.tensor([5, 3, 1, 0, 2, 4]))), noisy(clip))  # each sample's noise is its own
