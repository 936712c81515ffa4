"""Functions on tensors that deserve a kernel; nothing else from the package."""
