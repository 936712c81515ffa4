"""The dream as an environment, over a world whose truth is known."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from oneiros.data.frames import to_model
from oneiros.records import Clip
from oneiros.sampling import Sampling
from oneiros.world.built_in import bundled_world
from oneiros.world.dream import Dream
from oneiros.world.model import World
from tests.dot_world import SPECS, DotWorld, draw_dots, moves, over, paid, places_of, real_episode

STILL = Sampling(temperature=0.0)


def start_clip(kind: str | None = "discrete", seed: int = 0) -> Clip:
    frames, actions = real_episode(4, SPECS[kind or "discrete"], seed)
    return Clip(to_model(frames)[None], actions[None, :3] if kind else None, torch.ones(1, 4, dtype=torch.bool))


def dream(kind: str | None = "discrete", stride: int = 1, **options) -> Dream:
    return Dream(DotWorld(kind, stride=stride), [start_clip(kind, seed) for seed in range(3)], **options)


@pytest.mark.parametrize("kind", [*SPECS, None])
@pytest.mark.filterwarnings("error", "ignore:.*not having a spec.*", "ignore:.*symmetric and normalized.*")
def test_gymnasium_accepts_it(kind):
    check_env(dream(kind), skip_render_check=False)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.filterwarnings("error", "ignore:.*not having a spec.*", "ignore:.*symmetric and normalized.*")
def test_gymnasium_accepts_one_that_pays_and_ends(kind):
    check_env(Dream(DotWorld(kind, pays=True), [start_clip(kind)], max_steps=9), skip_render_check=False)


def told(env: Dream, steps: int = 200) -> tuple[int, int, int]:
    """How many of so many steps paid or ended otherwise than the frame before them and their action tell; how many did
    end; and how many were only cut off."""
    wrong = ended = cut = 0
    frame, _ = env.reset(seed=0)
    for action in np.random.default_rng(0).choice(5, steps, p=[0.1, 0.1, 0.2, 0.2, 0.4]).tolist():
        place = places_of(torch.from_numpy(frame))
        frame, reward, terminated, truncated, info = env.step(action)
        expected = bool(over(place, moves(torch.tensor(action), SPECS["discrete"])))
        wrong += reward != float(paid(place)) or terminated != expected or info["end_probability"] != expected
        ended, cut = ended + terminated, cut + (truncated and not terminated)
        if terminated or truncated:
            frame, _ = env.reset()
    return wrong, ended, cut


def test_a_dream_pays_and_ends_by_the_frame_before_and_the_action():
    starts = [start_clip(seed=seed) for seed in range(3)]
    wrong, ended, cut = told(Dream(DotWorld(pays=True), starts, sampling=STILL, max_steps=9))
    assert wrong == 0
    assert ended > 5
    assert cut > 2
    assert told(Dream(DotWorld(pays=True, late=1), starts, sampling=STILL, max_steps=9))[0] > 50


@pytest.mark.parametrize(
    ("kind", "space"),
    [("discrete", spaces.Discrete), ("keys", spaces.MultiBinary), ("continuous", spaces.Box), (None, spaces.Discrete)],
)
def test_action_space_follows_the_spec(kind, space):
    assert isinstance(dream(kind).action_space, space)


@pytest.mark.parametrize(
    ("kind", "action", "move"),
    [("discrete", 4, (1, 0)), ("keys", np.array([0, 1, 0, 1]), (1, 1)), ("continuous", np.array([2.0, -1.0]), (2, -1))],
)
def test_the_dream_obeys_the_player(kind, action, move):
    env = dream(kind, sampling=STILL)
    first, _ = env.reset(seed=0)
    place = np.argwhere(draw_at(first))[0]
    second, reward, terminated, truncated, _ = env.step(action)
    expected = draw_dots(torch.as_tensor(place + move)).numpy()
    np.testing.assert_array_equal(second, expected)
    assert (reward, terminated, truncated) == (0.0, False, False)
    np.testing.assert_array_equal(env.render(), second)


def draw_at(frame: np.ndarray) -> np.ndarray:
    """True at the top left pixel of the dot."""
    white = frame[..., 0] > 0
    return white & np.roll(white, -1, 0) & np.roll(white, -1, 1) & np.roll(white, (-1, -1), (0, 1))


def test_a_stride_repeats_a_continuous_action():
    env = dream("continuous", stride=3, sampling=STILL)
    first, _ = env.reset(seed=0)
    second = env.step(np.array([1.0, 0.0]))[0]
    np.testing.assert_array_equal(second, np.roll(first, 3, axis=0))


def test_a_seed_and_the_same_actions_give_the_same_dream_and_another_seed_another():
    def play(seed: int) -> np.ndarray:
        env = dream()
        env.reset(seed=seed, options={"start": 1})
        return np.stack([env.step(action % 5)[0] for action in range(40)])

    np.testing.assert_array_equal(play(7), play(7))
    assert (play(7) != play(8)).any()


def test_a_start_can_be_chosen_and_all_are_drawn():
    env = dream()
    for index in range(3):
        frame, info = env.reset(options={"start": index})
        np.testing.assert_array_equal(frame, real_episode(4, SPECS["discrete"], index)[0][-1].numpy())
        assert info == {"start": index}
    assert {env.reset(seed=seed)[1]["start"] for seed in range(20)} == {0, 1, 2}


def test_it_is_cut_off_after_max_steps():
    env = dream(max_steps=3)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("kind", "action", "message"),
    [
        ("discrete", 7, "discrete actions are 0 to 4: stay, left"),
        ("discrete", [1], "shape"),
        ("discrete", "left", "does not fit"),
        ("keys", [1, 0], r"shape \(1, 2\); keys actions .* are \('B', 4\)"),
        ("continuous", [np.nan, 0.0], "finite"),
    ],
)
def test_what_is_no_action_is_refused_in_one_line(kind, action, message):
    env = dream(kind)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message) as error:
        env.step(action)
    assert "\n" not in str(error.value)


def test_misuse_is_named():
    with pytest.raises(ValueError, match="at least one start"):
        Dream(DotWorld(), [])
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        dream(render_mode="human")
    with pytest.raises(ValueError, match=r"call reset\(\) first"):
        dream().step(0)
    with pytest.raises(ValueError, match=r"call reset\(\) first"):
        dream().render()
    with pytest.raises(ValueError, match="start 3 does not exist; this dream has starts 0 to 2"):
        dream().reset(options={"start": 3})


def test_depth_is_told_beside_the_picture():
    class DeepWorld(DotWorld):
        """Sees as deep as it is white, half as much."""

        def init(self, clip):
            return super().init(Clip(clip.frames[:, :, :3], clip.actions, clip.valid))

        def step(self, state, action, **options):
            state, frame = super().step(state, action, **options)
            return state, torch.cat([frame, frame[:, :1] / 2], 1)

    clip = start_clip()
    deep = Clip(torch.cat([clip.frames, clip.frames[:, :, :1] / 2], 2), clip.actions, clip.valid)
    env = Dream(DeepWorld(), [deep])
    for frame, info in (env.reset(seed=0), env.step(1)[::4]):
        assert frame.shape == (16, 16, 3)
        np.testing.assert_allclose(info["depth"], frame[..., 0] / 255 - 0.5, atol=1e-6)


def test_gymnasium_makes_one_of_a_run(monkeypatch):
    monkeypatch.setattr(World, "load", lambda *_, **__: DotWorld("discrete"))
    monkeypatch.setattr(DotWorld, "prepare_for_inference", lambda self: self, raising=False)
    gym.register("Dreamt-v0", entry_point=Dream.from_run, kwargs={"path": bundled_world(), "image": None})
    try:
        monkeypatch.setattr("oneiros.world.starts.find_starts", lambda *_, **__: [start_clip()])
        env = gym.make("Dreamt-v0", render_mode="rgb_array")
    finally:
        gym.registry.pop("Dreamt-v0")
    assert env.render_mode == "rgb_array"
    env.reset(seed=0)
    assert env.render().dtype == np.uint8
