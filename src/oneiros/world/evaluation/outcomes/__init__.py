"""Whether a world knows what steps pay and which of them end an episode."""
