"""The accelerator as an IP core for designs of others."""
