"""Meta-World on MuJoCo."""
