"""What verbs do with clouds of points alone."""
