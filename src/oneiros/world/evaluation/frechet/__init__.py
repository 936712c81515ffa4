"""A Frechet distance between dreamed and real frames, over a feature network of our own."""
