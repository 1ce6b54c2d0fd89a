"""What a network does step by step, and the ways to split a step over the cores."""
