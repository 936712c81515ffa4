"""Checkpoints as people have them become formers, and none of them runs code."""

import argparse
import os
import pathlib
import shutil

import pytest
import torch
from safetensors.torch import save_file

from oneiros.video_former import GeometryVideoFormer, VideoFormer2D, VideoFormer3D, load_reference
from tests.places import GOLDEN
from tests.video_former.test_video_former import FORMERS, golden, make_features, make_former, tokens

VARIANTS = ("2d", "3d", "3d_no_temporal", "3d_frame_mask_learnable", "geometry")


def saved(content, folder, name="vpp.pt", **options):
    torch.save(content, folder / name, **options)
    return folder / name


def under(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_former_within_a_policy_computes_what_the_reference_did(variant, tmp_path, capsys):
    """Sizes from the tensors, heads from the config; beside it, what a training leaves in its file."""
    config, groups = golden(f"video_former_{variant}")
    model = under("module.Video_Former.", groups["weights"]) | {"module.action.weight": torch.zeros(3)}
    args = {"policy": {"Former_heads": config["heads"], "use_Former": "3d" if "3D" in config["class"] else "2d"}}
    path = saved({"model": model, "args": args, "optimizer": {"state": [{"step": torch.ones(())}]}}, tmp_path)
    former = load_reference(path)
    assert type(former) is FORMERS[config["class"]]
    assert not former.training
    for ours in ("dim", "depth", "condition_dim", "heads", "num_latents", "num_time_embeds", "activation"):
        assert getattr(former, ours) == config[ours], ours
    assert (former.head_dim, former.num_frames) == (config["dim_head"], config["num_frame"])
    if "3D" in config["class"]:
        assert former.use_temporal == config["use_temporal"]
        assert former.input_mask_mode == config["input_mask_mode"]
    assert (former.num_queries, former.num_frame) == (config["num_latents"], config["num_frame"])
    inputs = dict(groups["input"])
    drawn = tokens(former, inputs.pop("features"), **inputs)
    torch.testing.assert_close(drawn, groups["output"]["tokens"], atol=1e-5, rtol=1e-5)
    said = capsys.readouterr().err
    assert f"took {len(groups['weights'])} tensors under 'model.module.Video_Former.'" in said
    assert "left 1 tensors: model.module.action.weight" in said


def test_a_file_that_omegaconf_wrote_is_read_without_it():
    """tests/golden/video_former_policy.pt: OmegaConf 2.4 and torch 2.13, every tensor counting from -1 to 1."""
    former = load_reference(GOLDEN / "video_former_policy.pt")
    assert (type(former), former.heads, former.head_dim, former.num_frames) == (VideoFormer3D, 3, 4, 4)
    for tensor in former.state_dict().values():
        torch.testing.assert_close(tensor.flatten(), torch.linspace(-1, 1, tensor.numel()))


@pytest.mark.parametrize("kind", [VideoFormer2D, VideoFormer3D, GeometryVideoFormer])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": under("former.", state)}])
def test_weights_go_back_under_the_references_names(kind, wrap, tmp_path):
    former = make_former(kind, dtype=torch.float32)
    back = load_reference(saved(wrap(former.reference_weights()), tmp_path), config={"heads": 3})
    features = make_features(dtype=torch.float32)
    torch.testing.assert_close(tokens(back, features), tokens(former, features))


def test_safetensors_and_pickled_settings_are_read(tmp_path):
    former = make_former(VideoFormer3D, dtype=torch.float32)
    save_file(former.reference_weights(), tmp_path / "vpp.safetensors")
    assert load_reference(tmp_path / "vpp.safetensors", config={"dim_head": 5}).heads == 3
    args = argparse.Namespace(heads=3, activation="gelu", root=pathlib.PurePosixPath("a/b"))
    path = saved({"model": former.reference_weights(), "args": args}, tmp_path)
    assert load_reference(path).heads == 3


def test_without_a_word_of_heads_the_references_default_is_taken_with_a_warning(tmp_path):
    torch.manual_seed(0)
    former = VideoFormer3D(dim=8, depth=1, condition_dim=4, head_dim=2, heads=8, num_latents=2, num_frames=2)
    with pytest.warns(UserWarning, match="heads 8"):
        assert load_reference(saved(former.reference_weights(), tmp_path)).head_dim == 2


class Order:
    """What pickle takes for an order to call a function."""

    def __init__(self, function, *arguments):
        self.order = function, arguments

    def __reduce__(self):
        return self.order


@pytest.mark.parametrize(
    "options", [{}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}], ids=["zip", "protocol4", "old"]
)
@pytest.mark.parametrize("function", [os.mkdir, pathlib.Path.mkdir, shutil.copyfile, eval])
def test_code_in_a_checkpoint_is_not_run(function, options, tmp_path):
    order = f"__import__('os').mkdir({str(tmp_path / 'run')!r})" if function is eval else str(tmp_path / "run")
    state = make_former(VideoFormer2D).reference_weights()
    path = saved({"model": state, "args": Order(function, order)}, tmp_path, **options)
    with pytest.raises(ValueError, match="cannot be read: ") as caught:
        load_reference(path)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def loop():
    nest = {}
    nest["again"] = nest
    return nest


