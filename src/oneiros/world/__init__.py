"""Frames become codes, a transformer conditioned on actions dreams the next ones, and the dream is played."""
