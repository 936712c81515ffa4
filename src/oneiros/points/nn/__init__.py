"""Kernel point convolution with kernel attention, and networks of it."""
