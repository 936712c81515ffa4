"""Intervals against published values and closed forms; groups of tasks."""

import math

import pytest

from oneiros.envs.metaworld.tasks import GROUPS, group_of
from oneiros.policy.evaluation.scores import Z, group_means, paired_difference, rate, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, table I: the score interval without continuity correction
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_as_published(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("trials", [1, 10, 50])
def test_wilson_at_the_ends_has_a_closed_form(trials):
    assert wilson(0, trials) == pytest.approx((0, Z**2 / (trials + Z**2)))
    assert wilson(trials, trials) == pytest.approx((trials / (trials + Z**2), 1))


def test_wilson_of_half_is_symmetrical():
    low, high = wilson(25, 50)
    assert low + high == pytest.approx(1)
    assert high - low == pytest.approx(2 * Z / math.sqrt(50 + Z**2) / 2)


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2), (0, 0)])
def test_what_is_no_share_is_refused(successes, trials):
    with pytest.raises(ValueError, match="is no share"):
        wilson(successes, trials)


def test_a_paired_difference_counts_only_the_starts_where_they_part():
    first = [True] * 6 + [False] + [True] * 20 + [False] * 23
    second = [False] * 6 + [True] + [True] * 20 + [False] * 23
    told = paired_difference(first, second)
    assert (told["won"], told["lost"], told["pairs"]) == (6, 1, 50)
    assert told["difference"] == pytest.approx(0.1)
    assert told["p"] == pytest.approx(2 * (1 + 7) / 2**7)
    reach = Z * math.sqrt(8 - 25 / 52) / 52  # Agresti and Min: half an episode more in each cell
    assert (told["low"], told["high"]) == pytest.approx((5 / 52 - reach, 5 / 52 + reach))
    swapped = paired_difference(second, first)
    assert (swapped["difference"], swapped["low"], swapped["p"]) == pytest.approx((-0.1, -told["high"], told["p"]))


def test_two_that_never_part_still_have_an_interval():
    told = paired_difference([True] * 50, [True] * 50)
    assert told["difference"] == 0
    assert told["p"] == 1
    assert told["high"] == pytest.approx(Z / 52)


def test_pairs_need_the_same_number_of_episodes():
    with pytest.raises(ValueError, match="1 and 2 episodes make no pairs"):
        paired_difference([True], [True, False])


def test_a_rate_tells_counts_too():
    assert rate([True, False, True, True]) == {
        "rate": 0.75,
        "low": pytest.approx(wilson(3, 4)[0]),
        "high": pytest.approx(wilson(3, 4)[1]),
        "successes": 3,
        "episodes": 4,
    }


def test_groups_are_of_the_literature():
    assert {group: len(names) for group, names in GROUPS.items()} == {
        "easy": 28,
        "medium": 11,
        "hard": 6,
        "very hard": 5,
    }
    assert group_of("drawer-open-v3") == "easy"
    assert group_of("stick-pull-v2") == "very hard"
    assert group_of("push") == "hard"
    assert group_of("tie-shoelaces-v3") is None
    assert group_means({"drawer-open-v3": 1.0, "door-open-v3": 0.5, "push-v3": 0.25, "other": 0.0}) == {
        "easy": 0.75,
        "hard": 0.25,
    }


def test_every_task_of_meta_world_is_in_one_group():
    names = pytest.importorskip("metaworld.env_dict").ALL_V3_ENVIRONMENTS
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(name[:-3] for name in names)
