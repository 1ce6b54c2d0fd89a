"""Programs on the simulated RTL."""
