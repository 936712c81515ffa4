"""`oneiros export --onnx`: what is written dreams in ONNX Runtime as the world does in torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from oneiros.cli import main
from oneiros.export.onnx_files import Part, write_parts
from oneiros.export.parity import compare, newest_codes
from oneiros.export.programs.dream import OnnxDream
from oneiros.world.model import World
from oneiros.world.starts import find_starts
from tests.export.worlds import RUNTIME
from tests.places import ROOT

FRAMES = 64


def test_onnx_runtime_dreams_as_torch_does(pixel_run, exported):
    folder, printed = exported
    assert printed.count(f"the same codes in {FRAMES} of {FRAMES} frames") == 2, printed  # temperatures 0 and 0.9
    world = World.load(pixel_run)
    starts = find_starts(world, pixel_run)
    parity = compare(world, OnnxDream(folder, threads=1), starts, temperature=0.9, frames=4, start=1)
    assert parity.first_difference is None
    assert parity.pixels < 1e-4


def test_the_readme_knows_the_world_and_nothing_of_this_machine(exported):
    folder, _ = exported
    assert "`left`, `right`, `up`, `fire`" in (folder / "README.md").read_text()
    assert not [path for path in folder.iterdir() if str(ROOT).encode() in path.read_bytes()]


def test_fewer_bits_are_smaller_and_close(tmp_path):
    import onnxruntime

    layer = torch.nn.Linear(128, 96)
    part = Part("layer", layer, (torch.randn(4, 128),), ["x"], ["y"])
    expected = layer(part.example[0]).detach().numpy()
    whole = write_parts([part], tmp_path)["layer"]
    for precision, share, error in (("float16", 0.55, 2e-3), ("int8", 0.32, 3e-2)):
        assert write_parts([part], tmp_path / precision, precision=precision)["layer"] < share * whole + 1000
        session = onnxruntime.InferenceSession(str(tmp_path / precision / "layer.onnx"))
        found = session.run(None, {"x": part.example[0].numpy()})[0]
        assert 0 < np.abs(found - expected).max() < error


def test_the_program_runs_without_oneiros(exported, tmp_path):
    folder = shutil.copytree(exported[0], tmp_path / "elsewhere")
    script = (
        "import runpy, sys; sys.modules['oneiros'] = sys.modules['torch'] = None; "
        "sys.argv = ['dream.py', '--frames', '3']; runpy.run_path('dream.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.load(folder / "frames.npy").shape == (4, 32, 32, 3)


@pytest.mark.skipif(shutil.which("node") is None or RUNTIME is None, reason="needs node and onnxruntime-web")
def test_javascript_dreams_as_python_does(exported, tmp_path):
    folder, _ = exported
    dream = OnnxDream(folder, threads=1)
    actions = np.random.default_rng(1).integers(0, 2, (FRAMES, 4))
    plan = {"seed": 2**32 - 5, "temperature": dream.temperature, "actions": actions.tolist()}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    script = Path(__file__).with_name("dream_in_node.mjs")
    done = subprocess.run(["node", script, folder, RUNTIME, tmp_path / "plan.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    dream.begin(1, seed=plan["seed"])
    for frame, (action, (codes, outcome)) in enumerate(zip(actions, json.loads(done.stdout), strict=True)):
        dream.step_codes(action)
        assert newest_codes(dream).tolist() == codes, f"frame {frame}"
        expected = {"reward": dream.outcome.reward, "terminated": dream.outcome.terminated}
        expected["endProbability"] = dream.outcome.end_probability
        assert outcome == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to write"),
        (["nowhere", "--onnx", "out"], "no run folder"),
        (["tokenizer", "--onnx", "out"], "holds a tokenizer; this needs a world"),
        (["world", "--onnx", "full"], "name a new folder"),
        (["world", "--web", "out", "--runtime", "full"], "npm install onnxruntime-web"),
    ],
)
def test_what_cannot_be_exported_is_one_line(pixel_run, tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    shutil.copytree(pixel_run, tmp_path / "world")
    shutil.copytree(pixel_run / "tokenizer", tmp_path / "tokenizer")
    with pytest.raises(SystemExit) as ended:
        main(["export", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
