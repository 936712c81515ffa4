"""Going back: dreams to a snapshot, real environments by doing the same again; and what a dream thinks meanwhile."""

import math

import numpy as np
import pytest
import torch

from oneiros.data.frames import depth_to_model, resize_nearest, resized
from oneiros.envs.replay import Replayed
from oneiros.records import ActionSpec, Camera, Clip
from oneiros.sampling import Sampling
from oneiros.world.config import WorldConfig
from oneiros.world.dream import Dream
from oneiros.world.model import World
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig

SPECS = {
    "keys": ActionSpec("keys", ("left", "right", "up")),
    "discrete": ActionSpec("discrete", ("stay", "left", "right")),
    "continuous": ActionSpec("continuous", ("x", "y"), mean=(1.0, 0.0), std=(2.0, 1.0)),
}
DEPTH = Camera("observation.depth.front", 16, 16, "depth", depth_min=0.1, depth_max=20.0)


def dream(kind: str | None = "keys", *, channels: int = 3, sampling: Sampling | None = None, **options) -> Dream:
    """Of an untrained world, which is as random as worlds get."""
    torch.manual_seed(0)
    size = {"height": 16, "width": 16, "channels": channels}
    tokenizer = Tokenizer(TokenizerConfig(**size, codebook_size=16, code_dim=8, codec_width=8, codec_depth=1))
    config = WorldConfig(
        action_spec=SPECS[kind] if kind else None, dim=32, depth=1, head_dim=16, tokens_per_step=2, window=4
    )
    frames = torch.rand(1, 6, channels, 16, 16) * 2 - 1
    start = Clip(frames, None, torch.ones(1, 6, dtype=torch.bool))
    return Dream(World(config, tokenizer).eval(), [start], sampling=sampling, **options)


def actions(env: Dream, count: int) -> list:
    env.action_space.seed(0)
    return [env.action_space.sample() for _ in range(count)]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("kind", [*SPECS, None])
def test_a_dream_goes_on_from_a_snapshot_just_as_it_did(kind, guidance):
    env = dream(kind, sampling=Sampling(guidance_scale=guidance))
    env.reset(seed=3)
    done = actions(env, 20)
    for action in done[:7]:
        env.step(action)
    kept = env.snapshot()
    first = [env.step(action)[0] for action in done[7:]]
    for _ in range(2):  # a snapshot can be gone back to any number of times
        env.restore(kept)
        np.testing.assert_array_equal(np.stack([env.step(action)[0] for action in done[7:]]), np.stack(first))
    env.restore(kept)
    other = [env.step(done[0])[0] for _ in done[7:]]
    assert kind is None or any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("kind", [*SPECS, None])
def test_thinking_changes_nothing(kind):
    env = dream(kind)

    def play(*, think: bool) -> np.ndarray:
        env.reset(seed=1)
        frames = []
        for action in actions(env, 12):
            if think:
                env.think()
            frames.append(env.step(action)[0])
        return np.stack(frames)

    np.testing.assert_array_equal(play(think=True), play(think=False))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("steps", [1, 9])
def test_the_entropy_is_that_of_the_predictions_the_codes_were_drawn_from(monkeypatch, steps, guidance):
    env, seen = dream(sampling=Sampling(guidance_scale=guidance)), []
    original = env.world.dynamics.logits
    monkeypatch.setattr(env.world.dynamics, "logits", lambda outputs: seen.append(original(outputs)) or seen[-1])
    env.reset(seed=0)
    for action in actions(env, steps):
        seen.clear()
        env.step(action)
    predictions = torch.cat([logits[:1] for logits in seen], 1).softmax(-1)
    expected = -(predictions * predictions.log()).sum(-1) / math.log(16)
    layout = env.world.dynamics.layout
    found, _ = env.think()
    assert found.shape == env.world.tokenizer.grid
    assert found.std() > 1e-3
    np.testing.assert_allclose(found.ravel(), expected[0, layout.inverse].detach().numpy(), atol=1e-4)


def test_the_guess_is_what_the_action_head_says():
    for kind in SPECS:
        env = dream(kind)
        env.reset(seed=0)
        guess = env.think()[1]
        assert guess is not None
        assert tuple(guess) == SPECS[kind].names
        if kind == "discrete":
            assert sum(guess.values()) == pytest.approx(1)
        if kind == "keys":
            assert all(0 <= value <= 1 for value in guess.values())
        if kind == "continuous":
            expected = env.world.predict_action(env._state.clone())[1][0]
            np.testing.assert_allclose(list(guess.values()), expected.detach(), rtol=1e-5)
    env = dream(None)
    env.reset(seed=0)
    assert env.think()[1] is None


def test_keys_that_the_head_is_sure_of_are_certain(monkeypatch):
    env = dream("keys")
    env.reset(seed=0)
    head = env.world.action_head
    sure = lambda features, ids: torch.where(  # noqa: E731
        torch.arange(4) == min(ids.shape[1] * 2, 3), 50.0, 0.0
    ).expand(len(features), ids.shape[1] + 1, 4)
    monkeypatch.setattr(head.head, "logits", sure)
    assert env.think()[1] == {"left": 1.0, "right": 0.0, "up": 1.0}


def test_a_dream_begins_where_it_is_told_to():
    env = dream()
    frames = torch.rand(1, 3, 3, 16, 16) * 2 - 1
    first, info = env.reset(seed=0, options={"context": Clip(frames, None, torch.ones(1, 3, dtype=torch.bool))})
    np.testing.assert_allclose(first, (frames[0, -1].movedim(0, -1).numpy() + 1) * 127.5, atol=0.51)
    assert info == {}


