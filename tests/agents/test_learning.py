"""What learns and what plans in a dream: on a line where the best play is known, optimally."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from oneiros.agents.dream_vector import DreamVector
from oneiros.agents.evaluation import AgentPlayer, PlannerPlayer, RandomPlayer, play
from oneiros.agents.learning import Learner, Piece, lambda_returns
from oneiros.agents.model import Agent, AgentConfig
from oneiros.agents.planning import PlanConfig, Planner
from oneiros.agents.settings import LearningConfig
from tests.agents.line_world import OPTIMUM, line_starts, line_world
from tests.world.worlds import SPECS


def taught(world, *, pieces: int = 22) -> Agent:
    """An agent that learned in the dreams of a world."""
    torch.manual_seed(0)
    env = DreamVector(world, line_starts(), num_envs=16, max_steps=20)
    agent = Agent(AgentConfig(SPECS["discrete"], env.single_observation_space.shape[0], width=32, depth=1))
    agent.standardise_by(torch.from_numpy(env.reset(seed=1)[0]))
    learner = Learner(agent, env, LearningConfig(horizon=12, lr=3e-3, entropy=0.01, gamma=0.97))
    for _ in range(pieces):
        learner.learn()
    return agent


def earned_in_the_game(player) -> float:
    env = DreamVector(line_world(), line_starts(), num_envs=24, max_steps=20)
    return play(player, env, episodes=48).returns.mean()


def test_an_agent_of_a_perfect_dream_plays_the_game_optimally():
    agent = taught(line_world(shift=0))
    assert earned_in_the_game(AgentPlayer(agent, likeliest=True)) > OPTIMUM - 0.02
    assert earned_in_the_game(RandomPlayer()) < 0


def test_labels_that_come_a_step_too_late_teach_nothing():
    agent = taught(line_world(shift=1), pieces=12)
    assert earned_in_the_game(AgentPlayer(agent, likeliest=True)) < OPTIMUM - 0.3


@pytest.mark.parametrize("plan", ["shooting", "cem"])
def test_planners_play_the_game_well_without_training(plan):
    dreams = DreamVector(line_world(shift=0), line_starts(), num_envs=64)
    planner = Planner(dreams, plan, PlanConfig(horizon=7, hold=0.6, rounds=2))
    game = DreamVector(line_world(), line_starts(), num_envs=3, max_steps=20)
    returns = play(PlannerPlayer(planner), game, episodes=3).returns.mean()
    assert returns > OPTIMUM - (0.1 if plan == "cem" else 0.2)


class Pointing(gym.vector.VectorEnv):
    """Shows numbers (B, 3), and pays for actions that are near them: keys where they are positive, or themselves."""

    def __init__(self, kind: str) -> None:
        self.num_envs, self.kind = 32, kind
        self.single_observation_space = spaces.Box(-1, 1, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        self._rng = np.random.default_rng(seed)
        return self._show(), {}

    def step(self, actions):
        wanted = self.shown > 0 if self.kind == "keys" else 2 * self.shown[:, :2]
        missed = np.abs(np.asarray(actions, float)[:, : wanted.shape[1]] - wanted).mean(1)
        nobody = np.zeros(self.num_envs, bool)
        return self._show(), -missed, nobody, nobody, {}

    def _show(self):
        self.shown = self._rng.uniform(-1, 1, (self.num_envs, 3)).astype(np.float32)
        return self.shown


@pytest.mark.parametrize(("kind", "before", "after"), [("keys", 0.4, 0.15), ("continuous", 1.0, 0.6)])
def test_keys_and_numbers_are_learned_too(kind, before, after):
    torch.manual_seed(0)
    env = Pointing(kind)
    learner = Learner(
        Agent(AgentConfig(SPECS[kind], 3, width=32)), env, LearningConfig(horizon=16, gamma=0.0, lr=1e-2, batches=2)
    )
    rewards = [learner.learn()["reward"] for _ in range(30)]
    assert -np.mean(rewards[:1]) > before
    assert -np.mean(rewards[-3:]) < after


def test_returns_end_with_episodes_and_otherwise_take_the_critics_word():
    """One environment, three steps: the second ends its episode, or only cuts it off."""
    rewards, values, following = (torch.tensor([row]).T for row in ([1.0, 2.0, 4.0], [0.0] * 3, [10.0, 20.0, 30.0]))

    def returns(carries, over, lambda_):
        piece = Piece(values, values, rewards, torch.tensor([carries]).T, torch.tensor([over]).T, values, following)
        return lambda_returns(piece, 0.5, lambda_)[:, 0].tolist()

    going = returns([1.0, 1.0, 1.0], [False] * 3, 1.0)
    assert going == [1 + 0.5 * (2 + 0.5 * (4 + 0.5 * 30)), 2 + 0.5 * (4 + 0.5 * 30), 4 + 0.5 * 30]
    assert returns([1.0, 0.0, 1.0], [False, True, False], 1.0) == [1 + 0.5 * 2, 2.0, 19.0]
    assert returns([1.0, 1.0, 1.0], [False, True, False], 1.0) == [1 + 0.5 * (2 + 0.5 * 20), 2 + 0.5 * 20, 19.0]
    assert returns([1.0, 1.0, 1.0], [False] * 3, 0.0) == [1 + 0.5 * 10, 2 + 0.5 * 20, 19.0]


def test_rewards_that_are_no_numbers_are_named():
    env = Pointing("keys")
    learner = Learner(Agent(AgentConfig(SPECS["keys"], 3, width=8)), env, LearningConfig())
    env.step = lambda actions: (env.shown, np.full(32, np.nan), *np.zeros((2, 32), bool), {})
    with pytest.raises(ValueError, match="no numbers"):
        learner.learn()


def test_a_saved_agent_and_its_learner_go_on_alike(tmp_path):
    def learner():
        torch.manual_seed(0)
        return Learner(Agent(AgentConfig(SPECS["keys"], 3, width=8)), Pointing("keys"), LearningConfig(horizon=4))

    first, second = learner(), learner()
    first.learn()
    state = first.state_dict()
    second.load_state_dict({**state, "model": {k: v.clone() for k, v in state["model"].items()}})
    features = torch.rand(5, 3)
    torch.testing.assert_close(second.agent.value(features), first.agent.value(features))
    first.agent.save(tmp_path / "agent")
    assert torch.equal(Agent.load(tmp_path / "agent").value(features), first.agent.value(features))
    with pytest.raises(ValueError, match="not this agent's"):
        second.load_state_dict({**state, "model": {}})
