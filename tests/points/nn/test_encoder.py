"""From depth to tokens: the geometry of the camera, what is missing, and that the tokens can learn shapes."""

import math

import pytest
import torch

from oneiros.points import PointEncoder
from oneiros.points.nn.encoder import pixel_grid, unproject
from oneiros.records import PointBatch

INTRINSICS = torch.tensor([20.0, 25.0, 11.5, 7.5])
HEIGHT, WIDTH = 16, 24


def make_encoder(seed=0, **options) -> PointEncoder:
    torch.manual_seed(seed)
    sizes = {"dim": 12, "num_tokens": 3, "num_points": 100, "num_neighbors": 6, "channels": 16, "hidden_channels": 24}
    return PointEncoder(**{**sizes, "blocks": 1, "radius": 0.5, **options}).eval()


def make_depth(images=2, seed=0) -> torch.Tensor:
    return torch.rand(images, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed)) * 0.5 + 1


def all_points(depth: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3), missing ones too."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return unproject(depth, columns, rows, intrinsics)


def test_points_project_back_to_their_pixels():
    depth = make_depth()
    x, y, z = all_points(depth, INTRINSICS).unbind(-1)
    fx, fy, cx, cy = INTRINSICS
    assert torch.equal(z, depth)
    torch.testing.assert_close(fx * x / z + cx, torch.arange(WIDTH).float().expand_as(z), atol=1e-4, rtol=0)
    torch.testing.assert_close(fy * y / z + cy, torch.arange(HEIGHT).float()[:, None].expand_as(z), atol=1e-4, rtol=0)


def test_each_image_can_have_its_own_camera():
    encoder, depth = make_encoder(num_points=HEIGHT * WIDTH), make_depth()
    cameras = torch.stack([INTRINSICS, INTRINSICS * 2])
    batch, _ = encoder.points(depth, cameras)
    alone = [encoder.points(depth[image : image + 1], cameras[image])[0].xyz for image in range(2)]
    assert torch.equal(batch.xyz, torch.cat(alone))
    assert not torch.allclose(alone[1], encoder.points(depth[1:], INTRINSICS)[0].xyz)


@pytest.mark.parametrize("size", [(96, 96), (48, 64), (480, 640), (1, 100), (100, 1), (3, 1000), (20, 20)])
@pytest.mark.parametrize("count", [1, 7, 100, 1024])
def test_the_grid_is_even_and_uses_what_it_may(size, count):
    rows, columns = pixel_grid(*size, count)
    assert len(rows) * len(columns) <= count
    for lines, length in ((rows, size[0]), (columns, size[1])):
        assert lines[0] >= 0
        assert lines[-1] < length
        assert (lines.diff() >= 1).all()
        assert lines[0] <= length // len(lines)  # the margins are no wider than the gaps
        assert length - 1 - lines[-1] <= length // len(lines)
        if len(lines) > 2:
            assert lines.diff().max() - lines.diff().min() <= 1
    if count >= size[0] * size[1]:
        assert len(rows) * len(columns) == size[0] * size[1]
    if 100 <= count < min(size) ** 2:
        assert len(rows) * len(columns) > 0.85 * count
        assert 0.8 < (size[0] / len(rows)) / (size[1] / len(columns)) < 1.25


@pytest.mark.parametrize("nothing", [0.0, -1.0, math.nan, math.inf, -math.inf, 3.0, 7.0])
def test_missing_depth_is_missing_points(nothing):
    """Also what lies as far as the camera's limit, here 3 m."""
    encoder = make_encoder(max_depth=3.0, num_points=HEIGHT * WIDTH)
    depth = make_depth()
    hole = torch.rand(depth.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    depth[hole] = nothing
    batch, pixels = encoder.points(depth, INTRINSICS)
    assert torch.equal(pixels, (~hole).flatten().nonzero()[:, 0])
    assert batch.offsets.tolist() == [0, int((~hole[0]).sum()), int((~hole).sum())]
    torch.testing.assert_close(batch.xyz, all_points(depth, INTRINSICS)[~hole])
    tokens = encoder(depth, INTRINSICS)
    assert tokens.isfinite().all()
    torch.testing.assert_close(encoder.tokens(batch), tokens)
    expected = [encoder.tokens(PointBatch(batch.xyz[a:b], batch.features[a:b], None, torch.tensor([0, b - a])))
                for a, b in zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True)]  # fmt: skip
    torch.testing.assert_close(tokens, torch.cat(expected))