def test_depth_is_in_metres_where_its_camera_is_known():
    env = dream(channels=4, depth_camera=DEPTH)
    assert env.depth() is None
    metres = np.linspace(0.5, 15, 256, dtype=np.float32).reshape(16, 16)
    frames = torch.cat([torch.zeros(3, 16, 16), depth_to_model(metres, DEPTH)[None]])[None, None]
    env.reset(seed=0, options={"context": Clip(frames, None, torch.ones(1, 1, dtype=torch.bool))})
    np.testing.assert_allclose(env.depth(), metres, rtol=0.005)
    env.step(actions(env, 1)[0])
    assert ((env.depth() >= 0.1 - 1e-6) & (env.depth() <= 20.0 + 1e-6)).all()
    for without in (dream(channels=4), dream(channels=3, depth_camera=DEPTH)):
        without.reset(seed=0)
        assert without.depth() is None


def test_nothing_can_be_kept_or_thought_before_the_beginning():
    for ask in (dream().snapshot, dream().think):
        with pytest.raises(ValueError, match=r"call reset\(\) first"):
            ask()


@pytest.mark.parametrize(("height", "width"), [(30, 40), (30, 60), (45, 40), (15, 20)])
def test_a_resized_camera_sees_points_where_the_resized_image_shows_them(height, width):
    camera = Camera("a", 60, 80, "depth", fx=50.0, fy=55.0, cx=39.5, cy=29.5)
    smaller = resized(camera, height, width)
    rows, columns = np.mgrid[:60, :80].astype(float)
    across = resize_nearest(((columns - camera.cx) / camera.fx)[None], height, width)[0]  # the ray through each pixel
    down = resize_nearest(((rows - camera.cy) / camera.fy)[None], height, width)[0]
    new_rows, new_columns = np.mgrid[:height, :width]
    half = 0.75 * max(camera.height / height, 1) / camera.fx  # nearest pixels are off by up to half a source pixel
    np.testing.assert_allclose((new_columns - smaller.cx) / smaller.fx, across, atol=half)
    np.testing.assert_allclose((new_rows - smaller.cy) / smaller.fy, down, atol=half)
    assert (smaller.height, smaller.width) == (height, width)


class TestReal:
    @pytest.fixture
    def doom(self):
        pytest.importorskip("vizdoom")
        from oneiros.envs.make import make_env

        env = Replayed(make_env("doom:health_gathering", depth=True))
        yield env
        env.close()

    def test_going_back_leads_to_the_same_pixels_and_depth(self, doom):
        doom.reset(seed=5)
        done = [np.array([index % 3 == 0, index % 5 == 0, index % 2 == 0]) for index in range(40)]
        for action in done[:15]:
            doom.step(action)
        kept = doom.snapshot()
        shown = []
        for action in done[15:]:
            doom.step(action)
            shown.append((doom.render().copy(), doom.depth().copy()))
        doom.restore(kept)
        for action, (colour, depth) in zip(done[15:], shown, strict=True):
            doom.step(action)
            np.testing.assert_array_equal(doom.render(), colour)
            np.testing.assert_array_equal(doom.depth(), depth)

    def test_a_dream_begins_where_the_game_is(self):
        pytest.importorskip("vizdoom")
        from oneiros.world.beside import RealEnv

        keys = ActionSpec("keys", ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD"))
        world = self.world(keys, fps=35 / 4 / 2)
        beside = RealEnv("doom:health_gathering", world, depth_camera=DEPTH)
        try:
            clip = beside.context(seed=3)
            assert clip.frames.shape == (1, 8, 4, 16, 16)
            assert clip.actions.shape == (1, 7, 3)
            env = Dream(world, [clip], depth_camera=DEPTH)
            shown, _ = env.reset(seed=0, options={"context": clip})
            np.testing.assert_array_equal(shown, beside.render())
            np.testing.assert_allclose(env.depth(), beside.depth().clip(0.1, 20), rtol=0.01)
            again = beside.context(seed=3)
            torch.testing.assert_close(again.frames, clip.frames, rtol=0, atol=0)
            assert beside.fps * beside._env.frame_skip == pytest.approx(35, rel=0.06)
        finally:
            beside.close()

    def test_other_actions_are_refused(self):
        pytest.importorskip("vizdoom")
        from oneiros.world.beside import RealEnv

        with pytest.raises(
            ValueError, match=r"has keys actions \(TURN_LEFT, TURN_RIGHT, MOVE_FORWARD\); this world knows"
        ):
            RealEnv("doom:health_gathering", self.world(SPECS["keys"], fps=9))

    def test_a_speed_that_cannot_be_met_is_refused(self):
        pytest.importorskip("vizdoom")
        from oneiros.world.beside import RealEnv

        keys = ActionSpec("keys", ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD"))
        with pytest.raises(ValueError, match="runs at 35 steps a second; this world learned from 60"):
            RealEnv("doom:health_gathering", self.world(keys, fps=30))

    def world(self, spec: ActionSpec, *, fps: float) -> World:
        tokenizer = Tokenizer(
            TokenizerConfig(height=16, width=16, channels=4, codebook_size=16, code_dim=8, codec_width=8, codec_depth=1)
        )
        config = WorldConfig(
            action_spec=spec, dim=32, depth=1, head_dim=16, tokens_per_step=2, window=4, frame_stride=2, fps=fps
        )
        return World(config, tokenizer).eval()
