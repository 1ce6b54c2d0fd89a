"""Scripts that peers' own Python environments run: no import of this project, JSON in, JSON out.

Each reads a list of layers, as :func:`offramp.measure.peers.shapes` makes it, from standard input, models them in the
current folder, and writes ``{"cycles": int, "seconds": float}`` to the file named by its argument; seconds without
imports.
"""
