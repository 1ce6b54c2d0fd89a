"""What talks to the host."""
