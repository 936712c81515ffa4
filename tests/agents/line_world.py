"""A game whose optimal play is known, and a world that has learned it perfectly, but for what its data say wrongly.

A dot on a line of 8 places goes left or right or stays. To stay at the mark, place 6, pays 1 and ends the episode; to
enter the pit, place 0, costs 1 and ends it; any other step costs 0.05. Dreams begin at places 2 to 4.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from oneiros.records import CodeClip
from oneiros.world.config import WorldConfig
from oneiros.world.model import World
from oneiros.world.nn.outcomes import StepOutcome
from oneiros.world.state import WorldState
from tests.world.worlds import SPECS, make_tokenizer

PLACES, MARK, PIT, STAY = 8, 6, 0, 0
MOVES = torch.tensor([0, -1, 1])  # stay, left, right
COST, STARTS = 0.05, (2, 3, 4)
OPTIMUM = float(np.mean([1 - COST * (MARK - start) for start in STARTS]))


def after(places: Tensor, actions: Tensor) -> Tensor:
    return (places + MOVES[actions]).clamp(0, PLACES - 1)


def truth(places: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """What steps pay, and whether they end."""
    won, lost = (places == MARK) & (actions == STAY), after(places, actions) == PIT
    return torch.where(won, 1.0, torch.where(lost, -1.0, -COST)), won | lost


def counted(*, shift: int = 0, episodes: int = 400) -> tuple[Tensor, Tensor]:
    """What random play tells of each place and action (8, 3): mean reward, share of ends. shift: by so many steps the
    labels of an episode come too late."""
    generator = torch.Generator().manual_seed(0)
    sums, ends, seen = torch.zeros(3, PLACES, 3)
    for _ in range(episodes):
        place, rows, over = torch.randint(2, 7, (1,), generator=generator), [], False
        while not over and len(rows) < 30:
            action = torch.randint(3, (1,), generator=generator)
            reward, ended = truth(place, action)
            rows.append((int(place), int(action), float(reward), bool(ended)))
            place, over = after(place, action), bool(ended)
        labels = [(-COST, False)] * shift + [row[2:] for row in rows]
        for (here, done, *_), (reward, ended) in zip(rows, labels, strict=False):
            sums[here, done] += reward
            ends[here, done] += ended
            seen[here, done] += 1
    return sums / seen.clamp_min(1), ends / seen.clamp_min(1)


def pictures(places: Tensor) -> Tensor:
    """Codes (B, 16) of frames with the dot at places (B,)."""
    return torch.nn.functional.one_hot(places, PLACES).repeat(1, 2)


class LineWorld(World):
    """Dreams as the game is, by a table of what steps pay and whether they end. Its features are those of an untrained
    network of codes, from which the place can be told."""

    def __init__(self, rewards: Tensor, ends: Tensor) -> None:
        torch.manual_seed(0)
        sizes = {"dim": 32, "depth": 1, "head_dim": 16, "tokens_per_step": 16, "window": 3, "num_meta_tokens": 2}
        config = WorldConfig(action_spec=SPECS["discrete"], reward_values=(0.0, 1.0), end_rate=0.1, **sizes)
        super().__init__(config, make_tokenizer((2, PLACES)))
        self.rewards, self.ends = rewards, ends
        self.eval()

    def step_codes(self, state: WorldState, action, *, generator=None, sampling=None):
        places = state.codes[:, -1, :PLACES].argmax(1)
        self.last = places, action
        codes = pictures(after(places, action))
        with torch.no_grad():
            return state.observed(codes, self.action_embedding.vectors(action)), codes

    def outcome(self, state: WorldState, *, generator=None, temperature: float = 1.0) -> StepOutcome:
        places, actions = self.last
        probability = self.ends[places, actions]
        ended = torch.rand(probability.shape, generator=generator) < probability
        return StepOutcome(self.rewards[places, actions], ended, probability)


def line_world(*, shift: int | None = None) -> LineWorld:
    """The game itself, or what its random play taught, the labels `shift` steps too late."""
    if shift is not None:
        return LineWorld(*counted(shift=shift))
    places, actions = torch.arange(PLACES)[:, None].expand(-1, 3), torch.arange(3).expand(PLACES, -1)
    rewards, ends = truth(places, actions)
    return LineWorld(rewards, ends.float())


def line_starts() -> CodeClip:
    """First frames of episodes."""
    codes = pictures(torch.tensor(STARTS))[:, None].expand(-1, 3, -1)
    valid = torch.tensor([False, False, True]).expand(len(STARTS), -1)
    return CodeClip(codes, torch.zeros(len(STARTS), 2, dtype=torch.int64), valid)
