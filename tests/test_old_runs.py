"""Run folders written before the package was ordered by system load, and give what they gave then.

tests/old_runs holds tiny ones: a square that moves as told, 32 x 32 pixels, 12 steps of training or fewer; and in
expected.safetensors what the code that wrote them made of them.
"""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import oneiros
from oneiros.cli import main
from oneiros.records import Observation, PointBatch
from oneiros.sampling import Sampling
from oneiros.world.dream import Dream
from oneiros.world.settings import WorldSettings
from oneiros.world.training import world as training
from tests.recorded import XY, record

RUNS = Path(__file__).with_name("old_runs")
EXPECTED = load_file(RUNS / "expected.safetensors")
NAMES = ("tokenizer", "world", "world_depth", "policy", "cloning", "segmenter")


@pytest.mark.parametrize("name", ["world", "world_depth"])
def test_worlds_dream_the_same_codes(name):
    world, start = oneiros.load(RUNS / name), Dream.from_run(RUNS / name).starts[0]
    state, codes = world.init(start), []
    for step in range(6):
        action = torch.tensor([[(-1.0, 0.0, 1.0)[step % 3], 0.5] * world.config.frame_stride])
        state, chosen = world.step_codes(state, action, sampling=Sampling(temperature=0.0))
        codes.append(chosen)
    same = torch.stack(codes, 1) == EXPECTED[f"{name}.codes"]
    assert same.float().mean() > 0.9  # nearly all: where two are equally likely, rounding decides


def test_tokenizer_encodes_and_decodes_the_same():
    tokenizer = oneiros.load(RUNS / "tokenizer")
    frames = Dream.from_run(RUNS / "world_depth").starts[0].frames[:, :, :3]
    codes = tokenizer.encode(frames)
    assert (codes == EXPECTED["tokenizer.codes"]).float().mean() > 0.99
    torch.testing.assert_close(
        tokenizer.decode(EXPECTED["tokenizer.codes"]), EXPECTED["tokenizer.frames"], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", ["policy", "cloning"])
def test_what_acts_does_the_same(name):
    """But what never moved in the data, the second of the two numbers: it was blurred, and stays where it was."""
    model, generator, actions = oneiros.load(RUNS / name), torch.Generator().manual_seed(1), []
    carry = model.init(2, seeds=[1, 2])
    for _ in range(3):
        frames = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
        state = torch.rand(2, 2, generator=generator) * 10
        with torch.no_grad():
            carry, action = model.act(carry, Observation(frames=frames, state=state, task=("left", "right")))
        actions.append(action)
    expected = EXPECTED[f"{name}.actions"].clone()
    expected[..., 1] = 0.5
    torch.testing.assert_close(torch.stack(actions, 1), expected, rtol=0, atol=1e-4)


def test_segmenter_labels_the_same():
    model, generator = oneiros.load(RUNS / "segmenter"), torch.Generator().manual_seed(2)
    xyz = torch.rand(300, 3, generator=generator) * 20
    features = torch.rand(300, model.config.network.in_dim, generator=generator)
    found = model.probabilities(PointBatch(xyz, features, None, torch.tensor([0, 300])), None)
    torch.testing.assert_close(found, EXPECTED["segmenter.probabilities"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_inspected(name, capsys):
    main(["inspect", str(RUNS / name)])
    assert name.partition("_")[0] in capsys.readouterr().out


def test_training_goes_on(tmp_path):
    """The world had 12 steps behind it; its codes are made anew from the same recording."""
    data = record(tmp_path / "data", spec=XY, depth=True, labels=True, states=True, num_episodes=4)
    run = shutil.copytree(RUNS / "world", tmp_path / "world")
    settings = WorldSettings(
        data=data, tokenizer=RUNS / "tokenizer", out=run, resume=True, data_changed=True, cache=tmp_path / "cache"
    )
    assert training.run(settings).step == 12
