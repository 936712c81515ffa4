"""Actions as vectors for the three kinds, and the heads that guess the next one."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from oneiros.records import ActionSpec
from oneiros.world.nn.actions import ActionEmbedding, ActionHead, KeyDecoder, KeyShape
from oneiros.world.nn.blocks import SwiGLU

DISCRETE = ActionSpec("discrete", ("stay", "left", "right"))
KEYS = ActionSpec("keys", ("left", "right", "up", "fire"))
CONTINUOUS = ActionSpec("continuous", ("x", "y"), mean=(1.0, -2.0), std=(2.0, 0.5))


def test_conditions_are_start_then_the_action_that_led_into_each_frame():
    embedding = ActionEmbedding(spec=DISCRETE, dim=8)
    actions = torch.tensor([[2, 0, 1], [1, 1, 2]])
    conditions = embedding(actions, 4, 2)
    assert conditions.shape == (2, 4, 8)
    torch.testing.assert_close(conditions[:, 0], embedding.start.expand(2, -1))
    for frame in (1, 2, 3):
        torch.testing.assert_close(conditions[:, frame], embedding.embed.weight[actions[:, frame - 1]])


def test_unknown_and_forgotten_actions_are_null_but_start_stays():
    embedding = ActionEmbedding(spec=DISCRETE, dim=8)
    actions = torch.tensor([[2, 0, 1], [1, 1, 2]])
    unknown = embedding(None, 4, 2)
    torch.testing.assert_close(unknown[:, 1:], embedding.null.expand(2, 3, -1))
    torch.testing.assert_close(unknown[:, 0], embedding.start.expand(2, -1))
    half = embedding(actions, 4, 2, torch.tensor([True, False]))
    assert torch.equal(half[0], unknown[0])  # the whole clip
    assert torch.equal(half[1], embedding(actions, 4, 2)[1])


def test_keys_are_a_sum_of_those_held_and_nothing_is_zero():
    embedding = ActionEmbedding(spec=KEYS, dim=8)
    held = torch.tensor([[True, False, True, True], [False] * 4])
    vectors = embedding.vectors(held)
    torch.testing.assert_close(vectors[0], embedding.embed.weight[[3, 0, 2]].sum(0))  # in any order
    assert vectors[1].eq(0).all()
    torch.testing.assert_close(embedding.vectors(held.float()), vectors)
    torch.testing.assert_close(embedding.vectors(held.long()), vectors)


def test_continuous_actions_enter_standardised():
    embedding = ActionEmbedding(spec=CONTINUOUS, dim=8, actions_per_step=2)
    actions = torch.randn(3, 4)
    torch.testing.assert_close(embedding.vectors(actions), embedding.embed(CONTINUOUS.standardise(actions)))


def test_without_a_spec_there_is_only_null():
    embedding = ActionEmbedding(spec=None, dim=8)
    assert {name for name, _ in embedding.named_parameters()} == {"start", "null"}
    assert embedding(None, 3, 2).shape == (2, 3, 8)


def test_heads_losses_are_those_of_each_row():
    torch.manual_seed(0)
    features = torch.randn(5, 16)
    head, actions = ActionHead(spec=DISCRETE, dim=16), torch.tensor([0, 2, 1, 1, 0])
    expected = -head.head(features).log_softmax(-1)[torch.arange(5), actions]
    torch.testing.assert_close(head.loss(features, actions), expected)

    head, values = ActionHead(spec=CONTINUOUS, dim=16, actions_per_step=2), torch.randn(5, 4) * 5
    error = (head.head(features) - CONTINUOUS.standardise(values)).abs()
    huber = torch.where(error < 1, error.square() / 2, error - 0.5)
    torch.testing.assert_close(head.loss(features, values), huber.mean(-1))


def test_heads_predict_in_the_actions_own_form():
    torch.manual_seed(0)
    features = torch.randn(5, 16)
    head = ActionHead(spec=DISCRETE, dim=16)
    assert torch.equal(head.predict(features), head.head(features).argmax(-1))
    head = ActionHead(spec=CONTINUOUS, dim=16, actions_per_step=2)
    torch.testing.assert_close(CONTINUOUS.standardise(head.predict(features)), head.head(features))
    predicted = ActionHead(spec=KEYS, dim=16).predict(features)
    assert (predicted.shape, predicted.dtype) == ((5, 4), torch.bool)


def test_drawn_predictions_follow_generator_and_temperature():
    torch.manual_seed(0)
    head, features = ActionHead(spec=DISCRETE, dim=16), torch.randn(1, 16).expand(4000, -1)
    drawn = head.predict(features, generator=torch.Generator().manual_seed(1), temperature=2.0)
    expected = (head.head(features[0]) / 2).softmax(-1)
    torch.testing.assert_close(drawn.bincount(minlength=3) / 4000, expected, atol=0.03, rtol=0)
    again = head.predict(features, generator=torch.Generator().manual_seed(1), temperature=2.0)
    assert torch.equal(drawn, again)


# -- keys as sequences ---------------------------------------------------------------------------------------------


def held(*rows: tuple[int, ...], num_keys: int = 4) -> torch.Tensor:
    return torch.tensor([[key in row for key in range(num_keys)] for row in rows])


def test_key_sequences_are_sorted_closed_and_padded():
    decoder = KeyDecoder(num_keys=4, dim=16)
    assert decoder.sequences(held((2, 0), (), (3,), (0, 1, 2, 3))).tolist() == [
        [0, 2, 4, -1, -1],
        [4, -1, -1, -1, -1],
        [3, 4, -1, -1, -1],
        [0, 1, 2, 3, 4],
    ]


def test_no_more_than_max_keys_are_held_together():
    decoder = KeyDecoder(num_keys=12, dim=16, shape=KeyShape(max_keys=10))
    assert decoder.sequences(torch.arange(12)[None] < 10).tolist() == [[*range(10), 12]]
    with pytest.raises(ValueError, match="row 1 holds 11 keys, more than max_keys, 10"):
        decoder.loss(torch.randn(2, 16), torch.arange(12) < torch.tensor([[10], [11]]))
    with torch.no_grad():
        decoder.output[1].bias[12] = -1e4  # never wants to end
    assert decoder.generate(torch.randn(1, 16), None, 0.0).sum() <= 10


def test_key_loss_is_the_mean_over_a_rows_own_ids_and_its_end():
    torch.manual_seed(0)
    decoder, features = KeyDecoder(num_keys=4, dim=16), torch.randn(2, 16)
    rows = held((1, 3), ())
    loss = decoder.loss(features, rows)
    for row, ids in enumerate(([1, 3, 4], [4])):
        nll = []
        for n, target in enumerate(ids):
            logits = decoder.logits(features[row : row + 1], torch.tensor([ids[:n]], dtype=torch.int64))
            nll.append(F.cross_entropy(logits[:, -1], torch.tensor([target])))
        torch.testing.assert_close(loss[row], torch.stack(nll).mean(), atol=1e-5, rtol=1e-5)


def test_key_decoder_is_causal_over_its_sequence():
    torch.manual_seed(0)
    decoder, features = KeyDecoder(num_keys=4, dim=16), torch.randn(1, 16)
    one, other = (decoder.logits(features, torch.tensor([ids])) for ids in ([0, 1, 3], [0, 2, 3]))
    torch.testing.assert_close(one[:, :2], other[:, :2], atol=1e-6, rtol=0)
    assert not torch.allclose(one[:, 2:], other[:, 2:])


def test_generated_keys_ascend_and_end():
    """Drawn hot, every outcome is a set: ids ascend, so none repeats, and after the end nothing is added."""
    torch.manual_seed(0)
    decoder = KeyDecoder(num_keys=4, dim=16)
    drawn = decoder.generate(torch.randn(1, 16).expand(3000, -1), torch.Generator().manual_seed(0), 5.0)
    seen = {tuple(row.nonzero()[:, 0].tolist()) for row in drawn}
    every = {keys for size in range(5) for keys in itertools.combinations(range(4), size)}
    assert seen == every


def test_key_decoder_learns_which_keys_go_together():
    torch.manual_seed(0)
    rows = held((), (0,), (1, 3), (0, 2), (0, 1, 2, 3), (3,))
    decoder, features = KeyDecoder(num_keys=4, dim=16), torch.randn(len(rows), 16)
    optimiser = torch.optim.AdamW(decoder.parameters(), 3e-3)
    for _ in range(120):
        optimiser.zero_grad()
        decoder.loss(features, rows).mean().backward()
        optimiser.step()
    assert torch.equal(decoder.generate(features, None, 0.0), rows)


def test_key_decoder_has_the_shape_the_spec_gives_it():
    decoder = KeyDecoder(num_keys=20, dim=64)
    assert len(decoder.layers) == 2
    assert decoder.layers[0].project.weight.shape == (3 * 4 * 64, 32)
    assert decoder.position.shape == (11, 32)  # at most 10 keys after the feature; width D / 2
    assert decoder.output[1].out_features == 21
    other = KeyDecoder(num_keys=20, dim=64, shape=KeyShape(depth=3, heads=2, head_dim=8, gated=True))
    assert len(other.layers) == 3
    assert other.layers[0].project.weight.shape == (3 * 2 * 8, 32)
    assert isinstance(other.layers[0].feed_forward, SwiGLU)
    held = torch.eye(20, dtype=torch.bool)[:3]
    assert other.loss(torch.randn(3, 64), held).isfinite().all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "joystick", "names": ("x",)},
        {"kind": "keys", "names": ()},
        {"kind": "keys", "names": ("a", "a")},
        {"kind": "continuous", "names": ("x", "y"), "mean": (0.0,)},
        {"kind": "discrete", "names": ("x",), "std": (1.0,)},
    ],
)
def test_impossible_action_specs_are_refused(wrong):
    with pytest.raises(ValueError, match="action"):
        ActionSpec(**wrong)
