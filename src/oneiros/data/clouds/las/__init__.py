"""LAS and LAZ."""
