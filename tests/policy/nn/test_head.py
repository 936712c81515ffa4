"""The head feels the noise level, where an action stands in its chunk, what is known, and nothing else."""

import pytest
import torch

from oneiros.policy.nn.diffusion import (
    SIGMA_DATA,
    Preconditioning,
    ddim,
    exponential_schedule,
    network_target,
    training_sigmas,
)
from oneiros.policy.nn.goals import Goals
from oneiros.policy.nn.head import PolicyHead
from oneiros.policy.nn.image_encoder import TOKENS, ImageEncoder, spatial_softmax
from tests.world.worlds import scramble


def make_head(**options) -> PolicyHead:
    torch.manual_seed(0)
    sizes = {"dim": 32, "heads": 4, "encoder_depth": 1, "decoder_depth": 2, "num_tokens": 5, "horizon": 6}
    return PolicyHead(**{**sizes, "action_dim": 3, **options})


@pytest.fixture
def head() -> PolicyHead:
    head = make_head()
    scramble(head)
    return head.eval().requires_grad_(False)


def said(head: PolicyHead, noisy: torch.Tensor, level: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return head(noisy, head.modulation(level), head.decoder_input(head.encode(tokens)))


def given(batch: int = 2, draws: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = (batch, draws, 6, 3), (batch, draws), (batch, 5, 32)
    noisy, level, tokens = (torch.randn(shape, generator=generator) for shape in shapes)
    return noisy, level, tokens


def test_a_new_head_says_nothing():
    assert bool((said(make_head(), *given()) == 0).all())


def test_the_noise_level_changes_the_output(head):
    noisy, level, tokens = given()
    assert float((said(head, noisy, level, tokens) - said(head, noisy, level + 0.3, tokens)).abs().min()) > 0


def test_the_noise_level_is_felt_from_the_first_step_of_training():
    head = make_head()
    torch.nn.init.normal_(head.leave.weight)
    noisy, level, tokens = given()
    assert float((said(head, noisy, level, tokens) - said(head, noisy, level + 0.3, tokens)).abs().mean()) > 1e-3


def test_actions_have_positions(head):
    """Without them, a permuted chunk would come out permuted, and nothing else."""
    head.enter_guess.weight.zero_()  # the guess tells actions apart as well
    noisy, level, tokens = given()
    order = torch.tensor([3, 1, 0, 5, 2, 4])
    moved = said(head, noisy[:, :, order], level, tokens)
    assert float((moved - said(head, noisy, level, tokens)[:, :, order]).abs().min()) > 1e-4


def test_the_first_guess_is_seen_and_learns_from_its_own_loss_alone(head):
    noisy, level, tokens = given()
    known = head.decoder_input(head.encode(tokens))
    other = known._replace(guess=(known.guess + 1).requires_grad_())
    modulation = head.modulation(level)
    head.enter_guess.weight.requires_grad_()
    changed = head(noisy, modulation, other)
    assert float((changed - head(noisy, modulation, known)).abs().min()) > 0
    changed.sum().backward()
    assert head.enter_guess.weight.grad is not None
    assert other.guess.grad is None


def test_every_token_counts_and_has_its_place(head):
    noisy, level, tokens = given()
    plain = said(head, noisy, level, tokens)
    for place in range(tokens.shape[1]):
        other = tokens.clone()
        other[:, place] += torch.randn(32)
        assert float((said(head, noisy, level, other) - plain).abs().mean()) > 1e-4
    assert float((said(head, noisy, level, tokens.flip(1)) - plain).abs().mean()) > 1e-4


def test_samples_and_draws_do_not_see_one_another(head):
    noisy, level, tokens = given()
    plain = said(head, noisy, level, tokens)
    for sample in range(2):
        for draw in range(3):
            one = said(
                head, noisy[sample : sample + 1, draw : draw + 1], level[sample, draw][None, None], tokens[[sample]]
            )
            torch.testing.assert_close(one[0, 0], plain[sample, draw], rtol=1e-4, atol=1e-5)


def test_two_modes_are_learned_and_kept_apart():
    """Chunks are all 1 or all -1, by nothing that is known: half of the samples each, none between."""
    torch.manual_seed(0)
    head = make_head(action_dim=1, horizon=2, num_tokens=1, decoder_depth=1)
    optimiser = torch.optim.AdamW(head.parameters(), 3e-3)
    tokens, steps = torch.zeros(64, 1, 32), 250
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        clean = SIGMA_DATA * (torch.randint(2, (64, 1, 1, 1)) * 2 - 1).expand(64, 4, 2, 1)
        at = Preconditioning.of(sigmas := training_sigmas(torch.rand(64, 4, 1, 1)))
        noisy = clean + sigmas * torch.randn(clean.shape)
        wanted = network_target(clean, noisy, at)
        loss = (said(head, at.into * noisy, at.level[..., 0, 0], tokens) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    sigmas = exponential_schedule(10)
    at = Preconditioning.of(sigmas[:-1])
    known, modulations = head.decoder_input(head.encode(torch.zeros(200, 1, 32))), head.modulation(at.level)

    def denoise(noisy: torch.Tensor, index: int) -> torch.Tensor:
        return at.skip[index] * noisy + at.out[index] * head(at.into[index] * noisy, modulations[None, [index]], known)

    with torch.no_grad():
        made = ddim(denoise, torch.randn(200, 1, 2, 1), sigmas).flatten(1) / SIGMA_DATA
    assert float(((made.abs() - 1).abs() < 0.25).float().mean()) > 0.8
    assert 0.3 < float((made[:, 0] > 0).float().mean()) < 0.7
    assert float(((made[:, 0] > 0) == (made[:, 1] > 0)).float().mean()) > 0.95


# -- goals and frames ------------------------------------------------------------------------------------------------


def test_goals_are_told_apart_forgotten_and_refused():
    goals = Goals(tasks=("open the drawer", "close the window"), dim=8)
    numbers = goals.numbers(("close the window", "open the drawer"), 2, torch.device("cpu"))
    assert numbers.tolist() == [1, 0]
    assert goals.numbers(None, 2, torch.device("cpu")).tolist() == [-1, -1]
    tokens = goals(torch.tensor([0, 1, -1, 0]), torch.tensor([False, False, False, True]))[:, 0]
    assert torch.equal(tokens[2], goals.unknown)
    assert torch.equal(tokens[3], goals.unknown)
    assert not torch.equal(tokens[0], tokens[1])
    with pytest.raises(ValueError, match=r"'open the drower' is none of .* such as open the drawer"):
        goals.numbers(("open the drower",), 1, torch.device("cpu"))
    with pytest.raises(ValueError, match="1 tasks for 2 environments"):
        goals.numbers(("open the drawer",), 2, torch.device("cpu"))


def test_embedded_sentences_are_kept_with_the_weights_and_not_trained():
    goals, embedded = Goals(tasks=("a", "b"), dim=8, sentence_dim=4), torch.randn(2, 4)
    goals.set_sentences(embedded)
    other = Goals(tasks=("a", "b"), dim=8, sentence_dim=4)
    other.load_state_dict(goals.state_dict())
    assert torch.equal(other(torch.tensor([0, 1])), goals(torch.tensor([0, 1])))
    assert "table" not in dict(goals.named_parameters())
    assert not torch.equal(goals(torch.tensor([0])), goals(torch.tensor([1])))
    with pytest.raises(ValueError, match=r"shape \(3, 4\); this policy takes \(2, 4\)"):
        goals.set_sentences(torch.randn(3, 4))
    with pytest.raises(ValueError, match="learns a table"):
        Goals(tasks=("a",), dim=4).set_sentences(torch.randn(1, 4))


def test_a_spatial_softmax_says_where_a_peak_is():
    maps = torch.zeros(1, 2, 5, 9)
    maps[0, 0, 0, 8] = maps[0, 1, 2, 4] = 50.0
    torch.testing.assert_close(spatial_softmax(maps), torch.tensor([[-1.0, 0.0, 1.0, 0.0]]))


def test_tokens_of_places_tell_what_is_there():
    torch.manual_seed(0)
    encoder = ImageEncoder(channels=3, size=(64, 64), width=8, dim=12, places=True).eval()
    frames = torch.randn(1, 1, 3, 64, 64)
    other = frames.clone()
    other[..., :16, :16] += 1  # the first of 4 x 4 places
    seen, changed = encoder.tokens(frames), encoder.tokens(other)
    assert seen.shape == (1, TOKENS, 12)
    assert torch.equal(seen[:, 0], encoder(frames))
    moved = (seen - changed)[0, 1:].norm(dim=-1)
    assert moved.argmax() == 0
    assert moved[0] > 0


def test_an_image_encoder_sees_every_frame_and_place():
    torch.manual_seed(0)
    encoder = ImageEncoder(channels=6, size=(16, 24), width=8, dim=12)
    frames = torch.zeros(1, 2, 3, 16, 24)
    plain = encoder(frames)
    assert plain.shape == (1, 12)
    for frame, row, column in ((0, 0, 0), (0, 15, 23), (1, 8, 12)):
        other = frames.clone()
        other[0, frame, :, row, column] = 1
        assert not torch.allclose(encoder(other), plain, atol=1e-5)
    with pytest.raises(ValueError, match="at least 16 x 16"):
        ImageEncoder(channels=3, size=(8, 64))
