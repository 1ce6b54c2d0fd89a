"""One core, from activations to requantized words."""
