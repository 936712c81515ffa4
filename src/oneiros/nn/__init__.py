"""Modules: tensors in, tensors out; no files, no devices."""
