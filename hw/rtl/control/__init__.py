"""What runs a program: sequencer, image, exits, selections."""
