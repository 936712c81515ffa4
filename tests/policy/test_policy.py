"""How a policy learns and acts: chance comes from seeds alone, padding and the rest of a batch change nothing."""

from dataclasses import replace

import pytest
import torch

from oneiros.policy.config import FORMERS, PolicyConfig
from oneiros.records import ActionSpec, Clip, Observation
from oneiros.sampling import Sampling
from tests.policy.policies import (
    DEPTH,
    HORIZON,
    NEUTRAL,
    STRIDE,
    make_policy,
    moments,
    noted_clips,
    observation,
    part,
    rows_of,
)
from tests.world.worlds import SPECS, largest_difference, make_world

CONTROLLED = ("discrete", "keys", "continuous")


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("former", FORMERS)
def test_everything_random_follows_from_the_samples_seeds(former):
    noise = {"goal_dropout": 0.5, "feature_noise": 0.1, "state_noise": 0.1}
    mask = {"frame_mask": 0.5} if former in ("3d", "geometry") else {}
    policy = make_policy(former=former, geometry_dim=8, **noise, **mask).train()
    batch = moments(policy)
    torch.manual_seed(0)
    loss = float(policy(batch).total)
    torch.manual_seed(1)
    assert float(policy(batch).total) == loss
    assert float(policy(replace(batch, seeds=batch.seeds + 1)).total) != loss
    unseeded = replace(batch, seeds=None)
    assert float(policy(unseeded).total) != float(policy(unseeded).total)  # drawn afresh
    numbered = replace(batch, seeds=torch.arange(3))
    policy.eval()
    assert float(policy(unseeded).total) == float(policy(numbered).total)


def test_a_split_batch_has_the_loss_of_the_whole():
    policy = make_policy(goal_dropout=0.5, feature_noise=0.1, state_noise=0.1, frame_mask=0.5).train()
    batch = moments(policy)
    parts = [part(batch, [0]), part(batch, [1, 2])]
    weights = [policy.loss_weight(each) for each in parts]
    split = sum(policy(each).total * weight for each, weight in zip(parts, weights, strict=True)) / sum(weights)
    torch.testing.assert_close(split, policy(batch).total)


@pytest.mark.parametrize("kind", CONTROLLED)
def test_padding_is_not_learned_from(kind):
    """What stands in it changes nothing, though the noisy chunk has places for it, too."""
    policy = make_policy(kind, noise_draws=2).train()
    batch = moments(policy, kind)
    policy(batch).total.backward()
    gradients = {name: each.grad.clone() for name, each in policy.named_parameters() if each.grad is not None}
    policy.zero_grad()
    other = moments(policy, kind, seed=1).actions
    mask = batch.valid if kind == "discrete" else batch.valid[..., None]
    changed = replace(batch, actions=torch.where(mask, batch.actions, other))
    assert not torch.equal(changed.actions, batch.actions)
    policy(changed).total.backward()
    for name, each in policy.named_parameters():
        if name in gradients:
            torch.testing.assert_close(each.grad, gradients[name], rtol=1e-3, atol=1e-6)


def test_a_batch_without_real_actions_weighs_and_costs_nothing():
    policy = make_policy().train()
    batch = replace(moments(policy), valid=torch.zeros(3, HORIZON, dtype=torch.bool))
    assert int(policy.loss_weight(batch)) == 0
    assert float(policy(batch).total) == 0


def test_the_world_is_frozen_and_everything_else_learns():
    policy = make_policy(former="geometry", geometry_dim=8, **DEPTH).train()
    assert not policy.world.training
    batch = moments(policy)
    batch = replace(batch, teacher=torch.randn(3, 4, 32, 8), goal=torch.tensor([0, 1, -1]))
    loss = policy(batch)
    loss.total.backward()
    assert set(loss.parts) == {"policy/denoising", "policy/guess", "policy/action_error", "policy/alignment"}
    assert all(parameter.grad is None for parameter in policy.world.parameters())
    idle = [name for name, each in policy.named_parameters() if each.requires_grad and each.grad is None]
    assert idle == []


def test_the_teacher_counts_where_it_is_known_alone():
    policy = make_policy(former="geometry", geometry_dim=8, alignment_weight=0.25)
    batch = moments(policy)
    teacher, mask = torch.randn(3, 4, 32, 8), torch.rand(3, 4, 32) < 0.5
    batch = replace(batch, teacher=teacher, teacher_mask=mask)
    parts = policy(batch).parts
    elsewhere = torch.where(mask[..., None], teacher, torch.randn(teacher.shape))
    assert torch.equal(policy(replace(batch, teacher=elsewhere)).parts["policy/alignment"], parts["policy/alignment"])
    doubled = make_policy(former="geometry", geometry_dim=8, alignment_weight=0.5)(batch).parts
    torch.testing.assert_close(doubled["policy/alignment"], 2 * parts["policy/alignment"])
    assert "policy/alignment" not in policy(replace(batch, teacher=None)).parts


