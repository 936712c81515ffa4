"""Whole runs, read top to bottom."""
