"""Recipes and checkpoints: how a network is made, and what was made."""
