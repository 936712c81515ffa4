"""The same dreams as torchrl takes them: as any vector environment of Gymnasium, without an adapter."""

import pytest
import torch

pytest.importorskip("torchrl")

from tensordict import TensorDict
from torchrl.envs import GymWrapper

from oneiros.agents.dream_vector import DreamVector
from tests.agents.line_world import STAY, line_starts, line_world

RIGHT, LENGTH = 2, 3


def test_what_a_step_led_to_is_kept_where_the_next_dream_has_begun():
    dreams = DreamVector(line_world(), line_starts(), num_envs=2, max_steps=LENGTH)
    env = GymWrapper(dreams, categorical_action_encoding=True)

    def always(step: TensorDict) -> TensorDict:
        return step.set("action", torch.tensor([RIGHT, STAY]))

    steps = env.rollout(2 * LENGTH, always, break_when_any_done=False, auto_cast_to_device=False)
    before, after = steps["observation"], steps["next", "observation"]
    assert steps["next", "truncated"].squeeze(-1).tolist() == 2 * [[False, False, True, False, False, True]]
    assert torch.equal(before[:, 1:LENGTH], after[:, : LENGTH - 1])
    assert not torch.equal(before[0, LENGTH], after[0, LENGTH - 1])  # another dream's first, and this one's last