def test_goals_are_forgotten_as_often_as_asked():
    policy = make_policy(goal_dropout=1.0)
    batch = replace(moments(policy), goal=torch.tensor([0, 1, 0]))
    unknown = replace(batch, goal=torch.tensor([-1, -1, -1]))
    assert float(policy(batch).total) != float(policy(unknown).total)  # never where nothing is learned
    policy.train()
    assert float(policy(batch).total) == float(policy(unknown).total)
    never = make_policy(goal_dropout=0.0).train()
    assert float(never(batch).total) != float(never(unknown).total)


@pytest.mark.parametrize("former", ["3d", "geometry"])
def test_frames_are_hidden_in_training_alone(former):
    """At 1 the middle one always: what it shows changes nothing then, and what the next shows mostly something."""
    policy = make_policy(former=former, geometry_dim=8, goal_dropout=0.0, frame_mask=1.0).train()
    batch = moments(policy)

    def changed(frame):
        other = batch.features.clone()
        other[:, frame] += 1
        seen = replace(batch, features=other)
        return float(policy(seen).parts["policy/guess"]) != float(policy(batch).parts["policy/guess"])

    middle = policy.config.num_frames // 2
    assert not changed(middle)
    assert changed(0)
    policy.eval()
    assert changed(middle)


@pytest.mark.parametrize("former", FORMERS)
def test_features_state_and_depth_count(former):
    policy = make_policy(former=former, geometry_dim=8, **DEPTH)
    batch = moments(policy)
    plain = float(policy(batch).total)
    for name in ("features", "state", "depth"):
        value = getattr(batch, name)
        assert float(policy(replace(batch, **{name: value + 0.5 * torch.rand(value.shape)})).total) != plain


def test_numbers_are_standardised():
    """Shifted and scaled data with such statistics is the same data; a channel that never changes stays harmless."""
    plain = make_policy(state_mean=(0.0, 0.0), state_std=(1.0, 1.0))
    spec = ActionSpec("continuous", ("x", "y"), mean=(5.0, 2.0), std=(10.0, 0.0))
    batch = moments(plain)
    mean, std = torch.tensor([4.0, 7.0]), torch.tensor([3.0, 0.0])
    moved = make_policy(
        spec=spec,
        world=plain.world,
        state_mean=(4.0, 7.0),
        state_std=(3.0, 0.0),
        feature_mean=(2.0,) * 32,
        feature_std=(5.0,) * 32,
    )
    scale, centre = torch.tensor([10.0, 1.0]), torch.tensor([5.0, 2.0])
    own = plain.config.action_spec
    standard = (batch.actions - torch.tensor(own.mean)) / torch.tensor(own.std)
    other = replace(
        batch,
        state=batch.state * torch.where(std > 0, std, torch.ones(2)) + mean,
        features=batch.features * 5 + 2,
        actions=standard * scale + centre,
    )
    torch.testing.assert_close(moved(other).total, plain(batch).total, rtol=1e-4, atol=1e-5)


# -- acting ------------------------------------------------------------------------------------------------------------


def played(policy, batch, steps, *, seeds=None, take=None):
    """Actions (T, B, ...) of an episode in which everything shown is a function of the step alone."""
    carry, done = policy.init(batch, seeds=seeds), []
    for step in range(steps):
        seen = observation(4, step)
        seen = rows_of(seen, take or list(range(batch)))
        carry, action = policy.act(carry, seen)
        done.append(action)
    return torch.stack(done), carry


@pytest.mark.parametrize("kind", CONTROLLED)
def test_batched_is_single_and_repeatable(kind):
    policy = make_policy(kind)
    together, _ = played(policy, 3, 5, seeds=(7, 8, 9))
    again, _ = played(policy, 3, 5, seeds=(7, 8, 9))
    alone, _ = played(policy, 1, 5, seeds=(8,), take=[1])
    assert torch.equal(together, again)
    torch.testing.assert_close(together[:, 1], alone[:, 0], rtol=1e-4, atol=1e-4)


