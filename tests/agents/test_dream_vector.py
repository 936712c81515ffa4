"""Dreams side by side: what Gymnasium asks of a vector environment, and what each dream remembers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from oneiros.agents.dream_vector import DreamVector
from oneiros.agents.real_vector import RealVector
from oneiros.agents.states import begin, pooled
from oneiros.data.frames import to_uint8
from oneiros.records import CodeClip
from oneiros.sampling import Sampling
from tests.world.worlds import KINDS, code_clip, make_world, scramble

STARTS = 5


def world_of(kind="discrete", **options):
    world = make_world(kind, **{"reward_values": (0.0, 1.0, 5.0), "end_rate": 0.2, **options})
    scramble(world.outcome_head)
    return world


def starts_of(world, kind="discrete") -> CodeClip:
    clip = code_clip(world, kind, batch=STARTS, frames=world.config.window)
    valid = torch.ones(STARTS, world.config.window, dtype=torch.bool)
    valid[0, :-1] = False  # an episode's first frame
    valid[1, 0] = False
    return replace(clip, valid=valid)


def vector(kind="discrete", *, num_envs=6, world=None, **options) -> DreamVector:
    world = world or world_of(kind)
    return DreamVector(world, starts_of(world, kind), num_envs=num_envs, **options)


def steps(env: DreamVector, count: int, seed: int = 0):
    env.action_space.seed(seed)
    return [env.step(env.action_space.sample()) for _ in range(count)]


def drawn(env: DreamVector) -> np.ndarray:
    """The frames of the newest codes."""
    return to_uint8(env.world.tokenizer.decode(env.state.codes)[:, -1]).numpy()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind])
def test_it_is_what_gymnasium_asks_for(kind):
    env = vector(kind, max_steps=3)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observations, _ = env.reset(seed=0)
    assert observations in env.observation_space
    for observations, rewards, terminated, truncated, info in steps(env, 5):
        assert observations in env.observation_space
        assert rewards.shape == terminated.shape == truncated.shape == info["end_probability"].shape == (6,)
        assert not (terminated & truncated).any()


def test_the_same_seed_gives_the_same_dreams():
    first, second = vector(max_steps=4), vector(max_steps=4)
    other, _ = first.reset(seed=8)
    for env in (first, second):
        env.reset(seed=7)
    for one, two in zip(steps(first, 6), steps(second, 6), strict=True):
        for a, b in zip(one[:4], two[:4], strict=True):
            assert np.array_equal(a, b)
    assert not np.array_equal(other, first.reset(seed=7)[0])


def test_a_dream_that_is_over_begins_anew_in_the_same_step():
    env = vector(world=world_of(end_rate=0.0), max_steps=3)
    env.reset(seed=0)
    rows = steps(env, 3)
    assert [truncated.all() for _, _, _, truncated, _ in rows] == [False, False, True]
    observations, _, terminated, _, info = rows[-1]
    assert not terminated.any()
    assert info["_final_obs"].all()
    final = np.stack(list(info["final_obs"]))
    assert (np.abs(final - observations).max(1) > 1e-3).all()
    assert (env.lengths == 0).all()


def test_ends_are_drawn_and_only_those_dreams_begin_anew():
    env = vector(num_envs=32)
    env.reset(seed=0)
    env.lengths[:] = 10
    _, _, terminated, truncated, info = steps(env, 1)[0]
    assert 0 < terminated.sum() < 32
    assert not truncated.any()
    assert np.array_equal(env.lengths == 0, terminated)
    assert np.array_equal(info["_final_obs"], terminated)


def test_frames_are_what_the_same_dreams_show():
    shown, seen = (vector(observe=observe, max_steps=3) for observe in ("frames", "features"))
    frames, _ = shown.reset(seed=0)
    seen.reset(seed=0)
    assert frames in shown.observation_space
    assert np.array_equal(frames, drawn(seen))
    for one, other in zip(steps(shown, 2), steps(seen, 2), strict=True):
        assert np.array_equal(one[1], other[1])
    assert np.array_equal(one[0], drawn(seen))
    assert not np.array_equal(one[0], frames)
    observations, *_, info = steps(shown, 1, seed=1)[0]
    assert info["_final_obs"].any()
    last = np.stack([frame for frame in info["final_obs"] if frame is not None])
    assert not np.array_equal(last, observations[info["_final_obs"]])


def test_the_mask_says_which_begin_anew():
    env = vector(world=world_of(end_rate=0.0))
    env.reset(seed=0)
    before, *_ = steps(env, 4)[-1]
    mask = np.array([True, False, False, True, False, False])
    after, _ = env.reset(options={"reset_mask": mask})
    np.testing.assert_allclose(after[~mask], before[~mask], atol=1e-5)
    assert (np.abs(after[mask] - before[mask]).max(1) > 1e-3).all()
    for wrong in (mask[:3], mask.astype(int), np.zeros(6, bool)):
        with pytest.raises(ValueError, match="reset_mask"):
            env.reset(options={"reset_mask": wrong})
    with pytest.raises(ValueError, match="first reset"):
        vector().reset(options={"reset_mask": mask})


def test_each_dream_goes_on_from_its_own_start_alone():
    """In the batch, begun at other times, as each would alone: with as many frames as it has, and no more."""
    world = world_of(end_rate=0.0)
    starts = starts_of(world)
    env = DreamVector(world, starts, num_envs=4, sampling=Sampling(temperature=0.0))
    env.reset(seed=3)
    steps(env, 5)
    chosen = []
    env._np_random = _Noting(env.np_random, chosen)
    env.reset(options={"reset_mask": np.array([True, False, True, True])})
    actions = np.array([2, 0, 1, 1])
    observations, *_ = env.step(actions)
    for row, start in zip((0, 2, 3), chosen[-1], strict=True):
        length = int(starts.valid[start].sum())
        clip = CodeClip(
            starts.codes[start : start + 1, -length:],
            starts.actions[start : start + 1, starts.actions.shape[1] - length + 1 :],
            torch.ones(1, length, dtype=torch.bool),
        )
        state, _ = world.step_codes(
            begin(world, clip, time=length), torch.tensor([actions[row]]), sampling=Sampling(temperature=0.0)
        )
        np.testing.assert_allclose(pooled(world, state)[1][0], observations[row], atol=1e-4)


class _Noting:
    """Random numbers that tell which starts they chose."""

    def __init__(self, rng, chosen):
        self._rng, self._chosen = rng, chosen

    def integers(self, *arguments, **options):
        drawn = self._rng.integers(*arguments, **options)
        self._chosen.append(drawn)
        return drawn


def test_dreams_read_what_came_before():
    world = world_of()
    starts = starts_of(world)
    last = CodeClip(starts.codes[2:3].clone(), starts.actions[2:3], starts.valid[2:3])
    last.codes[:, 0] = starts.codes[3, 0]
    alone = CodeClip(starts.codes[2:3], starts.actions[2:3], starts.valid[2:3])
    seen = [pooled(world, begin(world, clip, time=9))[1] for clip in (alone, last)]
    assert np.abs(seen[0] - seen[1]).max() > 1e-3


def test_a_branch_copies_one_state_to_all():
    world = world_of()
    env, game = vector(world=world, num_envs=4), vector(world=world, num_envs=2)
    game.reset(seed=0)
    env.branch(game.state.of(torch.tensor([1])))
    rewards, ends = env.imagine(np.array([0, 1, 1, 2]))
    assert rewards.shape == ends.shape == (4,)
    assert ends[1] == pytest.approx(ends[2], abs=1e-6)
    assert ends[0] != pytest.approx(ends[1], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "at least 1"),
        ({"observe": "codes"}, "observe"),
        ({"sampling": Sampling(guidance_scale=2.0)}, "without guidance"),
        ({"world": make_world("discrete")}, "neither rewards nor ends"),
    ],
)
def test_what_cannot_be_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        vector(**options)


def test_actions_that_do_not_fit_are_named():
    env = vector()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="discrete actions are 0 to 2"):
        env.step(np.full(6, 7))
    with pytest.raises(ValueError, match="not begun"):
        vector().step(np.zeros(6, int))


def test_games_that_cannot_open_leave_none_open():
    closed = []

    class Game:
        def close(self):
            closed.append(self)

    opened = iter([Game(), Game()])
    with pytest.raises(StopIteration):
        RealVector(world_of(), lambda: next(opened), num_envs=3)
    assert len(closed) == 2
