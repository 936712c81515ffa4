"""Evaluation of worlds whose truth is known: what a perfect, a disobedient, a late and a fading dreamer must score."""

import numpy as np
import pytest
import torch

from oneiros.data.episodes.clips import Clips, EpisodeArrays
from oneiros.sampling import Sampling
from oneiros.world.evaluation.config import DriftConfig, EvalConfig
from oneiros.world.evaluation.fidelity import Evaluation, choose, evaluate
from tests.dot_world import SPECS, DotTokenizer, DotWorld, real_episode

CONFIG = EvalConfig(clips=24, context=3, horizon=5, batch_size=7, drift=DriftConfig(frames=0), speed_steps=0)
GREEDY = Sampling(temperature=0.0)


def episodes(kind: str, count: int = 4, length: int = 30) -> list[EpisodeArrays]:
    made = [real_episode(length, SPECS[kind], seed) for seed in range(count)]
    return [EpisodeArrays(f.numpy(), a.numpy(), "move", 10 + i) for i, (f, a) in enumerate(made)]


def dot_clips(kind: str = "discrete", *, length: int = CONFIG.clip_length, stride: int = 1) -> Clips:
    return Clips(episodes(kind), SPECS[kind], length=length, stride=stride)


def run(world: DotWorld, *, kind: str = "discrete", config: EvalConfig = CONFIG) -> Evaluation:
    return evaluate(world, dot_clips(kind, stride=world.config.frame_stride), config=config)


@pytest.mark.parametrize("kind", SPECS)
def test_a_perfect_world_scores_the_cap_and_obeys(kind):
    measured = run(DotWorld(kind), kind=kind).metrics
    assert measured["psnr"]["model"] == [60.0] * 5
    assert measured["psnr"]["reconstruction"] == [60.0] * 5
    assert measured["ssim"]["model"] == pytest.approx([1.0] * 5)
    assert max(measured["psnr"]["copy_last_frame"]) < 40
    assert min(measured["delta_psnr"]) > 20
    assert min(measured["psnr_gain"]) > 20


def test_a_stride_is_followed():
    measured = run(DotWorld("continuous", stride=3), kind="continuous").metrics
    assert measured["psnr"]["model"] == [60.0] * 5


def test_a_world_that_ignores_actions_gains_nothing_and_has_no_delta():
    measured = run(DotWorld(obedient=False)).metrics
    assert measured["delta_psnr"] == [0.0] * 5
    assert measured["psnr"]["model"] == measured["psnr"]["copy_last_frame"]
    assert measured["psnr_gain"] == [0.0] * 5


def test_copying_repeats_the_last_context_frame_not_the_first_nor_a_dreamed_one():
    clips = dot_clips()
    frames = [((clips.batch([i]).frames[0] + 1) * 127.5).round() for i in choose(len(clips), CONFIG)]
    errors = torch.stack([(f[3:] - f[2:3]).square().mean(dim=(1, 2, 3)) for f in frames])
    expected = (10 * torch.log10(255**2 / errors)).clamp(max=60).mean(0)
    assert run(DotWorld()).metrics["psnr"]["copy_last_frame"] == pytest.approx(expected.tolist(), abs=1e-3)


def test_sharpness_is_that_of_real_frames_where_the_dream_is_perfect_and_falls_as_it_fades():
    """A dot that fades by 40 of 255 levels a frame differs from its floor by so much less."""
    perfect, fading = (run(DotWorld(fade=fade)).metrics["sharpness"] for fade in (0, 40))
    assert perfect["model"] == pytest.approx([1.0] * 5)
    assert perfect["standard_error"]["model"] == pytest.approx([0.0] * 5, abs=1e-6)
    assert fading["model"] == pytest.approx([1 - 40 * age / 255 for age in range(1, 6)], abs=1e-3)
    assert fading["reconstruction"] == pytest.approx([1.0] * 5)


