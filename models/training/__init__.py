"""The training loop and the pieces that change it."""