def test_an_image_without_depth_has_tokens_of_its_own_and_changes_no_other():
    encoder = make_encoder(num_points=30)
    depth = make_depth(3)
    whole = encoder(depth, INTRINSICS)
    depth[1] = 0
    partly = encoder(depth, INTRINSICS)
    torch.testing.assert_close(partly[[0, 2]], whole[[0, 2]])
    assert not torch.allclose(partly[1], whole[1])
    blind = encoder.train()(torch.zeros(2, HEIGHT, WIDTH), INTRINSICS)
    assert blind.shape == (2, 3, 12)
    assert blind.isfinite().all()
    assert torch.equal(blind[0], blind[1])


def test_no_images_are_no_tokens():
    assert make_encoder()(torch.zeros(0, HEIGHT, WIDTH), INTRINSICS).shape == (0, 3, 12)


def test_tokens_do_not_depend_on_the_order_of_points():
    encoder = make_encoder()
    batch, _ = encoder.points(make_depth(1), INTRINSICS)
    order = torch.randperm(len(batch.xyz))
    shuffled = PointBatch(batch.xyz[order], batch.features[order], None, batch.offsets)
    torch.testing.assert_close(encoder.tokens(shuffled), encoder.tokens(batch), atol=1e-5, rtol=1e-5)


def test_colours_are_those_of_the_points_pixels():
    encoder = make_encoder(feature_dim=3)
    depth, colours = make_depth(), torch.rand(2, 3, HEIGHT, WIDTH)
    depth[:, ::3] = 0
    batch, pixels = encoder.points(depth, INTRINSICS, colours)
    assert torch.equal(batch.features, colours.permute(0, 2, 3, 1).reshape(-1, 3)[pixels])
    before = encoder(depth, INTRINSICS, colours)
    unseen = colours.clone()
    unseen[:, :, ::3] = math.nan  # where there are no points, nobody looks
    torch.testing.assert_close(encoder(depth, INTRINSICS, unseen), before)
    assert not torch.allclose(encoder(depth, INTRINSICS, 1 - colours), before)


def test_every_weight_and_the_depth_have_a_gradient():
    encoder = make_encoder(blocks=2).train()
    depth = make_depth()
    depth[:, :4] = math.nan
    depth.requires_grad_()
    encoder(depth, INTRINSICS).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert depth.grad is not None
    assert depth.grad.isfinite().all()
    assert depth.grad[:, :4].eq(0).all()
    assert depth.grad[:, 4:].ne(0).sum() > 100


def test_the_gradient_of_depth_is_that_of_finite_differences():
    encoder = make_encoder(num_points=12, num_neighbors=4, channels=8, groups=4).double()
    depth = make_depth(1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda d: encoder(d, INTRINSICS.double()), depth, fast_mode=True)


def bumps(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A wall at 2 m with a bump or a dent of 20 cm at a random place, and which of both it is."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, 1, 1, generator=generator) * torch.tensor([8.0, 14.0])[:, None, None] + 4
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    inside = (rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 < 9
    kind = torch.randint(2, (count,), generator=generator)
    return 2 + inside * 0.2 * (kind * 2 - 1)[:, None, None], kind


def test_it_learns_a_shape_wherever_it_lies():
    encoder = make_encoder(num_tokens=1, dim=2, num_points=HEIGHT * WIDTH).train()
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=5e-3)
    depth, kind = bumps(24, seed=0)
    for _ in range(12):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(encoder(depth, INTRINSICS)[:, 0], kind).backward()
        optimiser.step()
    unseen, truth = bumps(24, seed=1)
    with torch.no_grad():
        right = (encoder(unseen, INTRINSICS)[:, 0].argmax(-1) == truth).float().mean()
    assert right > 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_tokens": 0}, "num_tokens is 0"),
        ({"num_points": 0}, "num_points is 0"),
        ({"num_neighbors": 0}, "num_neighbors is 0"),
        ({"heads": 3}, "heads is 3, which does not divide channels, 16"),
        ({"radius": 0.0}, "radius is 0.0"),
        ({"max_depth": 0.0}, "max_depth 0.0"),
        ({"groups": 5}, "groups is 5"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        make_encoder(**options)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((make_depth()[0], INTRINSICS), r"got torch.float32 \(16, 24\)"),
        ((make_depth().long(), INTRINSICS), "torch.int64"),
        ((make_depth(), INTRINSICS[:3]), r"intrinsics are \(4,\) or \(2, 4\), got \(3,\)"),
        ((make_depth(), torch.zeros(4)), "fx and fy must be above 0"),
        ((make_depth(), INTRINSICS, torch.zeros(2, 3, HEIGHT, WIDTH)), r"features are \(2, 3, 16, 24\); .* takes None"),
    ],
)
def test_bad_input_is_named(inputs, words):
    with pytest.raises(ValueError, match=words):
        make_encoder()(*inputs)


def test_missing_colours_are_named():
    with pytest.raises(ValueError, match=r"features are None; this encoder takes \(2, 3, 16, 24\)"):
        make_encoder(feature_dim=3)(make_depth(), INTRINSICS)
