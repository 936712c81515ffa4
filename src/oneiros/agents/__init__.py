"""What learns or plans inside a world's dreams."""
