"""How often a policy reaches its goal, beside the expert and other runs."""
