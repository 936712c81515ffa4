"""Blocks compiled for CPUs: against the blocks themselves, in every shape, and when they are used at all."""

import pytest
import torch

from oneiros.ops.cached_blocks import from_lanes, to_lanes
from oneiros.ops.choice import FORCED
from oneiros.sampling import Sampling
from oneiros.world.nn.dynamics import Dynamics
from oneiros.world.nn.layout import TokenLayout, visible, visible_spans
from oneiros.world.nn.ring import Ring
from tests.world.worlds import code_clip, make_tokenizer, make_world, random_codes, scramble, state_after


def make_dynamics(**options) -> Dynamics:
    torch.manual_seed(0)
    sizes = {"dim": 48, "depth": 3, "head_dim": 16, "tokens_per_step": 4, "window": 3, "num_meta_tokens": 2}
    dynamics = Dynamics(grid=(4, 8), codebook=torch.randn(10, 5), **{**sizes, **options})
    scramble(dynamics)
    return dynamics.eval().requires_grad_(False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tokens_per_step": 1},
        {"tokens_per_step": 16},
        {"tokens_per_step": 32, "num_meta_tokens": 0},  # more than the lanes of a panel
        {"dim": 30, "head_dim": 10},  # in no tile's measure
        {"dim": 16, "depth": 1, "window": 1},
        {"window": 8, "num_meta_tokens": 7},  # more keys than are attended at once, and not in fours
    ],
)
def test_compiled_blocks_equal_the_blocks(options):
    check_equal(make_dynamics(**options), batch=1)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_samples_of_a_batch_run_in_any_number_of_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check_equal(make_dynamics(), batch=3)
    finally:
        torch.set_num_threads(before)


def check_equal(dynamics: Dynamics, batch: int) -> None:
    """Step by step, over more frames than the ring holds."""
    layout, dim = dynamics.layout, dynamics.meta.shape[1]
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(10, (batch, 2, layout.num_codes), generator=generator)
    plain, _ = Ring.filled(dynamics, codes, torch.randn(batch, 2, dim, generator=generator))
    ring, last = plain.clone(), layout.num_steps - 1
    dynamics.compile_for_cpu()
    compiled, steps = dynamics.compiled, range(1, last, -(-last // 5))
    for time in range(2, dynamics.window + 5):
        for places in ([(time - 1, last), (time, 0)], *([(time, step)] for step in steps)):
            x = torch.randn(batch, len(places) * layout.tokens_per_step, dim, generator=generator)
            dynamics.compiled = None
            wanted = plain.run(x, places)
            dynamics.compiled = compiled
            torch.testing.assert_close(ring.run(x, places), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ring.keys, plain.keys, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ring.values, plain.values, atol=1e-4, rtol=1e-4)
    assert torch.equal(ring.slots, plain.slots)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("levels", [1, 2])
def test_a_prepared_world_dreams_the_same_codes(levels, temperature):
    """Over 64 frames, in float32; drawn codes too, from the same random numbers."""
    world = make_world(tokens_per_step=16, tokenizer=make_tokenizer(codebook_levels=levels))
    sampling = Sampling(temperature=temperature)

    @torch.no_grad()
    def dream():
        clip, generator = code_clip(world, "discrete", frames=3), torch.Generator().manual_seed(0)
        state, codes = world._init_codes(clip), []
        for frame in range(64):
            state, drawn = world.step_codes(state, torch.tensor([frame % 3, 1]), generator=generator, sampling=sampling)
            codes.append(drawn)
        return torch.stack(codes)

    plain = dream()
    assert world.prepare_for_inference(float32=True).dynamics.compiled is not None
    assert len(plain.unique()) > 3
    assert torch.equal(dream(), plain)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("written", [1, 3, 9])
def test_spans_are_what_the_mask_rule_shows(window, written):
    layout, slots = TokenLayout.of(4, 4, 4), [1 << 62] * (window + 1)
    for time in range(written):
        slots[time % len(slots)] = time
    other = [slot if slot == written - 1 else 1 << 62 for slot in slots]  # remembers the newest alone
    both = torch.tensor([slots, other])
    times = both.repeat_interleave(layout.num_elements, 1)
    for step in range(layout.num_steps):
        time = torch.tensor([written - 1])
        seen = visible(time, torch.tensor([step]), times, layout.step.repeat(len(slots)), window)[:, 0]
        spanned = torch.zeros_like(seen)
        for sample, spans in enumerate(visible_spans(both.numpy(), layout, written - 1, step, window)):
            for first, end in spans:
                spanned[sample, first:end] = True
        assert torch.equal(spanned, seen)


@pytest.mark.parametrize("count", [1, 16, 17])
def test_elements_come_back_from_their_lanes(count):
    x = torch.randn(2, 3, count, 5).numpy()
    assert (from_lanes(to_lanes(x), count) == x).all()


def test_blocks_that_turn_to_bf16_dream_in_float32():
    """What is compiled was copied before; only contexts are read in bf16."""
    world = make_world()
    codes, actions = random_codes(world, 1, 3), torch.tensor([[0, 1]])
    world.dynamics.compile_for_cpu()
    world.dynamics.blocks.to(torch.bfloat16)
    state = state_after(world, codes, actions, 3)
    assert state.ring.keys.dtype == torch.float32
    state, _ = world.step(state, torch.tensor([1]))
    assert state.outputs.dtype == torch.float32
    assert bool(state.outputs.isfinite().all())


def test_compiled_copies_stay_in_float32_under_autocast():
    world = make_world("keys")
    world.dynamics.compile_for_cpu()
    state = state_after(world, random_codes(world, 1, 3), None, 3)
    with torch.autocast("cpu", torch.bfloat16):
        state, _ = world.step_codes(state, torch.tensor([[True, False, True, False]]))
    assert state.outputs.dtype == torch.float32
    assert world.dynamics.compiled.logits(state.outputs.bfloat16()).dtype == torch.float32


def test_training_leaves_compiled_copies_behind():
    world = make_world()
    world.dynamics.compile_for_cpu()
    assert world.eval().dynamics.compiled is not None
    assert world.train().dynamics.compiled is None
    assert world.eval().dynamics.compiled is None


def test_a_world_that_moves_leaves_its_compiled_copy_behind():
    """As on its way to a GPU."""
    world = make_world()
    world.dynamics.compile_for_cpu()
    assert world.double().dynamics.compiled is None


def test_nothing_is_compiled_where_it_would_not_fit(monkeypatch):
    world = make_world(residual_streams=2)
    world.dynamics.compile_for_cpu()
    assert world.dynamics.compiled is None
    world = make_world(heads=3).prepare_for_inference(float32=True)  # 48 channels of heads, 32 of the model
    assert world.dynamics.compiled is None
    assert world.generate(torch.zeros(1, 4, 4, 8), num_frames=2).frames.shape == (1, 3, 4, 4, 8)
    monkeypatch.setenv(FORCED, "reference")
    world = make_world()
    world.dynamics.compile_for_cpu()
    assert world.dynamics.compiled is None
