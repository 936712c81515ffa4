"""The same start, another action, with an env that the dot world knows perfectly."""

import numpy as np
import pytest
import torch

from oneiros.records import ActionSpec, Camera
from oneiros.world.evaluation.counterfactual import (
    CounterfactualConfig,
    measure_counterfactual,
    outcome_accuracy,
    tried_actions,
)
from tests.dot_world import SPECS, DotWorld, draw_dots, moves

CONFIG = CounterfactualConfig(starts=4, context=3, horizon=3)


class DotEnv:
    """The truth that DotWorld dreams of. forgetful: a seed does not bring the start back. lasts: steps an episode."""

    state_names = ()
    fps = 10
    cameras = (Camera("observation.images.front", 16, 16),)

    def __init__(self, kind: str, *, forgetful: bool = False, lasts: int = 10_000):
        self.action_spec, self.forgetful, self.lasts = SPECS[kind], forgetful, lasts
        self.resets = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        rng = np.random.default_rng([seed, self.resets if self.forgetful else 0])
        self.place, self.age = torch.from_numpy(rng.integers(16, size=2)), 0
        return {self.cameras[0].name: self.render()}, {}

    def step(self, action):
        self.place = (self.place + moves(torch.as_tensor(action), self.action_spec)) % 16
        self.age += 1
        return {self.cameras[0].name: self.render()}, 0.0, self.age >= self.lasts, False, {}

    def render(self):
        return draw_dots(self.place).numpy()

    def close(self):
        pass


@pytest.mark.parametrize(("kind", "stride"), [("discrete", 1), ("discrete", 2), ("keys", 1), ("continuous", 2)])
def test_a_world_that_knows_the_env_tells_every_action(kind, stride):
    world = DotWorld(kind, stride=stride)
    if kind != "continuous":  # the fake moves once a frame; let it move as often as the env does
        world.step = repeat_moves(world, stride)
    summary, shown = measure_counterfactual(world, DotEnv(kind), config=CONFIG)
    assert summary["accuracy"] == [1.0] * 3
    assert summary["psnr"] == [60.0] * 3
    assert summary["starts"] == 4
    assert summary["chance"] == 1 / len(summary["actions"])
    assert torch.equal(shown.real, shown.dreamed)


def repeat_moves(world: DotWorld, times: int):
    single = world.step

    def step(state, action, **options):
        frame = None
        for _ in range(times):
            state, frame = single(state, action, **options)
        return state, frame

    return step


def test_a_world_that_ignores_actions_is_at_chance():
    summary, _ = measure_counterfactual(DotWorld(obedient=False), DotEnv("discrete"), config=CONFIG)
    assert summary["accuracy"] == [0.2] * 3


def test_a_world_that_obeys_late_is_caught():
    summary, _ = measure_counterfactual(DotWorld(lag=1), DotEnv("discrete"), config=CONFIG)
    assert summary["accuracy"][0] == 0.2


def test_outcomes_that_actions_share_do_not_count():
    real = torch.zeros(1, 3, 1, 4, 4, 3, dtype=torch.uint8)
    real[0, 2] = 200
    assert outcome_accuracy(real, real) == ([1.0], [1])
    assert outcome_accuracy(real[:, :2], real[:, :2]) == ([None], [0])


def test_tried_actions_cover_each_kind():
    assert [action.tolist() for action in tried_actions(SPECS["discrete"])] == [0, 1, 2, 3, 4]
    assert sum(action.sum() for action in tried_actions(SPECS["keys"])) == 4
    arm = ActionSpec("continuous", ("a", "b"), mean=(1.0, 2.0), std=(0.5, 0.0))
    assert [action.tolist() for action in tried_actions(arm)] == [[0.5, 2.0], [1.5, 2.0], [1.0, 2.0], [1.0, 2.0]]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="the env's actions are left, right"):
        measure_counterfactual(DotWorld("discrete"), DotEnv("keys"), config=CONFIG)
    with pytest.raises(ValueError, match="does not come back to the same start"):
        measure_counterfactual(DotWorld(), DotEnv("discrete", forgetful=True), config=CONFIG)
    with pytest.raises(ValueError, match="ended before all actions could be tried"):
        measure_counterfactual(DotWorld(), DotEnv("discrete", lasts=4), config=CONFIG)
