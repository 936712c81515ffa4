"""The Video Former: golden vectors, an oracle in loops, gradients, what others got wrong, bad input."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from oneiros.video_former import GeometryVideoFormer, VideoFormer2D, VideoFormer3D
from tests.places import GOLDEN
from tests.video_former.oracle import condense

SMALL = {"dim": 12, "depth": 2, "condition_dim": 7, "head_dim": 5, "heads": 3, "num_latents": 8, "num_frames": 4}
FORMERS = {
    "Video_Former_2D": VideoFormer2D,
    "Video_Former_3D": VideoFormer3D,
    "Video_Former_3D_vggt": GeometryVideoFormer,
}


def make_former(kind, seed=0, dtype=torch.float64, **options):
    """A former whose every tensor matters: gains, biases, embeddings and tokens that start at rest are random too."""
    torch.manual_seed(seed)
    small = SMALL | ({"geometry_dim": 9} if kind is GeometryVideoFormer else {})
    former = kind(**{**small, **options}).to(dtype)
    with torch.no_grad():
        for tensor in former.state_dict().values():
            tensor.add_(torch.randn_like(tensor) * 0.2)
    return former.eval()


def make_features(batch=2, frames=4, count=6, width=7, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, count, width, generator=generator, dtype=dtype)


def tokens(former, *inputs, **options):
    out = former(*inputs, **options)
    return out[0] if isinstance(former, GeometryVideoFormer) else out


# -- the mathematics -----------------------------------------------------------------------------------------------


def golden(name):
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        groups = {"input": {}, "weights": {}, "output": {}}
        for key in file.keys():  # noqa: SIM118
            group, _, rest = key.partition(".")
            groups[group][rest] = file.get_tensor(key)
    return config, groups


@pytest.mark.parametrize(
    "name",
    [
        "2d",
        "2d_padded",
        "3d",
        "3d_extra",
        "3d_frame_mask_learnable",
        "3d_frame_mask_zero",
        "3d_no_temporal",
        "geometry",
    ],
)
def test_golden(name):
    given, groups = golden(f"video_former_{name}")
    config = dict(given)
    kind = FORMERS[config.pop("class")]
    config = config | {"head_dim": config.pop("dim_head"), "num_frames": config.pop("num_frame")}
    if kind is VideoFormer2D:
        del config["input_mask_mode"]
    if kind is GeometryVideoFormer:
        config["geometry_dim"] = groups["output"]["geometry"].shape[-1]
    former = kind(**config).eval()
    former.load_reference_weights(groups["weights"], config=given)
    out = former(groups["input"].pop("features"), **groups["input"])
    expected = groups["output"]
    got = dict(zip(("tokens", "geometry"), out, strict=True)) if kind is GeometryVideoFormer else {"tokens": out}
    assert got.keys() == expected.keys()
    for output, tensor in got.items():
        torch.testing.assert_close(tensor, expected[output], atol=1e-5, rtol=0)


KEPT = [[True, False, False, True], [False, True, True, True]]
CASES = {
    "2d": (VideoFormer2D, {}, {}),
    "2d shorter clip": (VideoFormer2D, {}, {"frames": 2}),
    "2d padded": (
        VideoFormer2D,
        {"activation": "relu"},
        {"padding": [[True] * 3 + [False], [False, True, True, True]]},
    ),
    "shared time": (VideoFormer2D, {"num_time_embeds": 1}, {"padding": [[True] * 4, [False, True, True, False]]}),
    "more time rows": (VideoFormer2D, {"num_time_embeds": 6, "ff_mult": 2}, {"frames": 3}),
    "as many latents as channels of a head": (VideoFormer2D, {"num_latents": 20, "head_dim": 2}, {}),
    "3d": (VideoFormer3D, {"activation": "sqrelu"}, {}),
    "3d one frame": (VideoFormer3D, {}, {"frames": 1, "count": 1}),
    "3d no features but extra": (VideoFormer3D, {}, {"count": 0, "extra": 3}),
    "3d no temporal": (VideoFormer3D, {"use_temporal": False}, {"kept": KEPT, "extra": 1}),
    "3d zero": (VideoFormer3D, {}, {"kept": KEPT, "extra": 2}),
    "3d none": (VideoFormer3D, {"input_mask_mode": "none"}, {"kept": KEPT, "extra": 2}),
    "3d learnable": (VideoFormer3D, {"input_mask_mode": "learnable"}, {"kept": KEPT, "padding": KEPT}),
    "geometry": (GeometryVideoFormer, {"activation": "relu"}, {"extra": 2}),
    "geometry no temporal": (GeometryVideoFormer, {"use_temporal": False}, {"frames": 3}),
    "geometry masked": (GeometryVideoFormer, {"input_mask_mode": "learnable"}, {"kept": KEPT, "extra": 1}),
    "geometry many features": (GeometryVideoFormer, {"depth": 1}, {"count": 300, "frames": 2}),
}


@pytest.mark.parametrize(("kind", "options", "given"), CASES.values(), ids=CASES)
@torch.no_grad()
def test_former_equals_the_oracle(kind, options, given):
    former = make_former(kind, **options)
    features = make_features(frames=given.get("frames", 4), count=given.get("count", 6))
    extra = torch.randn(2, given["extra"], 12).double() if "extra" in given else None
    inputs = {
        "padding_mask": torch.tensor(given["padding"]) if "padding" in given else None,
        "frame_mask": torch.tensor(given["kept"]) if "kept" in given else None,
        "extra": extra,
    }
    out = former(features, **{name: value for name, value in inputs.items() if value is not None})
    got = out if kind is GeometryVideoFormer else (out, None)
    for b in range(2):
        expected = condense(
            features[b],
            former.reference_weights(),
            heads=3,
            depth=options.get("depth", 2),
            activation=options.get("activation", "gelu"),
            padding=given["padding"][b] if "padding" in given else None,
            extra=None if extra is None else extra[b],
            kept=given["kept"][b] if "kept" in given else None,
            mode=options.get("input_mask_mode", "zero"),
        )
        for mine, theirs in zip(got, expected, strict=True):
            assert (mine is None) == (theirs is None)
            if theirs is not None:
                torch.testing.assert_close(mine[b], theirs, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("kind", FORMERS.values())
def test_gradients_of_input_and_of_every_weight(kind):
    options = {"input_mask_mode": "learnable"} if kind is not VideoFormer2D else {}
    former = make_former(
        kind, dim=4, heads=2, head_dim=3, depth=1, num_frames=2, num_latents=2, condition_dim=3, **options
    )
    if kind is GeometryVideoFormer:
        former.geometry = torch.nn.Sequential(*former.geometry[:2])  # the rest of the head is two plain layers
    given = {} if kind is VideoFormer2D else {"frame_mask": torch.tensor([[True, False], [True, True]])}
    features = make_features(frames=2, count=2, width=3).requires_grad_()
    weights = dict(former.named_parameters())

    def run(features, *values):
        return torch.func.functional_call(former, dict(zip(weights, values, strict=True)), (features,), given)

    assert torch.autograd.gradcheck(run, (features, *weights.values()), fast_mode=True)
    out = run(features, *weights.values())
    loss = sum(part.square().sum() for part in out) if isinstance(out, tuple) else (out * torch.arange(4)).sum()
    for name, slope in zip(weights, torch.autograd.grad(loss, weights.values()), strict=True):
        assert slope.abs().max() > 0, name


@pytest.mark.parametrize("kind", FORMERS.values())
@torch.no_grad()
def test_order_of_features_and_of_samples_means_nothing(kind):
    former, features = make_former(kind), make_features(batch=3)
    out = tokens(former, features)
    torch.testing.assert_close(tokens(former, features[:, :, torch.randperm(6)]), out)
    torch.testing.assert_close(tokens(former, features[[2, 0, 1]]), out[[2, 0, 1]])
    assert tokens(former, features[:0]).shape == (0, 8, 12)


@pytest.mark.parametrize("kind", FORMERS.values())
@torch.no_grad()
def test_bf16_stays_near_full_precision(kind):
    former = make_former(kind, dtype=torch.float32, dim=48, condition_dim=32, head_dim=16)
    features = make_features(width=32, dtype=torch.float32)
    exact = tokens(former, features)
    with torch.autocast("cpu", torch.bfloat16):
        rough = tokens(former, features)
    assert (rough - exact).abs().mean() < 0.15 * exact.abs().mean()
    assert tokens(former.bfloat16(), features).dtype == torch.bfloat16  # features of any precision are taken


def test_starting_values():
    torch.manual_seed(0)
    options = {"dim": 64, "depth": 1, "input_mask_mode": "learnable", "num_views": 2, "features_per_view": 3}
    former = VideoFormer3D(**options)
    for tensor in (former.latents, former.time_embedding):
        assert abs(tensor.mean()) < 0.1
        assert abs(tensor.std() - 1) < 0.1
    for tensor in (former.mask_token, former.view_embedding, former.spatial_embedding):
        assert tensor.abs().max() == 0
    assert former.mask_token.shape == (1, 1, 1, 64)
    assert former(torch.randn(1, 14, 6, 1280)).shape == (1, 56, 64)
    assert VideoFormer2D(dim=64, depth=1)(torch.randn(1, 16, 2, 1280)).shape == (1, 64, 64)
    tokens, geometry = GeometryVideoFormer(dim=64, depth=1)(torch.randn(1, 14, 2, 1280))
    assert tokens.shape == (1, 56, 64)
    assert geometry.shape == (1, 14, 2, 2048)


def test_a_frozen_former_passes_gradients_on():
    former = make_former(VideoFormer3D).requires_grad_(False)
    features = make_features().requires_grad_()
    former(features).square().sum().backward()
    assert features.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in former.parameters())


# -- frames that are dropped or shorter ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VideoFormer3D, GeometryVideoFormer])
@pytest.mark.parametrize("mode", ["zero", "learnable", "gaussian"])
def test_nothing_of_a_dropped_frame_is_seen_or_learned_from(kind, mode):
    former = make_former(kind, input_mask_mode=mode)
    mask = torch.tensor(KEPT)
    features = make_features().requires_grad_()
    changed = torch.where(mask[..., None, None], features, features + 5)
    torch.manual_seed(0)
    out = tokens(former, features, frame_mask=mask)
    torch.manual_seed(0)
    assert torch.equal(tokens(former, changed, frame_mask=mask), out)
    out.square().sum().backward()
    assert features.grad[~mask].abs().max() == 0
    assert features.grad[mask].abs().amin((1, 2)).min() > 0


@torch.no_grad()
def test_noise_in_the_place_of_dropped_frames_is_standard_normal():
    former = make_former(VideoFormer3D, input_mask_mode="gaussian")
    seen = []
    former.layers[0].read.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    features = make_features(count=2000)
    for _ in range(2):
        former(features, frame_mask=torch.tensor(KEPT))
    noise = (seen[0].unflatten(0, (2, 4)) - former.time_embedding)[~torch.tensor(KEPT)]
    torch.testing.assert_close(noise.mean(), torch.tensor(0.0).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(noise.std(), torch.tensor(1.0).double(), atol=0.02, rtol=0)
    assert not torch.equal(*seen)


@pytest.mark.parametrize("kind", [VideoFormer3D, GeometryVideoFormer])
@torch.no_grad()
def test_mode_none_hides_a_frame_from_the_others_only(kind):
    former, mask, features = make_former(kind, input_mask_mode="none"), torch.tensor(KEPT), make_features()
    before, after = (tokens(former, x, frame_mask=mask) for x in (features, features + ~mask[..., None, None]))
    moved = (before - after).unflatten(1, (4, 2)).abs().amax((2, 3)) > 1e-9
    assert torch.equal(moved, ~mask)


@pytest.mark.parametrize("kind", [VideoFormer3D, GeometryVideoFormer])
@torch.no_grad()
def test_extra_tokens_are_not_masked(kind):
    former, mask, features = make_former(kind), torch.tensor(KEPT), make_features()
    extra = torch.randn(2, 3, 12).double()
    before, after = (tokens(former, features, frame_mask=mask, extra=e) for e in (extra, extra.flip(-1)))
    assert (before - after).unflatten(1, (4, 2)).abs().amax((2, 3)).min() > 1e-6


@pytest.mark.parametrize("kind", [VideoFormer3D, GeometryVideoFormer])
@torch.no_grad()
def test_keeping_every_frame_is_as_if_without_a_mask(kind):
    former, features = make_former(kind), make_features()
    kept = tokens(former, features, frame_mask=torch.ones(2, 4, dtype=torch.bool))
    torch.testing.assert_close(kept, tokens(former, features))


@torch.no_grad()
def test_frames_are_drawn_in_training_only_and_a_given_mask_wins():
    former, features = make_former(VideoFormer3D), make_features()
    full = former(features, frame_mask_prob=1.0)
    assert torch.equal(full, former(features))
    former.train()
    assert torch.equal(former(features), full)
    assert not torch.allclose(former(features, frame_mask_prob=1.0), full)
    mask = torch.tensor(KEPT)
    expected = former(features, frame_mask=mask)
    assert torch.equal(former(features, frame_mask=mask, frame_mask_prob=1.0), expected)


@pytest.mark.parametrize("kind", FORMERS.values())
@torch.no_grad()
def test_a_shorter_clip_uses_the_first_latents(kind):
    options = {} if kind is VideoFormer2D else {"use_temporal": False}
    former, features = make_former(kind, **options), make_features()
    short = tokens(former, features[:, :3])
    assert short.shape == (2, 6, 12)
    if kind is not GeometryVideoFormer:  # whose features look over time
        torch.testing.assert_close(short, tokens(former, features)[:, :6])


@torch.no_grad()
def test_padding_takes_the_time_embedding_away_and_nothing_else():
    former, features = make_former(VideoFormer2D), make_features()
    real = torch.tensor(KEPT)
    out = former(features, padding_mask=real)
    assert torch.equal(former(features, padding_mask=real.double()), out)
    moved = (out - former(features)).unflatten(1, (4, 2)).abs().amax((2, 3)) > 1e-9
    assert torch.equal(moved, ~real)
    former.time_embedding.zero_()
    torch.testing.assert_close(former(features, padding_mask=real), former(features))


# -- several cameras -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMERS.values())
@torch.no_grad()
def test_embeddings_tell_cameras_and_places_apart(kind):
    features = make_features()
    out = {}
    for views, per_view in ((1, None), (2, None), (1, 6), (2, 3)):
        former = make_former(kind, num_views=views, features_per_view=per_view)
        swapped_views = features[:, :, [3, 4, 5, 0, 1, 2]]
        swapped_places = features[:, :, [1, 0, 2, 4, 3, 5]]
        base = tokens(former, features)
        out[views, per_view] = [not torch.allclose(tokens(former, x), base) for x in (swapped_views, swapped_places)]
    assert out == {(1, None): [False, False], (2, None): [True, False], (1, 6): [True, True], (2, 3): [True, True]}


@torch.no_grad()
def test_embeddings_are_added_to_the_features_of_their_camera_and_place():
    former = make_former(VideoFormer3D, num_views=2, features_per_view=3)
    seen = []
    former.layers[0].read.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].unflatten(0, (2, 4))))
    features, extra = make_features(), torch.randn(2, 2, 12).double()
    former(features, extra=extra)
    for view in range(2):
        for place in range(3):
            expected = former.project(features[:, :, 3 * view + place])
            expected = expected + former.view_embedding[view] + former.spatial_embedding[place]
            torch.testing.assert_close(seen[0][:, :, 3 * view + place], expected + former.time_embedding[:, 0])
    torch.testing.assert_close(seen[0][:, :, 6:], extra[:, None] + former.time_embedding)


@torch.no_grad()
def test_weights_of_the_reference_mean_the_same_with_embeddings_at_rest():
    plain = make_former(VideoFormer3D)
    placed = VideoFormer3D(**SMALL, num_views=2, features_per_view=3).double()
    placed.load_reference_weights(plain.reference_weights(), config=SMALL)
    torch.testing.assert_close(placed(make_features()), plain(make_features()))
    trained = make_former(VideoFormer3D, num_views=2, features_per_view=3)
    placed.load_reference_weights(trained.reference_weights(), config=SMALL)
    torch.testing.assert_close(placed(make_features()), trained(make_features()))


# -- weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMERS.values())
@torch.no_grad()
def test_weights_load_from_a_whole_policy(kind):
    former, other = make_former(kind), make_former(kind, seed=1)
    policy = {f"model.Video_Former.{name}": value for name, value in former.reference_weights().items()}
    prefix = "model.Video_Former."
    other.load_reference_weights(policy | {"optimizer.step": torch.ones(1)}, prefix=prefix, config=SMALL)
    assert torch.equal(tokens(other, make_features()), tokens(former, make_features()))


def without(weights, name):
    return {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("change", "prefix", "words"),
    [
        (lambda w: without(w, "layers.1.1.qkv.bias"), "", "weights are missing: layers.1.1.qkv.bias; unknown: none$"),
        (lambda w: w | {"layers.2.0.to_q.weight": w["latents"]}, "", "missing: none; unknown: layers.2.0.to_q.weight$"),
        (lambda w: w | {"latents": w["latents"][:3]}, "", r"latents has shape \(3, 2, 12\); here it is \(4, 2, 12\)"),
        (lambda w: {"vf." + k: v for k, v in w.items()}, "", r"and \d+ more; prefix='vf.' would find them$"),
        (lambda w: w, "vf.", r"missing: vf.goal_emb.0.bias, .* and \d+ more; unknown: none$"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(change, prefix, words):
    former, other = make_former(VideoFormer3D), make_former(VideoFormer3D, seed=1)
    before = {name: tensor.clone() for name, tensor in former.state_dict().items()}
    with pytest.raises(ValueError, match=words) as error:
        former.load_reference_weights(change(other.reference_weights()), prefix=prefix, config=SMALL)
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in former.state_dict().items())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"heads": 5, "dim_head": 3}, "made with heads 5, this module with 3; construct it alike"),
        ({}, "made with heads 8, this module with 3"),
        ({"heads": 3, "activation": "sqrelu"}, "made with activation sqrelu, this module with gelu"),
        ({"heads": 3, "input_mask_mode": "gaussian"}, "input_mask_mode gaussian, this module with zero"),
    ],
)
def test_settings_that_weights_do_not_tell_are_refused_where_they_differ(config, words):
    """Another split into heads, of equal product, has the same shapes and computes something else."""
    former, other = make_former(VideoFormer3D), make_former(VideoFormer3D, seed=1)
    before = former.latents.clone()
    with pytest.raises(ValueError, match=words):
        former.load_reference_weights(other.reference_weights(), config=config)
    assert torch.equal(former.latents, before)
    former.load_reference_weights(other.reference_weights(), config={"heads": 3, "dim_head": 5, "anything": 1})
    with pytest.warns(UserWarning, match="taken to be heads 3, activation gelu, input_mask_mode zero"):
        former.load_reference_weights(other.reference_weights())


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMERS.values())
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 5}, "dim is 12, which heads, 5, does not divide; 10 or 15 would do"),
        ({"num_latents": 9}, "num_latents is 9, which num_frames, 4, does not divide; 8 or 12 would do"),
        ({"num_latents": 3}, "num_latents is 3, .*; 4 would do"),
        ({"num_time_embeds": 3}, "num_time_embeds is 3 for 4 frames; 1, shared by all, or at least 4 would do"),
        ({"num_time_embeds": 0}, "num_time_embeds is 0"),
        ({"dim": 0}, "dim is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"depth": True}, "depth is True"),
        ({"condition_dim": -1}, "condition_dim is -1"),
        ({"head_dim": 2.5}, "head_dim is 2.5"),
        ({"heads": 0}, "heads is 0"),
        ({"num_latents": 0}, "num_latents is 0"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"ff_mult": 0}, "ff_mult is 0"),
        ({"num_views": 0}, "num_views is 0"),
        ({"features_per_view": 0}, "features_per_view is 0"),
        ({"activation": "swish"}, "activation is 'swish'; one of gelu, relu, sqrelu would do"),
    ],
)
def test_bad_options_are_named(kind, options, words):
    with pytest.raises(ValueError, match=words):
        kind(**{**SMALL, **options})


def test_bad_options_of_some_are_named():
    with pytest.raises(ValueError, match="input_mask_mode is 'mean'; one of zero, gaussian, learnable, none would do"):
        VideoFormer3D(**SMALL, input_mask_mode="mean")
    with pytest.raises(ValueError, match="geometry_dim is 0"):
        GeometryVideoFormer(**SMALL, geometry_dim=0)


FEATURES = make_features()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"features": FEATURES[0]}, r"features are torch.float64 \(4, 6, 7\); floating \(B, T, N, 7\) is needed"),
        ({"features": FEATURES[..., :5]}, r"\(2, 4, 6, 5\)"),
        ({"features": FEATURES.long()}, "features are torch.int64"),
        ({"features": FEATURES[:, :0]}, "features have 0 frames; this former takes 1 to 4"),
        ({"features": torch.cat([FEATURES, FEATURES], 1)}, "features have 8 frames"),
        ({"padding_mask": torch.ones(2, 3)}, r"padding_mask has shape \(2, 3\); \(2, 4\), batch and frames"),
        ({"frame_mask": torch.ones(4, 2).bool()}, r"frame_mask has shape \(4, 2\)"),
        ({"frame_mask": torch.ones(2, 4)}, "frame_mask is torch.float32; torch.bool"),
        ({"frame_mask": torch.tensor([KEPT[0], [False] * 4])}, r"frame_mask\[1\] keeps no frame"),
        ({"frame_mask_prob": 1.5}, "frame_mask_prob is 1.5"),
        ({"extra": torch.zeros(2, 12)}, r"extra has shape \(2, 12\); \(2, tokens, 12\) is needed"),
        ({"extra": torch.zeros(3, 1, 12)}, r"extra has shape \(3, 1, 12\)"),
        ({"extra": torch.zeros(2, 1, 7)}, r"extra has shape \(2, 1, 7\)"),
    ],
)
@pytest.mark.parametrize("kind", [VideoFormer3D, GeometryVideoFormer])
def test_bad_input_is_named(kind, inputs, words):
    with pytest.raises(ValueError, match=words):
        make_former(kind)(**{"features": FEATURES, **inputs})


def test_features_that_the_cameras_cannot_share_are_named():
    with pytest.raises(ValueError, match="a frame has 6 features; 2 views of 4 are 8"):
        make_former(VideoFormer2D, num_views=2, features_per_view=4)(FEATURES)
    with pytest.raises(ValueError, match="a frame has 6 features, which 4 views cannot share"):
        make_former(VideoFormer2D, num_views=4)(FEATURES)


def test_importing_the_former_loads_neither_kernels_nor_readers():
    script = "import sys; from oneiros.video_former import VideoFormer3D; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numba", "scipy", "matplotlib", "laspy"}.intersection(loaded)
