"""A codec of one's own, from training to play, on the command line; and no run folder that imports one by itself."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from oneiros.cli import main
from oneiros.imports import find_function
from oneiros.loading import load
from oneiros.world.tokenizer import Tokenizer
from oneiros.world.training import tokenizer, world
from tests.recorded import SIZE, tokenizer_settings, world_settings

CODECS = '''
import torch
from pathlib import Path
from torch import nn

Path("imported").touch()


class Patches(nn.Module):
    """Linear patches, channels last."""

    latent_channel_first = False

    def __init__(self, frozen=False):
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 6, 8, stride=8), nn.ConvTranspose2d(6, 3, 8, stride=8)
        self.requires_grad_(not frozen)

    def encode(self, frames):
        return self.enter(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).movedim(2, -1)

    def decode(self, latents):
        return self.leave(latents.movedim(-1, 2).flatten(0, 1)).unflatten(0, latents.shape[:2])


class Pairs(nn.Module):
    """Frame 0, then two frames a latent, shrunk to 4 x 4 pixels; nothing to learn."""

    temporal_stride = 2

    def encode(self, frames):
        small = nn.functional.avg_pool2d(frames.flatten(0, 1), 8).unflatten(0, frames.shape[:2])
        first = torch.cat([small[:, :1]] * 2, 2)
        return torch.cat([first, small[:, 1:].unflatten(1, (-1, 2)).flatten(2, 3)], 1)

    def decode(self, latents):
        small = torch.cat([latents[:, :1, :3], latents[:, 1:].unflatten(2, (2, 3)).flatten(1, 2)], 1)
        return small.repeat_interleave(8, -1).repeat_interleave(8, -2)


def frozen():
    torch.manual_seed(0)
    return Patches(frozen=True)


def number():
    return 3


def flat():
    codec = Patches()
    codec.encode = lambda frames: frames[:, 0]
    return codec
'''


@pytest.fixture(scope="module")
def codecs(tmp_path_factory):
    """A folder with the module `own_codecs`, in which commands run."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_codecs.py").write_text(CODECS)
    return folder


