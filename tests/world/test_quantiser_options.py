"""Settings of the quantiser: entries that are hardly used, the clusters that begin it, cosine distance."""

import pytest
import torch
import torch.nn.functional as F

from oneiros.records import Clip
from oneiros.world.nn.codebooks import LearningQuantiser
from oneiros.world.nn.codec import IdentityCodec
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig


def test_entries_are_revived_below_the_share_that_is_asked_for():
    """Of two entries one is used a tenth of an even use: revived at a share of 0.5, left alone at 0.01."""
    moved = {}
    for share in (0.01, 0.5):
        torch.manual_seed(0)
        quantiser = LearningQuantiser(levels=1, size=2, dim=1, decay=0.5, rotation_trick=False, dead_share=share)
        quantiser.start(torch.tensor([[[-1.0], [5.0]]]))
        latents = torch.cat([torch.full((95, 1), -1.0), torch.full((5, 1), 5.0)])
        for _ in range(20):
            codes = (latents[:, 0] > 2).long()
            quantiser.learn(latents, codes)
        moved[share] = quantiser.codebook[0, 1].item()
    assert moved[0.01] == pytest.approx(5.0, abs=0.01)
    assert moved[0.5] == pytest.approx(-1.0, abs=0.01)  # it began anew among the many


def test_more_steps_of_clustering_begin_nearer():
    errors = []
    for steps in (1, 20):
        torch.manual_seed(0)
        latents = torch.randn(2000, 4)
        quantiser = LearningQuantiser(levels=1, size=16, dim=4, decay=0.9, rotation_trick=False, kmeans_steps=steps)
        quantiser.learn(latents, torch.zeros(2000, dtype=torch.long))
        errors.append(torch.cdist(latents, quantiser.codebook[0]).amin(1).square().mean().item())
    assert errors[1] < 0.95 * errors[0]


def cosine_tokenizer():
    config = TokenizerConfig(
        height=2, width=2, channels=3, code_dim=3, codebook_size=4, external_codec=True, codebook_cosine=True
    )
    return Tokenizer(config, IdentityCodec(), trainable=True)


def test_with_cosine_distance_lengths_do_not_count():
    tokenizer = cosine_tokenizer()
    tokenizer.codebook.copy_(F.normalize(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]), dim=-1))
    frames = torch.tensor([[0.01, 0, 0], [9.0, 1, 0], [0, 0.3, 2], [5, 4, 5]]).T.view(1, 1, 3, 2, 2)
    assert tokenizer.encode(frames).tolist() == [[[0, 0, 2, 3]]]


def test_with_cosine_distance_entries_stay_of_length_one():
    torch.manual_seed(0)
    tokenizer = cosine_tokenizer()
    tokenizer.codec.scale = torch.nn.Parameter(torch.ones(()))
    tokenizer.codec.encode = lambda frames: frames * tokenizer.codec.scale
    optimiser = torch.optim.SGD(tokenizer.parameters(), 1e-3)
    for _ in range(4):
        frames = torch.randn(8, 1, 3, 2, 2) * 3
        loss = tokenizer(Clip(frames, None, torch.ones(8, 1, dtype=torch.bool)))
        assert loss.parts["tokenizer/commitment"] <= 4 / 3  # of vectors of length 1
        loss.total.backward()
        optimiser.step()
        tokenizer.after_step()
        torch.testing.assert_close(tokenizer.codebook.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codebook_cosine": True, "codebook_levels": 2}, "codebook_cosine is for one level"),
        ({"codebook_dead_share": 1.5}, r"codebook_dead_share is 1.5; it must lie in \[0, 1\]"),
        ({"codebook_kmeans_steps": 0}, "codebook_kmeans_steps is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        TokenizerConfig(**options)