def test_chances_follow_from_the_environments_seed_and_the_decision():
    policy = make_policy()
    one, _ = played(policy, 2, 4, seeds=(7, 8), take=[0, 0])
    other, _ = played(policy, 2, 4, seeds=(8, 8), take=[0, 0])
    assert not torch.allclose(one[:, 0], one[:, 1])
    torch.testing.assert_close(other[:, 0], other[:, 1])
    same, step = observation(1), policy.init(1)
    assert step.noise_seeds != replace(step, step=2).noise_seeds
    tokens = policy.condition(policy.imagine(step, same), same)
    assert not torch.equal(policy.denoise(tokens, (1,)), policy.denoise(tokens, (2,)))


def test_stages_make_the_plan_that_is_acted_on():
    policy, seen = make_policy(), observation(2)
    carry = policy.init(2)
    chunk = policy.denoise(policy.condition(policy.imagine(carry, seen), seen), carry.noise_seeds)
    after, action = policy.act(carry, seen)
    assert torch.equal(after.chunk, chunk)
    assert torch.equal(action, chunk[:, 0])
    after, action = policy.act(after, observation(2, 1))
    assert torch.equal(action, chunk[:, 1])
    assert carry.step == 0  # a carry is a value


@pytest.mark.parametrize("kind", CONTROLLED)
def test_the_world_is_shown_frames_at_its_stride_and_what_was_done_between(kind, monkeypatch):
    """At an episode's start the first frame stands for those before it, and nothing was done."""
    policy = make_policy(kind, observed_frames=3)
    clips = noted_clips(policy, monkeypatch)
    actions, _ = played(policy, 2, 7)
    frames = [observation(4, step).frames[:2] for step in range(7)]
    nothing = torch.zeros_like(actions[0])
    for plan, clip in enumerate(clips):
        now = 2 * plan
        for place, row in enumerate((now - 4, now - 2, now)):
            assert torch.equal(clip.frames[:, place], frames[max(row, 0)])
        for place, row in enumerate((now - 4, now - 2)):
            first, second = (actions[r] if r >= 0 else nothing for r in (row, row + 1))
            wanted = {
                "continuous": torch.cat([first, second], -1),
                "keys": first | second if kind == "keys" else None,
                "discrete": second,
            }[kind]
            assert torch.equal(clip.actions[:, place], wanted)
    assert len(clips) == 4


@pytest.mark.parametrize(("execute", "looked"), [(2, [0, 2, 4, 6, 8]), (3, [0, 1, 3, 4, 6, 7]), (4, [0, 2, 4, 6, 8])])
def test_only_frames_that_it_says_it_will_look_at_are_looked_at(execute, looked):
    """With stride 2: also those that only a later plan looks back to."""
    policy = make_policy(execute=execute)
    carry, blind, said = policy.init(1), policy.init(1), []
    for step in range(9):
        seen = observation(1, step)
        if carry.plans_next:
            said.append(step)
        shown = seen if blind.plans_next else replace(seen, frames=torch.full_like(seen.frames, torch.nan))
        carry, action = policy.act(carry, seen)
        blind, same = policy.act(blind, shown)
        assert torch.equal(action, same)
    assert said == looked


def test_finished_environments_can_be_left_out():
    policy = make_policy()
    whole, _ = played(policy, 3, 6)
    carry = policy.init(3)
    for step in range(6):
        rows = [0, 1, 2] if step < 3 else [2, 0]
        if step == 3:
            carry = carry.take([2, 0])
        carry, action = policy.act(carry, rows_of(observation(4, step), rows))
        torch.testing.assert_close(action, whole[step][rows], rtol=1e-4, atol=1e-4)
    assert policy.imagined_frames(carry).shape == (2, 2, 4, 4, 8)


def test_imagined_frames_are_those_of_the_worlds_dream():
    policy, seen = make_policy(observed_frames=1), observation(2)
    carry = policy.init(2)
    assert policy.imagined_frames(carry) is None
    carry, _ = policy.act(carry, seen)
    world = policy.world
    start = Clip(seen.frames[:, None], None, torch.ones(2, 1, dtype=torch.bool))
    dream = world.generate(start, None, num_frames=2, sampling=Sampling(temperature=0.0))
    torch.testing.assert_close(policy.imagined_frames(carry), dream.frames[:, 1:])


def test_actions_are_in_the_environments_units_and_bounds():
    spec = ActionSpec("continuous", ("x", "y"), mean=(50.0, 0.0), std=(300.0, 0.0), low=(-1.0, -5.0), high=(60.0, 5.0))
    actions, _ = played(make_policy(spec=spec, world=make_world("continuous", frame_stride=STRIDE)), 4, 8)
    assert actions.dtype == torch.float32
    assert -1 == actions[..., 0].min() <= actions[..., 0].max() <= 60
    assert (actions[..., 1] == 0).all()  # as in the data, where it never moved
    discrete, _ = played(make_policy("discrete"), 4, 8)
    assert discrete.dtype == torch.int64
    assert set(discrete.flatten().tolist()) <= {0, 1, 2}
    keys, _ = played(make_policy("keys"), 4, 8)
    assert keys.dtype == torch.bool
    assert keys.shape == (8, 4, 4)


