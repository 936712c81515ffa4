"""Layers of policies and of behaviour cloning."""