def test_only_pixels_that_move_count_where_it_says_so():
    """Of a dot that went elsewhere, a copy is wrong by all there is: 255 levels at every pixel that moved."""
    perfect, stubborn = (run(DotWorld(obedient=obedient)).metrics["moving"] for obedient in (True, False))
    assert perfect["psnr"]["model"] == [60.0] * 5
    assert perfect["psnr"]["copy_last_frame"] == pytest.approx([0.0] * 5, abs=1e-6)
    assert perfect["psnr_gain"]["model"] == pytest.approx([60.0] * 5)
    assert min(perfect["delta_psnr"]) > 50
    assert stubborn["psnr_gain"]["model"] == pytest.approx([0.0] * 5)
    assert stubborn["delta_psnr"] == pytest.approx([0.0] * 5)
    assert 0 < min(perfect["share"]) < max(perfect["share"]) <= 8 / 256  # the dot where it was, and where it is


def test_where_nothing_moves_there_is_nothing_to_say_about_moving_pixels():
    still = EpisodeArrays(np.full((30, 16, 16, 3), 90, np.uint8), np.zeros(30, np.int64), "stay", 0)
    clips = Clips([still], SPECS["discrete"], length=CONFIG.clip_length)
    moving = evaluate(DotWorld(), clips, config=CONFIG).metrics["moving"]
    assert np.isnan(moving["psnr"]["model"]).all()
    assert moving["share"] == [0.0] * 5


def test_an_off_by_one_of_the_actions_shows():
    measured = run(DotWorld(lag=1)).metrics
    assert max(measured["psnr"]["model"]) < 45
    assert measured["delta_psnr"][0] == 0.0  # the first dreamed frame still obeys the context's last action


def test_temperature_shows_only_in_the_sampled_variant():
    measured = run(DotWorld()).metrics
    assert min(measured["psnr"]["model"]) == 60.0 > max(measured["psnr"]["sampled"][2:])
    greedy = EvalConfig(**{**vars(CONFIG), "sampling": GREEDY})
    assert run(DotWorld(), config=greedy).metrics["psnr"]["sampled"] == [60.0] * 5


def test_action_recovery_is_that_of_the_head_on_matching_frames():
    """The fake's head guesses the action before: exactly what `repeat_last_action` scores."""
    recovery = run(DotWorld()).metrics["action_recovery"]
    scores = [recovery["real"]["accuracy"], *recovery["dreamed"]["accuracy"]]
    assert len(scores) == 5
    assert sum(scores) / 5 == pytest.approx(recovery["repeat_last_action"]["accuracy"])


def test_a_seed_repeats_the_evaluation_and_another_changes_the_clips():
    assert run(DotWorld()).metrics == run(DotWorld()).metrics
    other = EvalConfig(**{**vars(CONFIG), "seed": 1})
    assert run(DotWorld()).metrics["psnr"] != run(DotWorld(), config=other).metrics["psnr"]


def test_a_world_without_actions_has_neither_delta_nor_recovery():
    measured = run(DotWorld(None)).metrics
    assert measured["delta_psnr"] is None
    assert measured["action_recovery"] is None
    assert set(measured["psnr"]) == {"model", "copy_last_frame", "reconstruction", "sampled", "likeliest"}


def test_examples_show_what_was_measured_from_worst_to_best():
    result = run(DotWorld())
    gains = [example.gain for example in result.examples]
    assert len(gains) == 24
    assert gains == sorted(gains)
    example = result.examples[0]
    episode = episodes("discrete")[example.where[0] - 10]
    np.testing.assert_array_equal(example.real.numpy(), episode.content[example.where[1] :][:8])
    assert torch.equal(example.dreams["model"], example.real[3:])
    assert not torch.equal(example.dreams["shuffled_actions"], example.real[3:])


