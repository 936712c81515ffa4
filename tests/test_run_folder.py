"""Run folders: read back bitwise, refused in one line when damaged, and nothing of them is ever run."""

import json
import os
import pickle
import resource
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from oneiros.loading import load
from oneiros.points.segmenter import SegmenterConfig
from oneiros.records import ActionSpec, Camera, Clip
from oneiros.run_folder import CloudOrigin, Origin, from_json, read_cloud_origin, read_config, read_origin
from oneiros.sampling import Sampling
from oneiros.world.config import WorldConfig
from oneiros.world.model import World
from oneiros.world.nn.codec import IdentityCodec
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from tests.world.worlds import KINDS, SPECS, make_tokenizer, make_world, random_actions, random_codes, scramble

SMALL = TokenizerConfig(height=16, width=24, codebook_size=16, code_dim=4, codec_width=8, codec_depth=1)


def pixel_tokenizer(**options) -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = Tokenizer(replace(SMALL, **options), trainable=True)
    tokenizer.start_codebook(torch.randn(16, 4))
    scramble(tokenizer)
    return tokenizer


def pixel_world(kind="discrete", **options) -> World:
    return make_world(kind, tokenizer=pixel_tokenizer(**options), tokens_per_step=2, frame_stride=2, residual_streams=2)


