"""The accelerator in Amaranth: units that several blocks use, and the top that puts the blocks together."""
