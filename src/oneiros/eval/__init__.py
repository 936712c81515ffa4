"""Measurements, and the reports that show them."""
