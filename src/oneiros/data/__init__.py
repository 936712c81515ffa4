"""Bytes on disk <-> records."""
