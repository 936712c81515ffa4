"""An exported world's graphs and program dream what the world itself dreams, from the same seed."""

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")

from oneiros.export.onnx_files import parts_of
from oneiros.export.parity import compare, newest_codes
from oneiros.export.world_folder import check_exportable
from oneiros.records import Clip
from oneiros.world.rollout import LIKELIEST
from tests.export.worlds import EagerDream, pixel_world, starts_of
from tests.world.worlds import make_tokenizer, make_world

THREE_WINDOWS = 10  # frames, of worlds that look back to three


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("keys", {"depth": True, "reward_values": (0.0, 1.0), "end_rate": 0.4}),
        ("discrete", {"levels": 1, "temporal_convs": True, "reference_frame": True}),
        ("continuous", {"frame_stride": 2, "carry_detail": 0.2, "reward_values": (-1.0, 0.0, 2.0)}),
        (None, {"levels": 3, "residual_streams": 2, "num_meta_tokens": 0}),
    ],
)
def test_dreams_are_those_of_the_world(tmp_path, kind, options, temperature):
    world = pixel_world(kind, **options)
    starts = starts_of(world, kind)
    dream = EagerDream(world, starts, tmp_path)
    parity = compare(world, dream, starts, temperature=temperature, frames=THREE_WINDOWS, start=1, seed=5)
    assert parity.first_difference is None
    assert parity.pixels < 1e-4
    assert parity.outcomes < 1e-4


def test_a_first_difference_is_told_with_its_margin(tmp_path):
    world = pixel_world("keys")
    starts = starts_of(world, "keys")
    dream = EagerDream(world, starts, tmp_path)
    with torch.no_grad():
        world.dynamics.leave.bias += 3.0  # another world than the one that was exported
    dream._step._part.graph.dynamics = pixel_world("keys").dynamics
    parity = compare(world, dream, starts, temperature=0.0, frames=2)
    assert parity.first_difference == 0
    assert parity.margin > 1e-3
    assert "up to frame 0" in str(parity)


def test_dreams_go_on_from_a_snapshot_as_before(tmp_path):
    world = pixel_world("discrete")
    dream = EagerDream(world, starts_of(world, "discrete"), tmp_path)
    dream.begin(0, seed=1)
    dream.step(1)
    snapshot = dream.snapshot()
    first = [dream.step(2) for _ in range(4)]
    dream.restore(snapshot)
    assert all(np.array_equal(dream.step(2), frame) for frame in first)


def test_unknown_actions_are_those_of_the_world(tmp_path):
    world = pixel_world("keys")
    starts = [Clip(start.frames, None, start.valid) for start in starts_of(world, "keys")]
    dream = EagerDream(world, starts, tmp_path)
    dream.temperature = 0
    dream.begin(0)
    state = world.init(starts[0])
    for _ in range(4):
        dream.step(None)
        state, _ = world.step(state, None, sampling=LIKELIEST)
        assert np.array_equal(newest_codes(dream), state.codes[0, -1].numpy())


@pytest.mark.parametrize("temporal_convs", [False, True])
def test_the_encoder_gives_the_tokenizers_codes(temporal_convs):
    world = pixel_world(None, depth=True, temporal_convs=temporal_convs)
    frames = starts_of(world, None)[0].frames
    graph = parts_of(world)[-1].graph
    past = torch.zeros(2, 4, 4, 4) if temporal_convs else None
    expected = world.tokenizer.encode(frames)[0]
    for frame, codes in zip(frames[0], expected, strict=True):
        with torch.no_grad():
            digits, latents = graph(frame, *([] if past is None else [past]))
        assert torch.equal(digits[0] * 12 + digits[1], codes)
        past = None if past is None else torch.cat([past[1:], latents])


def test_worlds_of_latents_are_refused():
    with pytest.raises(ValueError, match="no decoder"):
        check_exportable(make_world("keys", tokenizer=make_tokenizer()))
