"""Pages, charts and figures on disk."""
