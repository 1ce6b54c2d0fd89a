"""Everything that comes in from outside: PyTorch modules, other people's integer networks."""
