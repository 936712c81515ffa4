"""Datasets that are elsewhere: by name on a hub, by address on an object store."""
