"""Layers of tokenizer and world: tensors in, tensors out."""
