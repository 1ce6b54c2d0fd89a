"""The integer network in PyTorch: the golden model and what stands on it."""
