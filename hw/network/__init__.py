"""The integer network: what importers and the quantizer make, what golden model, simulator and compiler read."""
