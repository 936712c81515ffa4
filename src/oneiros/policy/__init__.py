"""Policies: what a world imagines, condensed by a Video Former, becomes actions."""
