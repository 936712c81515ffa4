"""The baseline has the face of a policy and the same manners, and both live in run folders."""

import json
from dataclasses import replace

import pytest
import torch

from oneiros.loading import load
from oneiros.policy.cloning import Cloning, CloningConfig
from oneiros.policy.config import PolicyConfig
from oneiros.policy.model import Policy
from oneiros.records import ActionSpec, Observation, PolicyBatch
from oneiros.run_folder import read_config
from oneiros.train.fit import FitConfig, fit
from tests.policy.policies import TASKS, make_policy, moments
from tests.test_run_folder import pixel_world, reshape_a_tensor, same_weights, truncate
from tests.world.worlds import SPECS, random_actions, scramble

SIZE = (16, 24)


def make_cloning(kind: str = "continuous", **options) -> Cloning:
    torch.manual_seed(0)
    sizes = {"height": SIZE[0], "width": SIZE[1], "image_width": 8, "dim": 32, "depth": 1, "action_horizon": 6}
    sizes |= {"heads": 2, "encoder_depth": 1, "decoder_depth": 1, "denoising_steps": 3}
    data = {"tasks": TASKS, "state_mean": (1.0, 0.0), "state_std": (0.5, 2.0), "frame_stride": 2, "execute": 2}
    cloning = Cloning(CloningConfig(action_spec=SPECS[kind], **{**sizes, **data, **options}))
    scramble(cloning, 1)
    return cloning.eval()


def examples(kind: str = "continuous", batch: int = 3) -> PolicyBatch:
    generator = torch.Generator().manual_seed(0)
    actions = random_actions(kind, batch, 6)
    assert actions is not None
    return PolicyBatch(
        goal=torch.tensor([0, 1, -1])[:batch],
        actions=actions,
        valid=torch.arange(6) < torch.tensor([[6], [2], [4]])[:batch],
        frames=torch.rand(batch, 2, 3, *SIZE, generator=generator) * 2 - 1,
        state=torch.randn(batch, 2, generator=generator),
        seeds=torch.arange(batch),
    )


def shown(step: int, rows: list[int]) -> Observation:
    generator = torch.Generator().manual_seed(step)
    frames, state = torch.rand(3, 3, *SIZE, generator=generator), torch.randn(3, 2, generator=generator)
    return Observation(frames[rows], state[rows], tuple("left" for _ in rows))


@pytest.mark.parametrize("diffusion", [False, True])
@pytest.mark.parametrize("kind", ["discrete", "keys", "continuous"])
def test_padding_changes_nothing_and_parts_make_the_whole(kind, diffusion):
    options = {"goal_dropout": 0.5, "state_noise": 0.1, "diffusion": diffusion}
    cloning, batch = make_cloning(kind, **options).train(), examples(kind)
    loss = cloning(batch)
    losses = {"cloning/denoising", "cloning/guess"} if diffusion else {"cloning/chunk"}
    assert set(loss.parts) == {*losses, "cloning/action_error"}
    other = random_actions(kind, 3, 6, seed=1)
    mask = batch.valid if kind == "discrete" else batch.valid[..., None]
    assert float(cloning(replace(batch, actions=torch.where(mask, batch.actions, other))).total) == float(loss.total)
    assert float(cloning(replace(batch, actions=other)).total) != float(loss.total)
    parts = [
        PolicyBatch(**{name: value[rows] for name, value in vars(batch).items() if value is not None})
        for rows in ([0], [1, 2])
    ]
    weights = [cloning.loss_weight(part) for part in parts]
    split = sum(cloning(part).total * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)
    torch.testing.assert_close(split, loss.total)
    assert float(cloning(replace(batch, seeds=batch.seeds + 3)).total) != float(loss.total)


