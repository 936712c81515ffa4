"""Episodes side by side: the same as one by one, seen only where a decision needs it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from oneiros.policy.carry import Carry, Chunking
from oneiros.policy.evaluation.film import beside_imagination, film
from oneiros.policy.evaluation.latency import measure_latency
from oneiros.policy.evaluation.observing import ObservationSpec, colour_of, frame_of
from oneiros.policy.evaluation.rollouts import ExpertActor, LearnedActor, RandomActor, play, seed_of
from oneiros.records import Camera
from tests.policy.push_env import CAMERA, SIZE, Pushes

EXECUTE, STRIDE, AHEAD = 3, 3, 2


class Pusher:
    """Reads dot and goal off the picture and pushes that way, three steps a decision; its noise is its seeds' own.

    noise: of the actions. It is called by its stages, as a policy with a world is.
    """

    device = torch.device("cpu")

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.world = SimpleNamespace(config=SimpleNamespace(frame_stride=STRIDE))
        self.tasks_seen: set[str] = set()
        self.imagined = 0

    def init(self, batch_size, *, seeds=None):
        return Carry.start(batch_size, seeds, Chunking(1, STRIDE, EXECUTE), Pushes.action_spec, self.device)

    def act(self, carry, observation):
        carry = carry.with_observation(observation)
        self.tasks_seen |= set(observation.task)
        if carry.chunking.plans(carry.step):
            chunk = self.denoise(self.condition(self.imagine(carry, observation), observation), carry.noise_seeds)
            carry = Carry(**{**carry.__dict__, "chunk": chunk})
        return carry.next_action()

    def imagine(self, carry, observation):
        self.imagined += 1
        return carry.with_observation(observation).observed()

    def condition(self, features, observation):
        """Which way (B,): red without green is the goal, green the dot."""
        columns = features[:, -1].mean(2)
        red, green = columns[:, 0] - columns[:, 1], columns[:, 1]
        return torch.sign(red.argmax(1) - green.argmax(1))

    def denoise(self, way, seeds):
        rolls = [torch.randn(EXECUTE, 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return 0.5 * way[:, None, None].float() + self.noise * torch.stack(rolls)

    def imagined_frames(self, carry):
        return torch.stack([torch.full((carry.batch_size, 3, SIZE, SIZE), -1.0 + i) for i in range(AHEAD)], 1)


def spec(**changes) -> ObservationSpec:
    return ObservationSpec(**{"height": SIZE, "width": SIZE, "channels": 3, "rendered": (SIZE, SIZE), "fps": 10.0,
                    "action_spec": Pushes.action_spec, "state_size": 1, **changes})  # fmt: skip


def outcomes(actor, starts, task="push-right-v3", max_steps=60, **options):
    played = play(actor, [Pushes() for _ in starts], task=task, starts=starts, max_steps=max_steps, **options)
    return [(one.start, one.success, one.steps, one.total) for one in played]


def test_a_policy_that_reads_the_picture_succeeds_everywhere():
    model = Pusher()
    told = outcomes(LearnedActor(model, spec()), range(0, 50, 7)) + outcomes(
        LearnedActor(model, spec()), [3], "push-left-v3"
    )
    assert all(success for _, success, _, _ in told)
    assert model.tasks_seen == {"push right", "push left"}


def test_success_ends_an_episode_in_the_step_that_has_it():
    (start, success, steps, total), *_ = outcomes(ExpertActor(), [25])
    distance = 0.8 - 0.12 - 0.0
    assert (start, success, total) == (25, True, 1.0)
    assert steps == int(np.ceil(distance / 0.1))


def test_an_episode_that_fails_lasts_as_long_as_it_may():
    assert outcomes(ExpertActor(), [0, 49], max_steps=2) == [(0, False, 2, 0.0), (49, False, 2, 0.0)]


@pytest.mark.parametrize("make", [lambda: LearnedActor(Pusher(noise=1.0), spec()), RandomActor, ExpertActor])
def test_side_by_side_is_as_one_by_one(make):
    starts = [40, 1, 13, 25]
    together = outcomes(make(), starts)
    assert len({steps for _, _, steps, _ in together}) > 1  # some end before others
    assert together == [outcome for start in starts for outcome in outcomes(make(), [start])]


def test_noise_follows_from_seed_task_and_start_alone():
    assert outcomes(RandomActor(), [1, 2], seed=0) != outcomes(RandomActor(), [1, 2], seed=1)
    assert len({seed_of(seed, task, start) for seed in (0, 1) for task in ("a", None) for start in (0, 1)}) == 8


def test_pictures_are_drawn_only_where_a_decision_needs_them():
    envs = [Pushes()]
    steps = play(LearnedActor(Pusher(), spec()), envs, task="push-right-v3", starts=[0], max_steps=60)[0].steps
    assert envs[0].pictures == 1 + steps // EXECUTE
    play(ExpertActor(), envs, task="push-right-v3", starts=[0], max_steps=60)
    assert envs[0].pictures == 2 + steps // EXECUTE  # one more: of the reset


def test_an_environment_without_tasks_starts_from_seeds_and_takes_the_policys_only_task():
    from oneiros.envs.rendered import RenderedEnv

    model = Pusher()
    env = RenderedEnv("tests.policy.push_env:Push-v0", height=SIZE, width=SIZE)
    seen = spec(camera=CAMERA, instruction="push the dot", action_spec=env.action_spec)
    played = play(LearnedActor(model, seen), [env], task=None, starts=[4], max_steps=60)
    assert played[0].success
    assert model.tasks_seen == {"push the dot"}
    twice = [play(RandomActor(), [env], task=None, starts=[start], max_steps=60)[0].steps for start in (4, 4)]
    assert twice[0] == twice[1]


def test_without_a_word_on_success_there_is_the_return():
    from oneiros.envs.rendered import RenderedEnv

    env = RenderedEnv("tests.policy.push_env:MutePush-v0", height=SIZE, width=SIZE)
    played = play(RandomActor(), [env], task=None, starts=[0], max_steps=30)[0]
    assert played.success is None
    assert played.steps == 30


def test_a_frame_is_what_a_recording_would_give_back(tmp_path):
    """Depth to the bit, colour but for what the codec loses beyond its pixel format."""
    from oneiros.data.episodes.clips import Clips, load_frames
    from oneiros.data.episodes.dataset import Dataset
    from oneiros.data.episodes.writer import DatasetWriter

    rng = np.random.default_rng(0)
    big = 32
    cameras = (Camera(CAMERA, big, big), Camera("observation.depth.front", big, big, kind="depth", depth_max=4.0))
    smooth = np.linspace(0, 255, big).astype(np.uint8)
    across, down = np.tile(smooth, (big, 1)), np.tile(smooth[:, None], (1, big))
    images = [
        {
            CAMERA: np.stack([across, down, np.full_like(across, 9 * i)], -1),
            "observation.depth.front": rng.uniform(0.1, 4, (big, big)).astype(np.float32),
        }
        for i in range(4)
    ]
    with DatasetWriter(tmp_path / "data", fps=10, cameras=cameras, action_spec=Pushes.action_spec) as writer:
        for _ in range(2):
            with writer.episode(task="push") as episode:
                for each in images:
                    episode.add(images=each, action=np.zeros(1, np.float32))
    dataset = Dataset.open(tmp_path / "data")
    loaded = load_frames(dataset, [0], height=SIZE, width=SIZE, depth=True)
    recorded = Clips(loaded, dataset.action_spec, length=4).batch([0]).frames[0]
    env = SimpleNamespace(cameras=cameras)
    seen = spec(channels=4, rendered=(big, big), depth_camera=dataset.camera(kind="depth"), metres=True)
    for row, each in enumerate(images):
        frame, metres = frame_of(each, env, seen)
        assert torch.equal(frame[3], recorded[row, 3])
        assert (frame[:3] - recorded[row, :3]).abs().mean() < 0.03
        assert metres.shape == (SIZE, SIZE)
        assert colour_of(each, env, seen).shape == (SIZE, SIZE, 3)


def test_a_film_holds_what_was_seen_and_what_was_imagined_of_it():
    actor = LearnedActor(Pusher(), spec())
    shot = film(actor, Pushes(), task="push-right-v3", start=10, max_steps=60)
    plain = play(LearnedActor(Pusher(), spec()), [Pushes()], task="push-right-v3", starts=[10], max_steps=60)[0]
    assert (len(shot.frames) - 1, shot.success) == (plain.steps, True)
    assert shot.decisions.tolist() == list(range(0, plain.steps, EXECUTE))
    assert shot.imagined.shape == (len(shot.decisions), AHEAD, SIZE, SIZE, 3)
    assert shot.imagined[0, 0].max() == 0
    assert shot.imagined[0, 1].min() == 128
    came = shot.happened(0)
    assert np.array_equal(came[0], shot.frames[STRIDE])
    assert shot.happened(len(shot.decisions) - 1)[-1] is None  # the episode was over by then
    video = beside_imagination(shot)
    assert len(video) == len(shot.frames)
    right = video[:, 100, video.shape[2] - 10]  # a pixel of the right half, where the first imagined frame is black
    assert right[STRIDE].max() == 0
    assert right[2 * STRIDE].min() == 128


def test_decisions_are_timed_with_their_parts():
    model = Pusher()
    told = measure_latency(LearnedActor(model, spec()), Pushes(), task="push-right-v3", decisions=4, max_steps=60)
    times = told["decision_ms"]
    assert set(times) == {"total", "imagine", "condition", "denoise"}
    assert 0 < times["denoise"]["p50"] < times["total"]["p50"]
    assert model.imagined == 2 * (4 + 3)  # each decision, those to warm up included, as a whole and in parts
    assert set(vars(model)) == set(vars(Pusher()))  # nothing is left behind


def test_a_model_without_parts_is_timed_as_a_whole():
    class Plain:
        device, world = Pusher.device, None

        def __init__(self):
            self.init, self.act = Pusher().init, Pusher().act

    told = measure_latency(LearnedActor(Plain(), spec()), Pushes(), task="push-right-v3", decisions=2, max_steps=60)
    assert set(told["decision_ms"]) == {"total"}