def bomb():
    """Two to the thirtieth things, of thirty."""
    nest = [0]
    for _ in range(30):
        nest = [nest, nest]
    return nest


SMALL = {"dim": 12, "depth": 1, "condition_dim": 7, "head_dim": 5, "heads": 3, "num_latents": 8, "num_frames": 4}
WIDE = ("goal_emb.2.weight", "layers.0.2.1.weight")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds a list"),
        ({"model": {"head.weight": torch.zeros(1)}}, "holds no Video Former.*head.weight"),
        ({}, "holds no Video Former.*no tensors"),
        ("twice", "several formers.*'ema.', 'model.'"),
        ("lacking", "lacks layers.0.0.to_q.weight"),
        ("strange", "unknown: anything"),
        ("flat", r"latents has shape \(4, 24\)"),
        ("gaping", r"lacks layers\.1$"),
        ("vast", "are far more than its weights"),
        ({"heads": 4}, "attention is 15 wide, which 4 heads do not make"),
        ({"heads": 3, "dim_head": 4}, "which 3 heads of 4 do not make"),
        ({"heads": "many"}, "which many heads"),
        ({"a": {"Former_heads": 3}, "b": {"Former_heads": 5}}, "says heads twice, 3 and 5"),
        (loop(), "nested beyond reading"),
        (bomb(), "nested beyond reading"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(content, words, tmp_path):
    state = make_former(VideoFormer3D, **SMALL).reference_weights()
    made = {
        "twice": {"ema": state, "model": state},
        "lacking": {name: tensor for name, tensor in state.items() if "to_q" not in name},
        "strange": {"model": state | {"anything": torch.zeros(1)}, "args": {"heads": 3}},
        "flat": state | {"latents": torch.zeros(4, 24)},
        "gaping": state | {"layers.1000000.1": torch.zeros(1)},
        "vast": {"model": state | dict.fromkeys(WIDE, torch.zeros(2**20, 1)), "args": {"heads": 1}},
    }
    if isinstance(content, str):
        content = made[content]
    elif words.startswith(("attention", "which", "says", "nested")):
        content = {"model": state, "args": content}
    with pytest.raises(ValueError, match=words):
        load_reference(saved(content, tmp_path))


def test_one_of_several_is_chosen_by_its_prefix(tmp_path):
    state, other = (make_former(VideoFormer3D, seed=seed).reference_weights() for seed in (0, 1))
    path = saved({"ema": other, "model": state, "args": {"heads": 3}}, tmp_path)
    assert torch.equal(load_reference(path, prefix="ema.").latents, other["latents"].float())


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: b"PK\x03\x04" + data[:900]])
def test_damaged_files_are_named(damage, tmp_path):
    path = tmp_path / "vpp.pt"
    path.write_bytes(damage((GOLDEN / "video_former_policy.pt").read_bytes()))
    with pytest.raises(ValueError, match=r"vpp\.pt cannot be read"):
        load_reference(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_reference(tmp_path / "nothing.pt")
