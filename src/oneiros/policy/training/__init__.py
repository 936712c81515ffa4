"""From demonstrations to policies and to behaviour cloning."""
