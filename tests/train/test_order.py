"""Samples and their random keys are functions of (seed, step, sample) alone."""

import pytest
import torch

from oneiros.train.order import Order


def test_every_item_once_an_epoch_in_another_order_each_time():
    order = Order(12, batch_size=4, seed=0)
    epochs = [[i for step in range(3 * e, 3 * e + 3) for i in order.indices(step, range(4))] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1]


def test_shards_are_slices_of_the_step():
    order, again = Order(10, batch_size=8, seed=3), Order(10, batch_size=8, seed=3)
    whole = order.indices(5, range(8))
    assert again.indices(5, range(2, 6)) == whole[2:6]
    assert torch.equal(again.seeds(5, range(2, 6)), order.seeds(5, range(8))[2:6])


def test_seeds_differ_between_samples_steps_and_runs():
    seeds = [Order(9, batch_size=4, seed=seed).seeds(step, range(4)) for seed in (0, 1) for step in (0, 1)]
    assert len(set(torch.cat(seeds).tolist())) == 16
    assert (torch.cat(seeds) >= 0).all()


def test_nothing_to_train_on():
    with pytest.raises(ValueError, match="0 clips"):
        Order(0, batch_size=4, seed=0)
