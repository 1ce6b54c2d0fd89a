"""Where builds lie, and the simulators that there are builds for."""

import os
from pathlib import Path

__all__ = ["SIMULATORS", "cache_root"]

SIMULATORS = ("verilator", "icarus")


def cache_root() -> Path:
    """Where builds are kept: ``OFFRAMP_CACHE``, or the user's cache directory."""
    if "OFFRAMP_CACHE" in os.environ:
        return Path(os.environ["OFFRAMP_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "offramp"