@pytest.fixture(autouse=True)
def _there(codecs, monkeypatch):
    monkeypatch.chdir(codecs)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    sys.modules.pop("own_codecs", None)
    (codecs / "imported").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def trained(codecs, recording):
    """Tokenizer and world on linear patches, by the commands of the documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(codecs)
        size = ["--height", str(SIZE), "--width", str(SIZE), "--preset", "tiny", "--codec", "own_codecs:Patches"]
        main(["train", "tokenizer", str(recording), *size, "--steps", "60", "--out", "tokenizer"])
        rest = ["--preset", "tiny", "--steps", "4", "--tokens-per-step", "4", "--codec", "own_codecs:Patches"]
        main(["train", "world", str(recording), "--tokenizer", "tokenizer", *rest, "--out", "world"])
    return codecs / "tokenizer", codecs / "world"


def fails(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    said = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2
    return said[-1]


def test_the_run_says_which_codec_and_holds_its_weights(trained):
    config = json.loads((trained[1] / "tokenizer" / "config.json").read_text())["model"]
    assert (config["external_codec"], config["codec_name"], config["code_dim"]) == (True, "own_codecs:Patches", 6)
    assert load_file(trained[1] / "tokenizer" / "model.safetensors")["codec.enter.weight"].shape == (6, 3, 8, 8)
    assert "codec" not in json.loads((trained[0] / "config.json").read_text())["recipe"]
    rows = [json.loads(line) for line in (trained[0] / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["held_out/psnr"] > rows[0].get("held_out/psnr", 0)


def test_the_world_is_evaluated_dreamed_and_played(trained, recording, codecs, monkeypatch, capsys):
    run, codec = str(trained[1]), ("--codec", "own_codecs:Patches")
    few = ("--clips", "2", "--context", "2", "--horizon", "2", "--speed-steps", "2", "--drift", "0")
    main(["eval", run, str(recording), *codec, *few, "--out", "eval"])
    assert (codecs / "eval" / "metrics.json").is_file()
    main(["dream", run, str(recording), *codec, "--frames", "2", "--out", "dream.png"])
    assert (codecs / "dream.png").is_file()
    monkeypatch.setattr("builtins.input", lambda _: "quit")
    main(["play", run, "--terminal", *codec])
    assert "Actions: " in capsys.readouterr().out


def test_a_codec_with_nothing_to_learn_and_one_of_several_frames(codecs, recording, tmp_path):
    for factory in ("frozen", "Pairs"):
        out, name = tmp_path / factory, f"own_codecs:{factory}"
        steps = 3 if factory == "frozen" else 50  # so many are estimated before they begin
        tokenizer.run(tokenizer_settings(recording, out, steps=steps, codec=name))
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["gradient_norm"] == 0
        world.run(world_settings(out / "world", data=recording, tokenizer=out, steps=2, codec=name))
        main(["dream", str(out / "world"), str(recording), "--codec", name, "--frames", "5", "--out", "dream.gif"])
        few = ("--clips", "2", "--context", "3", "--horizon", "2", "--speed-steps", "1", "--drift", "4")
        main(["eval", str(out / "world"), str(recording), "--codec", name, *few, "--things-steps", "0"])
        made = load(out / "world", codec=find_function(name)())
        assert made.tokenizer.temporal_stride == (2 if factory == "Pairs" else 1)
        assert len(np.unique(made.tokenizer.codebook.numpy().round(3), axis=0)) > 3  # it learned what the codec makes
    kept = Tokenizer.load(tmp_path / "frozen", codec=find_function("own_codecs:Patches")())
    assert torch.equal(kept.codec.enter.weight, find_function("own_codecs:frozen")().enter.weight)


def test_resume_asks_for_the_codec_again(trained, recording, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    words = ("train", "tokenizer", str(recording), "--resume", "--out", str(run), "--steps", "61")
    assert "--codec own_codecs:Patches on the command line" in fails(capsys, *words)
    main([*words, "--codec", "own_codecs:Patches"])
    assert "step 61" in capsys.readouterr().out


def test_nothing_that_a_file_names_is_imported(trained, recording, codecs, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained[1], run)
    path = run / "config.json"
    config = json.loads(path.read_text())
    config["recipe"]["codec"] = "own_codecs:Patches"
    path.write_text(json.dumps(config))
    for words in (
        ("dream", str(run), str(recording), "--out", str(tmp_path / "dream.png")),
        ("eval", str(run), str(recording)),
        ("play", str(run), "--terminal"),
        ("train", "world", str(recording), "--resume", "--out", str(run), "--steps", "9"),
        ("train", "world", str(recording), "--from", str(run), "--out", str(tmp_path / "new")),
    ):
        assert "made with a codec of its maker's own" in fails(capsys, *words)
    main(["inspect", str(run)])
    with pytest.raises(ValueError, match=r"codec= in Python"):
        load(run)
    assert not (codecs / "imported").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_codecs:Patches", "cannot be imported: No module named 'no_codecs'"),
        ("own_codecs:Squares", "has no function 'Squares'"),
        ("own_codecs", "names no function; write module:function"),
        ("own_codecs:number", "makes a int; a codec is a torch.nn.Module with encode"),
        ("own_codecs:flat", "makes latents (1, 3, 32, 32) of one frame"),
    ],
)
def test_a_codec_that_does_not_do_is_one_line(name, words, recording, tmp_path, capsys):
    size = ("--height", str(SIZE), "--width", str(SIZE), "--preset", "tiny")
    said = fails(capsys, "train", "tokenizer", str(recording), *size, "--codec", name, "--out", str(tmp_path / "run"))
    assert words in said


def test_a_codec_that_the_run_was_not_made_with_is_one_line(world_run, trained, recording, tmp_path, capsys):
    out = ("--out", str(tmp_path / "new.png"))
    codec = ("--codec", "own_codecs:Patches")
    assert "made with the default codec" in fails(capsys, "dream", str(world_run), str(recording), *codec, *out)
    other = ("--codec", "own_codecs:Pairs")
    said = fails(capsys, "dream", str(trained[1]), str(recording), *other, *out)
    assert "codec." in said or "latents" in said
    assert "--sharpen-steps is for the default codec" in fails(
        capsys, "train", "tokenizer", str(recording), *codec, "--sharpen-steps", "5", "--out", str(tmp_path / "sharp")
    )
