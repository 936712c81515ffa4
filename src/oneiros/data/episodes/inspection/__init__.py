"""Looking at a dataset: what is wrong with it, and a picture of it."""
