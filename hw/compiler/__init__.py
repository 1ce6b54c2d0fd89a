"""Network in, program out."""
