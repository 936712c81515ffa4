"""The training engine. It knows `Loss`, not models."""
