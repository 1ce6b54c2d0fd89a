"""Where builds lie, and the simulators that there are builds for."""

import os
from pathlib import Path

__all__ = ["SIMULATORS", "cache_root"]

SIMULATORS = ("verilator", "icarus")


def cache_root() -> Path:
    """Where builds are kept: ``OFFRAMP_CACHE``, or the user's cache directory.

    Raises
    ------
    ValueError
        When something else than a folder is there.
    """
    named = os.environ.get("OFFRAMP_CACHE")
    place = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "offramp" if named is None else Path(named)
    if place.exists() and not place.is_dir():
        raise ValueError(f"{'the cache' if named is None else 'OFFRAMP_CACHE'} must be a folder, not the file {place}")
    return place