def test_drift_of_a_perfect_world_stays_with_the_real_and_of_a_fading_one_leaves_it():
    config = EvalConfig(**{**vars(CONFIG), "sampling": GREEDY, "drift": DriftConfig(frames=120, dreams=4, window=5)})
    steady, fading = (run(DotWorld(fade=fade), config=config) for fade in (0, 2))
    drift = steady.metrics["drift"]
    assert drift["frames"] == [10, 30, 100, 120]
    assert steady.drift.frames.shape == (4, 4, 16, 16, 3)
    for name in ("sharpness", "motion", "code_entropy_bits"):
        assert drift[name] == pytest.approx([drift["real"][name]] * 4, rel=0.4), name
    assert max(drift["nearest_real_rmse"]) < 1.3 * drift["real"]["nearest_real_rmse"]
    faded = fading.metrics["drift"]
    assert faded["sharpness"] == sorted(faded["sharpness"], reverse=True)
    assert faded["sharpness"][-1] < 0.3 * faded["real"]["sharpness"]
    assert faded["motion"][-1] < 0.3 * faded["real"]["motion"]


def test_drift_without_another_episode_to_compare_with_says_nothing_about_the_nearest_frame():
    config = EvalConfig(**{**vars(CONFIG), "drift": DriftConfig(frames=10, dreams=2)})
    clips = Clips(episodes("discrete", count=1), SPECS["discrete"], length=config.clip_length)
    drift = evaluate(DotWorld(), clips, config=config).metrics["drift"]
    assert drift["nearest_real_rmse"] == [None]


def test_speed_is_that_of_the_steps_after_the_warm_up(monkeypatch):
    """A clock by which step n takes n milliseconds; the first 20 warm up, so steps of 21 to 50 ms count."""
    ticks = (moment for n in range(1, 51) for moment in (float(n), n + n / 1000))
    monkeypatch.setattr("oneiros.world.evaluation.speed.time.perf_counter", lambda: next(ticks))
    speed = run(DotWorld(), config=EvalConfig(**{**vars(CONFIG), "speed_steps": 30})).metrics["speed"]
    assert speed["frames_per_second"] == pytest.approx(1000 / 35.5)
    assert speed["step_ms"] == pytest.approx({"p50": 35.5, "p95": 48.55, "p99": 49.71})
    assert speed["steps"] == 30


@pytest.mark.parametrize("float32", [False, True])
def test_speed_says_whether_bf16_was_used(float32, monkeypatch):
    monkeypatch.setattr("oneiros.world.evaluation.speed.bf16_is_faster", lambda device: True)
    config = EvalConfig(**{**vars(CONFIG), "speed_steps": 2, "float32": float32})
    assert run(DotWorld(), config=config).metrics["speed"]["bf16"] is not float32


def test_too_little_data_is_named():
    with pytest.raises(ValueError, match="1 clip of 8 frames; 2 are needed"):
        evaluate(DotWorld(), Clips(episodes("discrete", 1, 8), SPECS["discrete"], length=8), config=CONFIG)
    mixed = Clips([*episodes("discrete", 1, 9), *episodes("discrete", 1, 5)], SPECS["discrete"], length=8)
    with pytest.raises(ValueError, match="without padding"):
        evaluate(DotWorld(), mixed, config=CONFIG)
    with pytest.raises(ValueError, match="clips is 1; evaluation needs at least 2"):
        EvalConfig(clips=1)


def test_a_video_codec_dreams_several_frames_a_step():
    class Film(DotTokenizer):
        temporal_stride = 2

    class FilmWorld(DotWorld):
        """Takes two actions at once and dreams both frames."""

        def step(self, state, action, **options):
            frames = []
            for half in action.chunk(2, dim=-1):
                state, frame = super().step(state, half, **options)
                frames.append(frame)
            return state, torch.stack(frames, 1)

        def predict_action(self, state):
            return state, torch.zeros(len(state.places), 4)

    world = FilmWorld("continuous")
    world.tokenizer = Film()
    config = EvalConfig(clips=6, context=3, horizon=4, drift=DriftConfig(frames=12, dreams=2), speed_steps=2)
    measured = evaluate(world, dot_clips("continuous", length=7), config=config).metrics
    assert measured["psnr"]["model"] == [60.0] * 4
    assert len(measured["action_recovery"]["dreamed"]["mae"]) == 1  # guesses come step by step
    odd = EvalConfig(clips=6, context=3, horizon=3, speed_steps=0)
    with pytest.raises(ValueError, match="3 frames cannot be dreamed by a codec that makes 2 frames at a time"):
        evaluate(world, dot_clips("continuous", length=6), config=odd)
