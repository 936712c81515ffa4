"""`oneiros.load`: whatever a run folder holds, by importing no more than that takes."""

import subprocess
import sys

import pytest
import torch

import oneiros
from oneiros.loading import load
from oneiros.run_folder import read_origin
from oneiros.world.built_in import bundled_world
from oneiros.world.model import World
from oneiros.world.nn.codec import IdentityCodec
from oneiros.world.starts import load_world, starts_from_run
from tests.test_run_folder import pixel_tokenizer, pixel_world, same_weights
from tests.world.worlds import make_tokenizer


def test_folders_that_are_no_runs_are_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="no run folder"):
            load(folder)
    (tmp_path / "config.json").write_text('{"kind": "dreamer", "model": {}}')
    with pytest.raises(ValueError, match=r"config\.json: kind is 'dreamer'; this version knows tokenizer, world, "):
        load(tmp_path)


def test_a_tokenizer_of_the_users_codec_needs_it_again(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.save(tmp_path)
    same_weights(load(tmp_path, codec=IdentityCodec()), tokenizer)
    with pytest.raises(ValueError, match="made with a codec of its maker's own"):
        load(tmp_path)


def test_the_world_that_comes_along_plays():
    folder = bundled_world()
    world = oneiros.load(folder)
    assert isinstance(world, World)
    assert world.config.action_spec.names == ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD")
    origin = read_origin(folder)
    assert (origin.environment, origin.fps, origin.camera_name) == (
        "doom:health_gathering",
        9,
        "observation.images.front",
    )
    assert (len(origin.train), origin.held_out) == (270, tuple(range(270, 300)))
    assert origin.depth_camera.fx == pytest.approx(32)
    starts = starts_from_run(load_world(folder), folder)
    _, frame = world.step(world.init(starts[0]), torch.tensor([[False, False, True]]))
    assert frame.shape == (1, 4, 64, 64)
    assert frame.isfinite().all()


def test_a_tokenizer_is_loaded_without_other_models(tmp_path):
    pixel_tokenizer().save(tmp_path)
    script = f"import sys, oneiros; oneiros.load({str(tmp_path)!r}); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    homes = {"world.model", "world.tokenizer", "points.segmenter", "policy.model", "policy.cloning"}
    assert {f"oneiros.{home}" for home in homes} & {*done.stdout.split()} == {"oneiros.world.tokenizer"}


def test_playing_imports_neither_quantiser_nor_training_engine(tmp_path):
    """In a process of its own: load a world, dream, ask its head."""
    pixel_world().save(tmp_path / "run")
    script = f"""
import sys, torch
torch.set_num_threads(1)
from oneiros.loading import load
from oneiros.records import Clip
world = load({str(tmp_path / "run")!r})
state = world.init(Clip(torch.zeros(1, 1, 3, 16, 24), None, torch.ones(1, 1, dtype=torch.bool)))
state, frame = world.step(state, torch.tensor([1]))
state, _ = world.predict_action(state)
heavy = ["vector_quantize_pytorch", "lightning_fabric", "lightning", "einops", "matplotlib", "torchmetrics", "vizdoom"]
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
