"""Anything with Gymnasium's reset and step."""
