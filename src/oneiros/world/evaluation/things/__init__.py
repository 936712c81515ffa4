"""Things that stay: how many of the real things a dream shows, and where."""
