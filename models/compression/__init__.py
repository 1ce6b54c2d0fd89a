"""Pruning, quantization, thresholds."""
