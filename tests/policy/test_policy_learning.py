"""Policies learn a toy whose right actions are known: a dot, which is to be pointed at from where the hand is.

Also what is random in it: a way left or right around, which a diffusion keeps apart and a regression averages.
"""

import pytest
import torch
import torch.nn.functional as F

from oneiros.policy.cloning import Cloning, CloningConfig
from oneiros.policy.config import PolicyConfig
from oneiros.policy.model import Policy
from oneiros.records import ActionSpec, Clip, Loss, Observation, PolicyBatch
from tests.world.worlds import make_world

SPEC = ActionSpec("continuous", ("right", "down"), mean=(0.0, 0.0), std=(0.7, 0.7))
ROWS, COLUMNS, CHUNK, SCALE = 4, 8, 2, 4
SAMPLES = 64


def toy(*, enlarged: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames (B, 4, h, w) with a dot, states (B, 2), and actions (B, 2) from there to the dot."""
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(ROWS * COLUMNS, (SAMPLES,), generator=generator)
    state = torch.rand(SAMPLES, 2, generator=generator) * 2 - 1
    dots = F.one_hot(place, ROWS * COLUMNS).float().view(-1, 1, ROWS, COLUMNS).expand(-1, 4, -1, -1) * 1.6 - 0.8
    where = torch.stack([place % COLUMNS / (COLUMNS - 1), place // COLUMNS / (ROWS - 1)], 1) * 2 - 1
    frames = dots.repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3) if enlarged else dots
    return frames, state, (where - state) / 2


def train(model: Policy | Cloning, batch: PolicyBatch, *, steps: int, rate: float = 3e-3) -> Loss:
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    loss = None
    for step in range(steps):
        seeds = torch.arange(SAMPLES) + step * SAMPLES
        loss = model(PolicyBatch(**{**vars(batch), "seeds": seeds}))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        schedule.step()
    model.eval()
    assert loss is not None
    return loss


def make_policy() -> Policy:
    world = make_world("continuous", frame_stride=1)
    torch.manual_seed(0)
    sizes = {"dim": 32, "former_depth": 1, "latents_per_frame": 2, "heads": 4, "encoder_depth": 1, "decoder_depth": 2}
    config = PolicyConfig(
        **sizes,
        action_spec=ActionSpec("continuous", ("x", "y"), SPEC.mean, SPEC.std),
        state_mean=(0.0, 0.0),
        state_std=(0.6, 0.6),
        feature_mean=(0.0,) * 32,
        feature_std=(3.0,) * 32,
        observed_frames=1,
        imagined_frames=1,
        action_horizon=CHUNK,
        execute=CHUNK,
    )
    return Policy(config, world)


def make_cloning(**options) -> Cloning:
    torch.manual_seed(0)
    sizes = {"height": ROWS * SCALE, "width": COLUMNS * SCALE, "channels": 4, "image_width": 8, "dim": 48, "depth": 1}
    data = {"state_mean": (0.0, 0.0), "state_std": (0.6, 0.6), "observed_frames": 1}
    return Cloning(CloningConfig(action_spec=SPEC, action_horizon=CHUNK, execute=CHUNK, **{**sizes, **data, **options}))


def chunks(actions: torch.Tensor) -> dict[str, torch.Tensor]:
    valid = torch.ones(SAMPLES, CHUNK, dtype=torch.bool)
    goal = torch.full((SAMPLES,), -1)
    return {"actions": actions[:, None].expand(-1, CHUNK, -1), "valid": valid, "goal": goal}


def features_of(policy: Policy, frames: torch.Tensor) -> torch.Tensor:
    known = torch.ones(len(frames), 1, dtype=torch.bool)
    return policy.world.imagine(Clip(frames[:, None], None, known), 1)[1]


def test_a_policy_learns_to_point_at_what_its_world_sees():
    frames, state, actions = toy(enlarged=False)
    policy = make_policy()
    batch = PolicyBatch(**chunks(actions), state=state, features=features_of(policy, frames))
    before = float(policy(batch).parts["policy/denoising"])
    loss = train(policy, batch, steps=250)
    assert before > 0.5
    assert float(loss.parts["policy/denoising"]) < 0.15
    _, done = policy.act(policy.init(SAMPLES), Observation(frames, state))
    error = (done - actions).abs().mean()
    assert float(error) < 0.1
    elsewhere = policy.act(policy.init(SAMPLES), Observation(frames.roll(1, 0), state))[1]
    assert float((elsewhere - actions).abs().mean()) > 3 * float(error)


def test_cloning_learns_to_point_at_what_it_sees():
    frames, state, actions = toy(enlarged=True)
    cloning = make_cloning()
    train(cloning, PolicyBatch(**chunks(actions), state=state, frames=frames[:, None]), steps=150)
    _, done = cloning.act(cloning.init(SAMPLES), Observation(frames, state))
    error = (done - actions).abs().mean()
    assert float(error) < 0.08
    elsewhere = cloning.act(cloning.init(SAMPLES), Observation(frames.roll(1, 0), state))[1]
    assert float((elsewhere - actions).abs().mean()) > 3 * float(error)


def test_a_diffusion_keeps_apart_what_a_regression_averages():
    """The same sight, and two ways: 1 and -1."""
    frames, state, _ = toy(enlarged=False)
    frames, state = frames[:1].expand(SAMPLES, -1, -1, -1), state[:1].expand(SAMPLES, -1)
    actions = (torch.arange(SAMPLES) % 2 * 2 - 1).float()[:, None].expand(-1, 2)
    policy = make_policy()
    batch = PolicyBatch(**chunks(actions), state=state, features=features_of(policy, frames))
    train(policy, batch, steps=150)
    done = policy.act(policy.init(SAMPLES), Observation(frames, state))[1]
    assert float((done.abs() > 0.6).float().mean()) > 0.85
    assert 0.25 < float((done[:, 0] > 0).float().mean()) < 0.75
    assert float((done[:, 0].sign() == done[:, 1].sign()).float().mean()) > 0.9

    large, state, _ = toy(enlarged=True)
    large, state = large[:1].expand(SAMPLES, -1, -1, -1), state[:1].expand(SAMPLES, -1)
    cloning = make_cloning()
    train(cloning, PolicyBatch(**chunks(actions), state=state, frames=large[:, None]), steps=40)
    averaged = cloning.act(cloning.init(SAMPLES), Observation(large, state))[1]
    assert float(averaged.abs().max()) < 0.4


@pytest.mark.parametrize("kind", ["discrete", "keys"])
def test_choices_and_keys_are_learned(kind):
    """Which half of the picture the dot is in; for keys, of both axes."""
    frames, state, _ = toy(enlarged=True)
    bright = frames[:, 0] > 0
    down, right = (bright.flatten(1).float().argmax(1) // (COLUMNS * SCALE)) >= 8, bright[:, :, 16:].flatten(1).any(1)
    spec = ActionSpec(kind, ("down", "right") if kind == "keys" else ("left", "right"))
    actions = torch.stack([down, right], 1) if kind == "keys" else right.long()
    actions = actions[:, None].expand(-1, CHUNK, *actions.shape[1:])
    cloning = make_cloning()
    config = CloningConfig(**{**vars(cloning.config), "action_spec": spec})
    torch.manual_seed(0)
    cloning = Cloning(config)
    batch = PolicyBatch(**{**chunks(state), "actions": actions}, state=state, frames=frames[:, None])
    train(cloning, batch, steps=60)
    done = cloning.act(cloning.init(SAMPLES), Observation(frames, state))[1]
    assert float((done == actions[:, 0]).float().mean()) > 0.97
