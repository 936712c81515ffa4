"""The causal transformer: against a float64 oracle, causality by step and by frame, window, meta tokens, clock."""

import pytest
import torch

from oneiros.world.nn.dynamics import ClipMemory, Dynamics
from tests.world.nn.oracle import groups_of, oracle_logits

GRID, FRAMES, DIM, CODES = (2, 4), 7, 32, 10


def make_dynamics(seed=0, **options) -> Dynamics:
    torch.manual_seed(seed)
    sizes = {"dim": DIM, "depth": 2, "head_dim": 16, "tokens_per_step": 2, "window": 3, "num_meta_tokens": 2}
    dynamics = Dynamics(grid=GRID, codebook=torch.randn(CODES, 5), **{**sizes, **options})
    with torch.no_grad():
        for name, parameter in dynamics.named_parameters():
            if name != "log_scale":
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return dynamics.eval().requires_grad_(False)


def inputs(batch=2, frames=FRAMES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(CODES, (batch, frames, GRID[0] * GRID[1]), generator=generator)
    return codes, torch.randn(batch, frames, DIM, generator=generator)


def logits_of(dynamics, codes, conditions, **options):
    """(B, T, N, K), generation order."""
    return dynamics.logits(dynamics.predictions(dynamics(codes, conditions, **options)))


@pytest.mark.parametrize("tokens_per_step", [1, 2, 4, 8])
@pytest.mark.parametrize("meta", [0, 2])
def test_clip_pass_equals_the_oracle(tokens_per_step, meta):
    dynamics = make_dynamics(tokens_per_step=tokens_per_step, num_meta_tokens=meta)
    codes, conditions = inputs(frames=5)
    got = logits_of(dynamics, codes, conditions)[:, :, dynamics.layout.inverse]
    for sample in range(2):
        expected = oracle_logits(dynamics, GRID, codes[sample], conditions[sample])
        torch.testing.assert_close(got[sample].double(), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("tokens_per_step", [1, 2, 4, 8])
@pytest.mark.parametrize("streams", [1, 3])
def test_a_code_changes_no_logits_of_its_own_step_or_any_before(tokens_per_step, streams):
    dynamics = make_dynamics(tokens_per_step=tokens_per_step, residual_streams=streams)
    codes, conditions = inputs(batch=1)
    before = logits_of(dynamics, codes, conditions)
    order = [code for group in groups_of(*GRID, tokens_per_step) for code in group]
    for frame in (0, 3, FRAMES - 1):
        for place in range(len(order)):
            changed = codes.clone()
            changed[0, frame, order[place]] = (codes[0, frame, order[place]] + 1) % CODES
            after = logits_of(dynamics, changed, conditions)
            until = (place // tokens_per_step + 1) * tokens_per_step  # codes drawn with it do not see it
            assert torch.equal(after[:, :frame], before[:, :frame])
            assert torch.equal(after[:, frame, :until], before[:, frame, :until])
            felt = (after != before).flatten(3).any(-1)[0]
            assert felt[frame, until:].all()
            assert felt[frame + 1 : frame + dynamics.window].all()


def test_a_frame_is_led_by_its_own_action_and_never_by_the_next():
    dynamics = make_dynamics()
    codes, conditions = inputs(batch=1)
    before = logits_of(dynamics, codes, conditions)
    for frame in range(FRAMES):
        changed = conditions.clone()
        changed[:, frame] += 1.0
        after = logits_of(dynamics, codes, changed)
        assert torch.equal(after[:, :frame], before[:, :frame])
        assert (after[:, frame] != before[:, frame]).any(-1).all()  # every code, the first one too


def test_the_window_hides_what_is_older():
    """One layer deep, so that nothing travels further by hops."""
    dynamics = make_dynamics(depth=1)
    codes, conditions = inputs(batch=1)
    before = logits_of(dynamics, codes, conditions)
    for frame in range(FRAMES):
        changed_codes, changed_conditions = codes.clone(), conditions.clone()
        changed_codes[:, frame] = (codes[:, frame] + 1) % CODES
        changed_conditions[:, frame] += 1.0
        felt = (logits_of(dynamics, changed_codes, changed_conditions) != before).flatten(2).any(-1)[0]
        assert felt.tolist() == [frame <= t < frame + dynamics.window for t in range(FRAMES)]


def test_meta_tokens_see_only_each_other():
    dynamics = make_dynamics(depth=3)
    kept = []
    for seed in (0, 1):
        memory = ClipMemory(dynamics, FRAMES, torch.device("cpu"), keep=True)
        dynamics(*inputs(seed=seed), memory=memory)
        kept.append([tensor[:, :, :2] for pair in memory.kept for tensor in pair])
    assert all(torch.equal(a, b) for a, b in zip(*kept, strict=True))
    # Each sees the other: moving one changes the other's deeper values.
    memory = ClipMemory(dynamics, FRAMES, torch.device("cpu"), keep=True)
    dynamics.meta[0] += 1.0
    dynamics(*inputs(), memory=memory)
    assert not torch.equal(memory.kept[1][1][:, :, 1], kept[0][3][:, :, 1])


def test_meta_tokens_are_visible_to_all_and_have_no_place():
    dynamics = make_dynamics(depth=1)
    codes, conditions = inputs(batch=1)
    before = logits_of(dynamics, codes, conditions)
    memory = ClipMemory(dynamics, FRAMES, torch.device("cpu"), keep=True)
    dynamics(codes, conditions, memory=memory)
    assert memory.kept[0][0][:, :, :2, :12].eq(0).all()  # 12 of 16 channels turn
    assert memory.kept[0][0][:, :, :2, 12:].ne(0).any()
    dynamics.meta += 1.0
    assert (logits_of(dynamics, codes, conditions) != before).any(-1).all()


def test_meta_tokens_start_at_zero_and_zero_of_them_is_allowed():
    fresh = Dynamics(grid=GRID, codebook=torch.randn(CODES, 5), dim=32, depth=1, head_dim=16, tokens_per_step=2)
    assert fresh.meta.shape == (16, 32)
    assert fresh.meta.eq(0).all()
    assert make_dynamics(num_meta_tokens=0)(*inputs()).isfinite().all()


@pytest.mark.parametrize("first_time", [1, 1000, 10**9])
def test_only_differences_of_time_matter(first_time):
    dynamics = make_dynamics()
    here, later = (logits_of(dynamics, *inputs(), first_time=time) for time in (0, first_time))
    torch.testing.assert_close(here, later, atol=1e-4, rtol=0)


def test_a_clip_can_end_anywhere():
    """Chunks of frames and their masks: every length gives the prefix of the longer one."""
    dynamics = make_dynamics()
    codes, conditions = inputs()
    whole = logits_of(dynamics, codes, conditions)
    for frames in range(1, FRAMES):
        part = logits_of(dynamics, codes[:, :frames], conditions[:, :frames])
        torch.testing.assert_close(part, whole[:, :frames], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grid", [(4, 2), (1, 6), (3, 5)])
def test_grids_of_any_shape_keep_their_cells(grid):
    torch.manual_seed(0)
    dynamics = Dynamics(grid=grid, codebook=torch.randn(CODES, 5), dim=32, depth=1, head_dim=16, tokens_per_step=1)
    codes = torch.randint(CODES, (1, 2, grid[0] * grid[1]))
    conditions = torch.randn(1, 2, 32)
    expected = oracle_logits(dynamics, grid, codes[0], conditions[0])
    got = logits_of(dynamics, codes, conditions)[0]  # raster order, as m = 1
    torch.testing.assert_close(got.double(), expected, atol=2e-4, rtol=1e-4)


def test_logits_are_scaled_negative_distances():
    dynamics, outputs = make_dynamics(), torch.randn(3, 4, DIM) * 3
    query = dynamics.leave(dynamics.output_norm(outputs)).double()
    distance = torch.cdist(query, dynamics.codebook.double().expand(3, -1, -1))
    torch.testing.assert_close(
        dynamics.logits(outputs).double(), -dynamics.log_scale.double().exp() * distance, atol=1e-4, rtol=1e-5
    )


def test_logits_of_an_output_on_its_code_have_finite_gradients():
    dynamics = make_dynamics()
    dynamics.leave.weight.zero_()
    dynamics.leave.bias.copy_(dynamics.codebook[3])
    outputs = torch.randn(2, DIM, requires_grad=True)
    dynamics.leave.bias.requires_grad_(True)
    logits = dynamics.logits(outputs)
    assert logits.argmax(-1).tolist() == [3, 3]
    logits.sum().backward()
    assert dynamics.leave.bias.grad.isfinite().all()


def first_confidence(spread):
    """Of an output that lies on its code, before any training."""
    torch.manual_seed(0)
    codebook = torch.randn(64, 8) * spread
    dynamics = Dynamics(grid=GRID, codebook=codebook, dim=32, depth=1, head_dim=16, tokens_per_step=2)
    with torch.no_grad():
        dynamics.leave.weight.zero_()
        dynamics.leave.bias.copy_(dynamics.codebook[5])
        return float(dynamics.logits(torch.randn(1, 32)).softmax(-1)[0, 5])


def test_close_codes_do_not_cap_the_confidence():
    """The scale comes from the codebook's spacing: at scale 1 and spread 0.01, all 64 codes would be alike."""
    assert first_confidence(1.0) > 4 / 64
    for spread in (0.01, 100.0):
        assert first_confidence(spread) == pytest.approx(first_confidence(1.0), rel=1e-3)
    assert make_dynamics().requires_grad_(True).log_scale.requires_grad


@pytest.mark.parametrize("wrong", [{"dim": 40}, {"tokens_per_step": 3}, {"head_dim": 4}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_dynamics(**wrong)(*inputs())


def test_gradients_reach_every_parameter():
    dynamics = make_dynamics(residual_streams=2).requires_grad_(True)
    logits_of(dynamics, *inputs()).log_softmax(-1)[..., 0].mean().backward()
    unreached = [name for name, parameter in dynamics.named_parameters() if parameter.grad is None]
    assert unreached == []
    # ... and every entry that a prediction depends on; the last step's NONE only writes keys and values.
    still = [name for name, p in dynamics.named_parameters() if p.grad.abs().amax() == 0]
    assert still == []