def same_weights(a: nn.Module, b: nn.Module) -> None:
    one, other = a.state_dict(), b.state_dict()
    names = {name for name in one.keys() | other.keys() if "quantiser." not in name}
    assert [name for name in sorted(names) if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("temporal_convs", [False, True])
def test_a_tokenizer_comes_back_bitwise(tmp_path, temporal_convs):
    tokenizer = pixel_tokenizer(temporal_convs=temporal_convs)
    tokenizer.save(tmp_path / "run")
    loaded = load(tmp_path / "run")
    assert isinstance(loaded, Tokenizer)
    assert loaded.config == tokenizer.config
    assert not loaded.training
    same_weights(tokenizer, loaded)
    frames = torch.rand(1, 5, 3, 16, 24) * 2 - 1
    codes = tokenizer.encode(frames)
    assert torch.equal(loaded.encode(frames), codes)
    assert torch.equal(loaded.decode(codes), tokenizer.decode(codes))


@pytest.mark.parametrize("kind", KINDS)
def test_a_world_comes_back_bitwise_with_its_tokenizer(tmp_path, kind):
    world = pixel_world(kind)
    world.save(tmp_path / "run", recipe={"steps": 3})
    loaded = load(tmp_path / "run")
    assert isinstance(loaded, World)
    assert loaded.config == world.config
    assert read_config(tmp_path / "run").recipe == {"steps": 3}
    same_weights(world, loaded)
    same_weights(world.tokenizer, load(tmp_path / "run" / "tokenizer"))
    frames, actions = torch.rand(2, 3, 16, 24) * 2 - 1, random_actions(kind, 2, 4, repeats=2)
    dreams = [
        model.generate(
            frames, actions, num_frames=4, sampling=Sampling(1.0), generator=torch.Generator().manual_seed(0)
        )
        for model in (world, loaded)
    ]
    assert torch.equal(dreams[0].frames, dreams[1].frames)


def test_a_jointly_trained_world_goes_on_from_its_folder(tmp_path):
    tokenizer = make_tokenizer(trainable=True)
    world = make_world(tokenizer=tokenizer, joint=True)
    world.save(tmp_path / "run")
    loaded = load(tmp_path / "run", codec=IdentityCodec(), trainable=True)
    same_weights(world, loaded)
    clip = Clip(tokenizer.decode(random_codes(world, 2, 3)), None, torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(loaded(clip).total, world(clip).total)
    loaded.train()(clip).total.backward()
    loaded.after_step()


def test_config_json_holds_everything_and_is_refused_with_more(tmp_path):
    config = WorldConfig(action_spec=SPECS["continuous"], dim=32, window=5)
    assert WorldConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ValueError, match=r"unknown fields.*speed"):
        WorldConfig.from_json({**config.to_json(), "speed": 3})


# -- damage --------------------------------------------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rename_a_tensor(path):
    tensors = load_file(path)
    tensors["surprise"] = tensors.pop(sorted(tensors)[0])
    save_file(tensors, path)


def reshape_a_tensor(path):
    tensors = load_file(path)
    name = max(tensors, key=lambda n: tensors[n].numel())
    tensors[name] = tensors[name].flatten()[:-1].clone()
    save_file(tensors, path)


def change_a_number(value):
    def change(path):
        tensors = load_file(path)
        next(tensor for tensor in tensors.values() if tensor.ndim > 1).view(-1)[0] = value
        save_file(tensors, path)

    return change


def change_config(**changes):
    def change(path):
        config = json.loads(path.read_text())
        config["model"].update(changes)
        path.write_text(json.dumps(config))

    return change


DAMAGE = {
    "no config": ("config.json", lambda p: p.unlink()),
    "empty config": ("config.json", lambda p: p.write_text("")),
    "half a config": ("config.json", truncate),
    "binary config": ("config.json", lambda p: p.write_bytes(b"\xff\xfe\x00\x81")),
    "a list": ("config.json", lambda p: p.write_text("[1, 2]")),
    "nested too deep": ("config.json", lambda p: p.write_text("[" * 100_000 + "]" * 100_000)),
    "nested a little too deep": ("config.json", lambda p: p.write_text('{"kind": ' + "[" * 500 + "]" * 500 + "}")),
    "a number of 5,000 digits": (
        "config.json",
        lambda p: p.write_text('{"kind": "world", "model": ' + "9" * 5000 + "}"),
    ),
    "half a character": ("config.json", lambda p: p.write_text('{"kind": "\\ud800", "model": {}}')),
    "gigabytes of config": ("config.json", lambda p: os.truncate(p, 2**33)),
    "no model in it": ("config.json", lambda p: p.write_text('{"kind": "world"}')),
    "a model that is a list": ("config.json", lambda p: p.write_text('{"kind": "world", "model": []}')),
    "unknown kind": ("config.json", lambda p: p.write_text('{"kind": "policy", "model": {}}')),
    "another size": ("config.json", change_config(dim=64)),
    "a size that fits nothing": ("config.json", change_config(dim=33)),
    "a size that is a word": ("config.json", change_config(dim="wide")),
    "a negative size": ("config.json", change_config(depth=2, dim=-32)),
    "a size of none": ("config.json", change_config(depth=0)),
    "a huge size": ("config.json", change_config(dim=2**40, head_dim=2**40)),
    "more layers than anybody": ("config.json", change_config(depth=10**9)),
    "many small layers": ("config.json", change_config(depth=1024, dim=1024, head_dim=16)),
    "a size of 400 digits": ("config.json", change_config(dim=10**400)),
    "a size that is true": ("config.json", change_config(dim=True)),
    "no rate": ("config.json", change_config(fps=0)),
    "an infinite rate": ("config.json", change_config(fps=float("inf"))),
    "a rate that is no number": ("config.json", change_config(fps=float("nan"))),
    "actions that are numbers": ("config.json", change_config(action_spec={"kind": "keys", "names": [1, 2]})),
    "actions that are lists": ("config.json", change_config(action_spec={"kind": "keys", "names": [[1], [2]]})),
    "actions that are none": ("config.json", change_config(action_spec={"kind": "discrete", "names": []})),
    "actions that are a word": ("config.json", change_config(action_spec="jump")),
    "no weights": ("model.safetensors", lambda p: p.unlink()),
    "empty weights": ("model.safetensors", lambda p: p.write_bytes(b"")),
    "half the weights": ("model.safetensors", truncate),
    "noise": ("model.safetensors", lambda p: p.write_bytes(bytes(range(256)) * 9)),
    "a tensor by another name": ("model.safetensors", rename_a_tensor),
    "a tensor of another shape": ("model.safetensors", reshape_a_tensor),
    "weights that are not finite": ("model.safetensors", change_a_number(float("nan"))),
    "weights that are infinite": ("tokenizer/model.safetensors", change_a_number(float("inf"))),
    "frames that nobody has": ("tokenizer/config.json", change_config(height=2**30, width=2**30)),
    "no height": ("tokenizer/config.json", change_config(height=0)),
    "no tokenizer": ("tokenizer/config.json", lambda p: p.unlink()),
    "half a tokenizer": ("tokenizer/model.safetensors", truncate),
    "a tokenizer of another shape": ("tokenizer/model.safetensors", reshape_a_tensor),
    "another tokenizer's codebook": ("tokenizer/config.json", change_config(codebook_size=8)),
}


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_in_one_line(tmp_path, damage, trainable):
    pixel_world().save(tmp_path / "run")
    file, harm = DAMAGE[damage]
    harm(tmp_path / "run" / file)
    with pytest.raises(ValueError, match="run") as refused:
        load(tmp_path / "run", trainable=trainable)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("kind", "sizes"), [("world", {"dim": 4096, "depth": 8}), ("tokenizer", {"codec_width": 8192})]
)
def test_a_config_that_promises_gigabytes_is_refused_before_they_are_taken(tmp_path, kind, sizes):
    run = tmp_path / "run"
    pixel_world().save(run)
    change_config(**sizes)(run / ("config.json" if kind == "world" else "tokenizer/config.json"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"its tensors, one of them .*, are far more than its weights"):
        load(run)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


@pytest.mark.parametrize("device", ["gameboy", "cuda:99"])
def test_a_device_that_is_not_there_is_named(tmp_path, device):
    pixel_tokenizer().save(tmp_path)
    with pytest.raises(ValueError, match=f"^device '{device}' cannot hold the model: "):
        load(tmp_path, device=device)


def test_a_worlds_tokenizer_is_no_world(tmp_path):
    world = pixel_world()
    world.save(tmp_path / "run")
    world.save(tmp_path / "run" / "tokenizer")
    with pytest.raises(ValueError, match="tokenizer holds a world; this needs a tokenizer"):
        load(tmp_path / "run")


class Bomb:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('exploded').touch()",))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer/model.safetensors"])
@pytest.mark.parametrize("make", [pickle.dump, torch.save])
def test_no_pickle_is_ever_loaded(tmp_path, monkeypatch, file, make):
    monkeypatch.chdir(tmp_path)
    pixel_world().save(tmp_path / "run")
    with (tmp_path / "run" / file).open("wb") as stream:
        make(Bomb(), stream)
    with pytest.raises(ValueError, match="damaged"):
        load(tmp_path / "run")
    assert not (tmp_path / "exploded").exists()


