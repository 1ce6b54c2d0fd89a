"""Readers of other people's integer networks."""
