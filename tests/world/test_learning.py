"""A world whose truth is known, a dot on an 8 x 8 grid moved by the action: learned from codes alone, then obeyed."""

import pytest
import torch
from torch import Tensor

from oneiros.records import ActionSpec, Clip, CodeClip
from oneiros.sampling import Sampling
from oneiros.world.config import WorldConfig
from oneiros.world.model import World
from tests.world.worlds import make_tokenizer, make_world, random_actions, random_codes

SIZE, BATCH, FRAMES, STEPS = 8, 12, 3, 500
MOVES = torch.tensor([[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]])  # rows, columns; the edges wrap around
SPEC = ActionSpec("discrete", ("stay", "left", "right", "up", "down"))


def places(start: Tensor, actions: Tensor) -> Tensor:
    """Where the dot is in every frame (B, T, 2), from (B, 2) and actions (B, T - 1)."""
    return torch.cat([start[:, None], start[:, None] + MOVES[actions].cumsum(1)], 1) % SIZE


def codes_of(dots: Tensor) -> Tensor:
    """A cross through the dot: 2 in its row, 1 in its column, 3 where it is, elsewhere 0."""
    in_row, in_column = (dots[..., axis, None] == torch.arange(SIZE) for axis in (0, 1))
    return (2 * in_row[..., :, None] + in_column[..., None, :].long()).flatten(-2)


def episodes(batch: int, frames: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    actions = torch.randint(len(MOVES), (batch, frames - 1), generator=generator)
    return codes_of(places(torch.randint(SIZE, (batch, 2), generator=generator), actions)), actions


@pytest.fixture(scope="module")
def dot_world() -> World:
    torch.manual_seed(0)
    config = WorldConfig(
        action_spec=SPEC,
        dim=64,
        depth=2,
        head_dim=32,
        tokens_per_step=16,
        window=2,
        num_meta_tokens=4,
        action_dropout=0.0,
        action_weight=0.0,
        scale_learning_rate=1.0,
    )
    world = World(config, make_tokenizer((SIZE, SIZE), codebook_size=4)).train()
    optimiser = torch.optim.AdamW(world.parameters(), 6e-3, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=STEPS)
    for step in range(STEPS):
        codes, actions = episodes(BATCH, FRAMES, step)
        seeds = torch.arange(BATCH) + BATCH * step
        loss = world(CodeClip(codes, actions, torch.ones(BATCH, FRAMES, dtype=torch.bool), seeds=seeds))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        schedule.step()
    return world.eval()


@torch.no_grad()
def test_the_next_code_is_learned(dot_world):
    codes, actions = episodes(128, FRAMES, 10**6)
    valid = torch.ones(128, FRAMES, dtype=torch.bool)
    assert float(dot_world(CodeClip(codes, actions, valid)).parts["world/accuracy"]) > 0.99
    # Without the actions, or with another's, it cannot be known.
    assert float(dot_world(CodeClip(codes, None, valid)).parts["world/accuracy"]) < 0.95
    assert float(dot_world(CodeClip(codes, actions.roll(1, 0), valid)).parts["world/accuracy"]) < 0.95


def test_a_dream_obeys_its_actions(dot_world):
    """Far beyond the window, and each frame by its own action."""
    frames, greedy = 12, Sampling(temperature=0.0)
    generator = torch.Generator().manual_seed(10**6 + 1)
    actions = torch.randint(len(MOVES), (32, frames), generator=generator)
    dots = places(torch.randint(SIZE, (32, 2), generator=generator), actions)
    start = Clip(dot_world.tokenizer.decode(codes_of(dots[:, :1])), None, torch.ones(32, 1, dtype=torch.bool))

    def share_of_true_frames(given):
        seen = dot_world.tokenizer.encode(dot_world.generate(start, given, sampling=greedy).frames)
        return float((seen == codes_of(dots))[:, 1:].all(-1).float().mean())

    assert share_of_true_frames(actions) > 0.9
    assert share_of_true_frames(actions.roll(1, 0)) < 0.3


@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
@pytest.mark.parametrize("tokens_per_step", [1, 8])
def test_a_batch_can_be_overfitted(kind, tokens_per_step):
    torch.manual_seed(0)
    tokenizer = make_tokenizer((2, 4))
    world = make_world(
        kind, tokenizer=tokenizer, tokens_per_step=tokens_per_step, action_weight=1.0, action_dropout=0.0
    )
    clip = CodeClip(random_codes(world, 3, 4), random_actions(kind, 3, 3), torch.ones(3, 4, dtype=torch.bool))
    optimiser = torch.optim.AdamW(world.parameters(), 1e-2)
    world.train()
    for _ in range(150):
        optimiser.zero_grad()
        loss = world(clip)
        loss.total.backward()
        optimiser.step()
    assert float(loss.parts["world/action"]) < 0.1
    if tokens_per_step == 1:  # codes drawn together are independent given the past, which tells random clips apart
        assert float(loss.parts["world/accuracy"]) > 0.99
    assert float(loss.parts["world/accuracy"]) > 0.9


def test_joint_training_can_overfit_a_batch():
    torch.manual_seed(0)
    tokenizer = make_tokenizer((2, 4), trainable=True, temporal_convs=True)
    world = make_world(tokenizer=tokenizer, joint=True, action_dropout=0.0).train()
    frames = torch.rand(2, 4, 4, 2, 4) - 0.5
    clip = Clip(frames, random_actions("discrete", 2, 3), torch.ones(2, 4, dtype=torch.bool))
    optimiser = torch.optim.AdamW(world.parameters(), 5e-3)
    history = []
    for _ in range(200):
        optimiser.zero_grad()
        loss = world(clip)
        loss.total.backward()
        optimiser.step()
        world.after_step()
        history.append(loss.parts)
    assert float(history[-1]["world/accuracy"]) > 0.95
    assert float(history[-1]["tokenizer/reconstruction"]) < 0.5 * float(history[0]["tokenizer/reconstruction"])