@pytest.mark.parametrize("diffusion", [False, True])
def test_everything_learns(diffusion):
    cloning = make_cloning(diffusion=diffusion).train()
    cloning(examples()).total.backward()
    assert [name for name, each in cloning.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize("diffusion", [False, True])
def test_it_acts_batched_as_single_from_frames_at_its_stride(diffusion):
    cloning, seen = make_cloning(diffusion=diffusion), []
    cloning.image.enter.register_forward_hook(lambda _, frames, __: seen.append(frames[0].unflatten(1, (2, 3))))
    together, alone = [], []
    carry, single = cloning.init(3), cloning.init(3).take([1])
    for step in range(5):
        carry, action = cloning.act(carry, shown(step, [0, 1, 2]))
        single, own = cloning.act(single, shown(step, [1]))
        together.append(action)
        alone.append(own)
    torch.testing.assert_close(torch.stack(together)[:, 1], torch.stack(alone)[:, 0], rtol=1e-4, atol=1e-5)
    assert len(seen) == 6  # three plans of each
    for plan, frames in enumerate(seen[::2]):
        now = 2 * plan
        assert torch.equal(frames[:, 1], shown(now, [0, 1, 2]).frames)
        assert torch.equal(frames[:, 0], shown(max(0, now - 2), [0, 1, 2]).frames)


def test_what_does_not_fit_is_refused():
    cloning, batch = make_cloning(), examples()
    for name, value, said in (
        ("frames", None, "learns from frames; the batch has none"),
        ("frames", batch.frames[:, :1], r"frames have shape \(3, 1, 3, 16, 24\); this policy looks at"),
        ("state", None, "state is None"),
        ("actions", batch.actions[..., :1], r"continuous actions .* are"),
    ):
        with pytest.raises(ValueError, match=said):
            cloning(replace(batch, **{name: value}))
    with pytest.raises(ValueError, match="execute is 7; a chunk has only"):
        make_cloning(execute=7)
    with pytest.raises(ValueError, match="unknown fields in the cloning's config: speed"):
        CloningConfig.from_json({**cloning.config.to_json(), "speed": 1})


def test_the_baseline_is_about_as_large_as_what_a_policy_trains():
    """At the sizes of the small presets: figures in the class's docstring would go stale."""
    spec = ActionSpec("continuous", ("x", "y", "z", "grip"))
    data = {"tasks": tuple("abcde"), "state_mean": (0.0,) * 4, "state_std": (1.0,) * 4}
    features = {"feature_mean": (0.0,) * 192, "feature_std": (1.0,) * 192, "grid": (8, 8)}
    sizes = {"former_depth": 2, "latents_per_frame": 4}
    with torch.device("meta"):
        policy = Policy(PolicyConfig(action_spec=spec, **data, **features, **sizes), None)
        cloning = Cloning(CloningConfig(action_spec=spec, channels=4, **data))
    ours, theirs = (sum(each.numel() for each in model.parameters()) for model in (policy, cloning))
    assert 0.9 < theirs / ours < 1.1


# -- run folders -------------------------------------------------------------------------------------------------------


def pixel_policy(**options) -> Policy:
    return make_policy("discrete", world=pixel_world(), **options)


def test_a_policy_comes_back_bitwise_with_its_world_and_its_goals(tmp_path):
    policy = pixel_policy(goal_dim=3, former="geometry", geometry_dim=8)
    policy.set_goals(torch.randn(2, 3))
    policy.save(tmp_path / "run", recipe={"steps": 3})
    loaded = load(tmp_path / "run")
    assert isinstance(loaded, Policy)
    assert loaded.config == policy.config
    assert not loaded.training
    assert read_config(tmp_path / "run").recipe == {"steps": 3}
    same_weights(policy, loaded)
    same_weights(policy.world, load(tmp_path / "run" / "world"))
    seen = Observation(torch.rand(2, 3, 16, 24), torch.zeros(2, 2), TASKS)
    for model in (policy, loaded):
        model.eval()
    one, other = (model.act(model.init(2), seen)[0].chunk for model in (policy, loaded))
    assert torch.equal(one, other)


def test_a_policy_without_its_world_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="saved with its world"):
        Policy(replace(pixel_policy().config), None).save(tmp_path)


@pytest.mark.parametrize("diffusion", [False, True])
def test_cloning_comes_back_bitwise(tmp_path, diffusion):
    cloning = make_cloning(diffusion=diffusion)
    cloning.save(tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded, Cloning)
    assert loaded.config == cloning.config
    same_weights(cloning, loaded)
    seen = shown(0, [0, 1])
    assert torch.equal(cloning.act(cloning.init(2), seen)[1], loaded.act(loaded.init(2), seen)[1])


def another_kind(path):
    path.write_text(json.dumps({"kind": "dreamer", "model": {}}))


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("config.json", another_kind),
        ("model.safetensors", truncate),
        ("model.safetensors", reshape_a_tensor),
        ("world/config.json", lambda path: path.unlink()),
        ("world/model.safetensors", truncate),
        ("world/tokenizer/model.safetensors", truncate),
    ],
)
def test_damage_is_named_in_one_line(tmp_path, file, harm):
    pixel_policy().save(tmp_path / "run")
    harm(tmp_path / "run" / file)
    with pytest.raises(ValueError, match="run") as refused:
        load(tmp_path / "run")
    assert "\n" not in str(refused.value)


# -- in training -------------------------------------------------------------------------------------------------------


def test_the_rate_changes_and_the_averaged_weights_are_the_ones_kept(tmp_path):
    """Of the reference, the schedule drove another optimiser, and the average was never used."""
    policy = pixel_policy()
    batch = moments(policy, "discrete", batch=4)
    whole = replace(batch, features=torch.randn(4, 4, 6, 32), valid=torch.ones_like(batch.valid))

    def make_batch(step, samples):
        return PolicyBatch(**{name: value[list(samples)] for name, value in vars(whole).items() if value is not None})

    config = FitConfig(steps=6, batch_size=4, learning_rate=1e-2, warmup_steps=2, ema_decay=0.9, log_every=1)
    fit(policy, make_batch, out=tmp_path, config=config, save_model=Policy.save)
    rates = [json.loads(line)["learning_rate"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rates[0] < rates[1] > rates[3] > rates[5]
    kept, raw = load(tmp_path).state_dict(), policy.state_dict()
    moved = [name for name in kept if not name.startswith("world.") and not torch.equal(kept[name], raw[name])]
    assert len(moved) > 20
    averages = torch.load(tmp_path / "state.pt", weights_only=True)["ema"]
    assert all(torch.equal(kept[name], averages[name]) for name in moved)
