"""Where builds lie, and the simulators that there are builds for."""

import os
from pathlib import Path

from hw.output import check_folder

__all__ = ["SIMULATORS", "cache_root", "check_cache", "check_simulator"]

SIMULATORS = ("verilator", "icarus")


def check_simulator(name: str) -> str:
    """Refuse a simulator that there are no builds for.

    Raises
    ------
    ValueError
        When it is one.
    """
    if name not in SIMULATORS:
        raise ValueError(f"simulator must be one of {', '.join(SIMULATORS)}, not {name!r}")
    return name


def cache_root() -> Path:
    """Where builds are kept: ``OFFRAMP_CACHE``, or the user's cache directory.

    Raises
    ------
    ValueError
        When something else than a folder is there.
    """
    named = os.environ.get("OFFRAMP_CACHE")
    folder = (
        Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "offramp" if named is None else Path(named)
    )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{'the cache' if named is None else 'OFFRAMP_CACHE'} must be a folder, not the file {folder}")
    return folder


def check_cache() -> None:
    """Refuse a cache that can't be written into, before the work.

    Raises
    ------
    OSError
        Naming the folder.
    ValueError
        As :func:`cache_root`.
    """
    check_folder(cache_root())
