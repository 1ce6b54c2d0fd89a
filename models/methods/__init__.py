"""Published methods of compression and robustness, each a few functions and pieces (:mod:`models.training.pieces`)."""
