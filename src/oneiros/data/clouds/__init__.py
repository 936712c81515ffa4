"""Clouds of points on disk."""
