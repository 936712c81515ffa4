"""Ratios of sums, decibels and their errors, against values worked out by hand or by drawing clips again."""

import math

import pytest
import torch

from oneiros.world.evaluation.certainty import clustered_error, decibels, ratio_of_sums


def test_the_error_of_episodes_that_agree_within_themselves_counts_episodes():
    values = torch.tensor([[1.0], [1.0], [3.0], [3.0]])
    assert clustered_error(values, [0, 0, 1, 1]) == pytest.approx([1.0])  # as of two values, 1 and 3
    assert clustered_error(values, [0, 1, 2, 3]) == pytest.approx([3**-0.5])
    assert clustered_error(values, [5, 5, 5, 5]) is None


def test_a_ratio_of_sums_is_not_ruled_by_a_clip_with_next_to_nothing_below():
    above, below = torch.tensor([[1.0], [2.0], [1.0]]), torch.tensor([[2.0], [4.0], [1e-6]])
    assert ratio_of_sums(above, below).mean(0).item() == pytest.approx(4 / 6, rel=1e-5)


def test_clips_of_one_ratio_leave_no_doubt():
    below = torch.tensor([[1.0, 2.0], [3.0, 5.0], [8.0, 1.0]])
    values = ratio_of_sums(0.25 * below, below)
    torch.testing.assert_close(values, torch.full_like(values, 0.25))
    assert clustered_error(values, [0, 1, 2]) == pytest.approx([0.0, 0.0], abs=1e-9)


def test_a_horizon_with_nothing_below_is_no_number_and_spoils_no_other():
    values = ratio_of_sums(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.0, 2.0], [0.0, 2.0]]))
    assert values.mean(0).isnan().tolist() == [True, False]


def test_errors_are_those_of_drawing_the_clips_again():
    generator = torch.Generator().manual_seed(0)
    below = 1 + torch.rand(200, 1, generator=generator)
    above = 100 * below * (0.5 + torch.rand(200, 1, generator=generator))
    values = decibels(ratio_of_sums(above, below), cap=60.0)
    again = [torch.randint(200, (200,), generator=generator) for _ in range(2000)]
    drawn = torch.tensor([10 * math.log10(255**2 / (above[i].sum() / below[i].sum()).item()) for i in again])
    assert values.mean(0).item() == pytest.approx(10 * math.log10(255**2 / (above.sum() / below.sum()).item()))
    assert clustered_error(values, list(range(200)))[0] == pytest.approx(drawn.std().item(), rel=0.1)


def test_no_error_at_all_scores_the_cap_without_doubt():
    assert decibels(torch.zeros(3, 2, dtype=torch.float64), cap=60.0).tolist() == [[60.0] * 2] * 3
