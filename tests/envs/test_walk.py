import numpy as np
import pytest

from oneiros.cli.record import RecordSettings, record
from oneiros.envs.explore import StickyRandom
from oneiros.envs.make import make_env
from oneiros.envs.walk import KEYS, Walker
from oneiros.records import ActionSpec

SPEC = ActionSpec("keys", KEYS)


def seen(left, ahead, right, *, place=(0.0, 0.0)):
    """A view of 8 x 9 pixels with so many metres of room in each third."""
    depth = np.repeat(np.float32([left, ahead, right]), 3)[None].repeat(8, 0)
    return {"observation.depth.front": depth, "observation.state": np.float32([*place, 0, 0])}


def held(policy, observation, rng):
    return {name for name, down in zip(SPEC.names, policy(observation, SPEC, rng), strict=True) if down}


class Calm:
    """Draws no whims: neither wandering nor looks around, nor chance between left and right."""

    def random(self):
        return 0.9

    def normal(self):
        return 0.0

    def integers(self, low, high):
        return low


def test_it_walks_where_there_is_room_ahead():
    assert held(Walker(), seen(3, 9, 3), Calm()) == {"MOVE_FORWARD"}


@pytest.mark.parametrize(("left", "right", "turn"), [(4, 1, "TURN_LEFT"), (1, 4, "TURN_RIGHT")])
def test_before_a_wall_it_turns_to_where_there_is_more_room_until_the_way_is_free(left, right, turn):
    walker, rng = Walker(), Calm()
    for _ in range(5):
        assert held(walker, seen(left, 1.0, right), rng) == {turn}
    assert held(walker, seen(1, 6.0, 1), rng) == {turn}
    assert held(walker, seen(1, 6.0, 1), rng) == {"MOVE_FORWARD"}


def test_it_turns_away_from_what_it_walks_against_and_does_not_see():
    walker, rng = Walker(), Calm()
    assert held(walker, seen(1, 9, 2, place=(5, 5)), rng) == {"MOVE_FORWARD"}
    assert held(walker, seen(1, 9, 2, place=(5.6, 5)), rng) == {"MOVE_FORWARD"}
    assert held(walker, seen(1, 9, 2, place=(5.6, 5)), rng) == {"TURN_RIGHT"}


@pytest.fixture(scope="module")
def maze():
    env = make_env("doom:my_way_home", height=16, width=16, depth=True)
    yield env
    env.close()


def test_a_maze_is_seen_from_afar_by_one_who_walks_and_from_near_by_one_who_plays_at_random(maze):
    def room(policy):
        rng, far = np.random.default_rng(0), []
        observation, _ = maze.reset(seed=3)
        for _ in range(150):
            observation, *_ = maze.step(policy(observation, maze.action_spec, rng))
            far.append(np.median(observation["observation.depth.front"][6:10]))
        return np.median(far)

    assert room(Walker()) > 1.5 * room(StickyRandom())


@pytest.mark.parametrize(
    ("env", "why"), [("doom:my_way_home", "record with --depth"), ("doom:basic", "a walker wants the keys")]
)
def test_who_cannot_walk_is_told_before_anything_is_written(tmp_path, env, why):
    with pytest.raises(ValueError, match=why):
        record(RecordSettings(env, out=tmp_path / "data", policy="walk", depth=env == "doom:basic"))
    assert not (tmp_path / "data").exists()