def test_saving_leaves_nothing_half_written(tmp_path, monkeypatch):
    """A full disk: the run that was there stays as it was, and no temporary file remains."""
    world = pixel_world()
    world.save(tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    def full(weights, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("oneiros.run_folder.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        world.save(tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


# -- what config.json tells ----------------------------------------------------------------------------------------

FRONT, DEPTH = Camera("front", 48, 64, fx=30.0), Camera("depth", 16, 24, "depth", classes=("floor",))
ORIGIN = Origin("data", "f00", "doom:x", 9, FRONT, DEPTH, ("x", "y"), (0, 1), (2,))


def test_what_a_run_learned_from_comes_back(tmp_path):
    pixel_tokenizer().save(tmp_path, recipe={"steps": 3}, data=ORIGIN)
    assert read_origin(tmp_path) == ORIGIN
    pixel_tokenizer().save(tmp_path)
    assert read_origin(tmp_path) == Origin()
    assert sorted(json.loads((tmp_path / "config.json").read_text())) == ["kind", "model"]
    clouds = CloudOrigin(("a.laz",), ("b.laz",), ("intensity",), 0.5)
    pixel_tokenizer().save(tmp_path, data=clouds)
    assert read_cloud_origin(tmp_path) == clouds


SIZED = {"height": 64, "width": 64, "depth": False, "depth_camera": None}
OLDER = {
    "a world's": ({"camera": "front", "train": [0], "held_out": [1], **SIZED}, Camera("front", 0, 0), (0,)),
    "a policy's": ({"camera": vars(FRONT) | {"classes": []}, "episodes": [3, 5]}, FRONT, (3, 5)),
    "an older policy's": ({"camera": "front", "recorded": [48, 64]}, Camera("front", 48, 64), ()),
    "none": (None, None, ()),
}


@pytest.mark.parametrize("older", OLDER)
def test_origins_of_older_runs_are_read(tmp_path, older):
    written, camera, train = OLDER[older]
    (tmp_path / "config.json").write_text(json.dumps({"kind": "world", "model": {}, "data": written, "note": "mine"}))
    origin = read_origin(tmp_path)
    assert (origin.camera, origin.train, origin.depth_camera) == (camera, train, None)
    assert origin.camera_name == (camera.name if camera else None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"speed": 3}, "unknown fields in what it learned from: speed"),
        ({"fps": "fast"}, "fps of what it learned from is 'fast', not float"),
        ({"held_out": 7}, "held_out of what it learned from is '7', not tuple"),
        ({"held_out": [1, "two"]}, "held_out of what it learned from is 'two', not int"),
        ({"camera": {"name": "front", "height": 4}}, "camera of what it learned from lacks width"),
        ([1, 2], "data of the run is .*, not "),
    ],
)
def test_a_wrong_origin_names_file_and_field(tmp_path, data, message):
    (tmp_path / "config.json").write_text(json.dumps({"kind": "world", "model": {}, "data": data}))
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'config.json'} is damaged: {message}") as refused:
        read_origin(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"action_spec": None, "speed": 3}, "unknown fields in the world's config: speed"),
        ({"dim": "wide"}, "dim of the world's config is 'wide', not int"),
        ({"dim": 32.5}, "dim of the world's config is '32.5', not int"),
        ({"dim": None}, "dim of the world's config is 'None', not int"),
        ({"action_spec": "jump"}, "action_spec of the world's config is 'jump', not ActionSpec"),
    ],
)
def test_wrong_fields_are_named(values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        WorldConfig.from_json(values)


def test_actions_with_fields_of_another_version_are_read():
    spec = {**SPECS["continuous"].to_json(), "unit": "metres"}
    assert from_json(WorldConfig, {"action_spec": spec}, "it").action_spec == SPECS["continuous"]
    assert isinstance(WorldConfig.from_json({"action_spec": spec}).action_spec, ActionSpec)


@pytest.mark.parametrize("kind", ["cloning", "segmenter", "policy"])
def test_a_run_of_another_kind_is_refused(tmp_path, kind):
    pixel_world().save(tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({**config, "kind": kind}))
    message = rf"run holds a {kind}; this needs a world \(see `oneiros train world --help`\)"
    with pytest.raises(ValueError, match=message):
        World.load(tmp_path / "run")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer", "tokenizer/model.safetensors"])
def test_a_link_that_leads_out_of_a_run_is_not_read(tmp_path, name):
    for folder in ("mine", "strangers"):
        pixel_world().save(tmp_path / folder)
    path = tmp_path / "strangers" / name
    path.rename(tmp_path / "away")
    path.symlink_to(tmp_path / "mine" / name)
    with pytest.raises(ValueError, match=r"leads out of .* through a symbolic link"):
        load(tmp_path / "strangers")


@pytest.mark.parametrize("where", ["model", "network"])
def test_a_config_names_no_functions_to_import(where):
    """`KPConvX` imports functions by name; the networks in run folders take none."""
    named = {"activation": "os.system"}
    classes = {"names": ["a"], "codes": [[1]], "writes": [1], "class_weights": [1.0]}
    channels = {"features": [], "mean": [0.0], "std": [1.0]}
    values = {**classes, **channels, "network": named} if where == "network" else {**classes, **channels, **named}
    with pytest.raises(ValueError, match=r"unknown fields in .*: activation"):
        SegmenterConfig.from_json(values)
