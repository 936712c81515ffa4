"""What was done between two frames, told from the frames around it."""
