"""Learning rate and averaged weights against their formulas."""

from dataclasses import replace

import pytest
import torch

from oneiros.train.optim import Ema, learning_rate
from tests.train.toy import CONFIG, Toy


def test_warm_up_then_cosine():
    config = replace(CONFIG, steps=101, warmup_steps=50, learning_rate=2.0, final_lr_fraction=0.1)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(2.0 / 50)
    assert rates[49] == rates[50] == 2.0
    assert rates[75] == pytest.approx(2.0 * 0.55)
    assert rates[100] == pytest.approx(0.2)
    assert rates == sorted(rates[:51]) + sorted(rates[51:], reverse=True)


def test_average_is_the_recurrence_and_swapping_back_is_exact():
    model = Toy()
    ema, expected = Ema(model, 0.5), model.gain.detach().clone()
    for step in range(20):
        with torch.no_grad():
            model.gain += 1.0
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.gain.detach()
    trained = model.gain.detach().clone()
    with ema.swapped_in():
        torch.testing.assert_close(model.gain.detach(), expected)
    assert torch.equal(model.gain, trained)


def test_no_average_when_off():
    model = Toy()
    ema = Ema(model, 0.0)
    ema.update(0)
    with ema.swapped_in():
        assert torch.equal(model.gain, torch.ones(6))
    assert ema.state_dict() == {}