def test_it_can_act_on_what_one_frame_and_no_state_show():
    policy = make_policy(observed_frames=1, imagined_frames=0, state_mean=(), state_std=(), tasks=())
    actions, carry = [], policy.init(2)
    for step in range(3):
        carry, action = policy.act(carry, Observation(observation(2, step).frames))
        actions.append(action)
    assert policy.imagined_frames(carry) is None
    assert bool(torch.stack(actions).isfinite().all())


def test_bf16_changes_actions_by_rounding_alone():
    plain, seen = make_policy(), observation(2)
    wanted = plain.imagine(plain.init(2), seen)
    plain.world.dynamics.blocks.to(torch.bfloat16)
    assert largest_difference(plain.imagine(plain.init(2), seen)[:, :2], wanted[:, :2]) < 0.2
    with torch.autocast("cpu", torch.bfloat16):
        assert bool(make_policy(**DEPTH).train()(moments(plain)).total.isfinite())


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_batches_that_do_not_fit_are_refused():
    policy = make_policy(**DEPTH)
    batch = moments(policy)
    for name, value, said in (
        ("features", None, "features of its world; the batch has none"),
        ("features", batch.features[..., :5], r"shape \(3, 4, 32, 5\); this policy needs \('B', 4, 32, 32\)"),
        ("features", batch.features[:, :3], r"shape \(3, 3, 32, 32\)"),
        ("state", None, r"state is None; this policy needs \('B', 2\)"),
        ("depth", None, "needs the depth image"),
        ("actions", batch.actions[..., :1], r"actions have shape \(3, 6, 1\); continuous actions .* are"),
    ):
        with pytest.raises(ValueError, match=said):
            policy(replace(batch, **{name: value}))
    discrete = make_policy("discrete")
    wrong = replace(moments(discrete, "discrete"), actions=torch.full((3, HORIZON), 3))
    with pytest.raises(ValueError, match="are 0 to 2: stay, left, right"):
        discrete(wrong)


def test_worlds_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"the policy has continuous actions .*; its world knows discrete"):
        make_policy("continuous", world=make_world("discrete"))
    with pytest.raises(ValueError, match="reads 8 x 8 features of 32 channels; its world has 4 x 8 of 32"):
        make_policy(grid=(8, 8))
    with pytest.raises(ValueError, match="of 3 channels"):
        make_policy(feature_mean=(0.0,) * 3, feature_std=(1.0,) * 3)


def test_environments_that_do_not_fit_are_refused():
    policy = make_policy()
    with pytest.raises(ValueError, match="2 seeds for 3 environments"):
        policy.init(3, seeds=(1, 2))
    with pytest.raises(ValueError, match="of 3 environments, not 2"):
        policy.act(policy.init(2), observation(3))
    with pytest.raises(ValueError, match="task 'up' is none of the 2"):
        policy.act(policy.init(1), observation(1, task="up"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"execute": 9}, "execute is 9; a chunk has only action_horizon, 6"),
        ({"former": "4d"}, "former is '4d'; choose none, 2d, 3d, geometry"),
        ({"former": "geometry"}, "needs geometry_dim"),
        ({"geometry_tokens": 2}, "need intrinsics"),
        ({"state_std": (1.0,)}, "state_mean has 2 values and state_std 1"),
        ({"feature_mean": (), "feature_std": ()}, "feature_mean is empty"),
        ({"heads": 5}, "heads"),
        ({"goal_dropout": 2.0}, "goal_dropout is 2.0"),
        ({"denoising_steps": 0}, "denoising_steps is 0"),
        ({"frame_mask": 1.5}, r"frame_mask is 1.5; it must lie in \[0, 1\]"),
        ({"frame_mask": 0.5, "former": "2d"}, "frame_mask hides frames from a former over time, 3d or geometry"),
    ],
)
def test_configs_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        make_policy(**options)


def test_a_config_comes_back_from_json():
    config = PolicyConfig(action_spec=SPECS["continuous"], tasks=("a",), grid=(4, 8), intrinsics=(1.0,) * 4, **NEUTRAL)
    assert PolicyConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="unknown fields in the policy's config: speed"):
        PolicyConfig.from_json({**config.to_json(), "speed": 3})
