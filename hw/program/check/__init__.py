"""What a program may do: refused is what could do harm, or compute anything else than its network."""
