"""Kernel points: the lattice by its formula, and charges that come to rest."""

import math

import pytest
import torch

from oneiros.points.nn.kernel_points import fibonacci, repulsion

SHELLS = (0, 0.5, 1.0), (1, 7, 13)


def energy(points: torch.Tensor) -> float:
    return (1 / torch.pdist(points)).sum().item()


def test_fibonacci_follows_its_formula_shell_by_shell():
    points = fibonacci(*SHELLS)
    expected = []
    for radius, count in zip(*SHELLS, strict=True):
        for j in range(count):
            z, turn = 1 - (2 * j + 1) / count, j * math.pi * (3 - 5**0.5)
            across = math.sqrt(1 - z * z)
            expected.append([radius * across * math.cos(turn), radius * across * math.sin(turn), radius * z])
    assert points.dtype == torch.float64
    torch.testing.assert_close(points, torch.tensor(expected, dtype=torch.float64), atol=1e-14, rtol=0)


def test_a_shell_without_radius_lies_at_the_origin():
    assert fibonacci((0,), (3,)).eq(0).all()
    assert repulsion((0, 1), (2, 4))[:2].eq(0).all()


def test_repulsion_finds_the_icosahedron():
    """The least energy of 12 unit charges on a sphere is known: 49.165253058 (Thomson's problem)."""
    points = repulsion((2.0,), (12,), seed=3)
    assert energy(points / 2) == pytest.approx(49.165253058, abs=1e-6)


def test_repulsion_keeps_to_its_shells_and_feels_the_other_ones():
    points = repulsion(*SHELLS)
    radii = torch.tensor([0.0] + [0.5] * 7 + [1.0] * 13, dtype=torch.float64)
    torch.testing.assert_close(points.norm(dim=1), radii, atol=1e-12, rtol=0)
    assert energy(points) < energy(fibonacci(*SHELLS))
    alone = torch.cat([repulsion((radius,), (count,)) for radius, count in zip(*SHELLS, strict=True)])
    assert energy(points) < energy(alone)


def test_repulsion_is_decided_by_its_seed():
    assert torch.equal(repulsion(*SHELLS, seed=1), repulsion(*SHELLS, seed=1))
    assert not torch.equal(repulsion(*SHELLS, seed=1), repulsion(*SHELLS, seed=2))


@pytest.mark.parametrize(
    ("radii", "counts", "words"),
    [
        ((), (), "at least one shell"),
        ((0, 1), (1,), "2 values and shell_points 1"),
        ((0, -1), (1, 4), r"shell_radii\[1\] is -1"),
        ((math.nan,), (1,), r"shell_radii\[0\] is nan"),
        ((0, 1), (1, 0), r"shell_points\[1\] is 0"),
        ((1,), (2.5,), r"shell_points\[0\] is 2.5"),
    ],
)
@pytest.mark.parametrize("place", [fibonacci, repulsion])
def test_bad_shells_are_named(place, radii, counts, words):
    with pytest.raises(ValueError, match=words):
        place(radii, counts)
