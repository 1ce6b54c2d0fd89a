"""What is kept between commands: builds of simulators and bitstreams, programs of the zoo, folders of RTL runs."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.files.cache_folder import SIMULATORS, cache_root
from offramp.measure.peers import PEERS

__all__ = ["CacheFolder", "clean", "described", "folders"]

_HEX = "[0-9a-f]"
#: What the folders in the cache are called, digests and all: nothing else there is ours, wherever OFFRAMP_CACHE points.
_OURS = {
    **{f"{simulator}-*{_HEX * 16}": f"builds for {simulator}" for simulator in SIMULATORS},
    f"fpga/{_HEX * 16}": "bitstreams",
    f"zoo/*-{_HEX * 12}-{_HEX * 12}.off": "programs of the zoo",
    f"runs/tmp{'[0-9a-z_]' * 8}": "kept RTL runs and waveforms",
    **{f"peers/{name}": "other simulators" for name in PEERS},
}


@dataclass(frozen=True, kw_only=True)
class CacheFolder:
    """A file or folder in the cache.

    Parameters
    ----------
    path : Path
    kind : str
        What it is, in words.
    size : int
        Bytes of its files.
    """

    path: Path
    kind: str
    size: int


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)


def folders() -> list[CacheFolder]:
    """All that is kept, in the order of kinds and names."""
    root = cache_root()
    return [
        CacheFolder(path=path, kind=kind, size=_size(path))
        for pattern, kind in _OURS.items()
        for path in sorted(root.glob(pattern))
        if not path.name.startswith(".")  # being built
    ]


def described(found: list[CacheFolder] | None = None) -> dict[str, Any]:
    """What is kept, or these of it, for a result file: where, how many, how large, and the same by kind."""
    found = folders() if found is None else found
    kinds = {
        kind: {"entries": len(sizes), "bytes": sum(sizes)}
        for kind in _OURS.values()
        if (sizes := [each.size for each in found if each.kind == kind])
    }
    return {
        "place": str(cache_root()),
        "entries": len(found),
        "bytes": sum(each.size for each in found),
        "kinds": kinds,
    }


def clean() -> tuple[list[CacheFolder], list[CacheFolder]]:
    """Remove all that is kept, but for what another command builds at the moment; what else it uses goes, too.

    Returns
    -------
    tuple of list of CacheFolder
        What was removed, and what was left.
    """
    removed: list[CacheFolder] = []
    left: list[CacheFolder] = []
    for found in folders():
        (removed if _removed(found.path) else left).append(found)
    return removed, left


def _removed(path: Path) -> bool:
    """Remove a file or folder, unless another process holds its lock."""
    if not path.is_dir():
        path.unlink()
        return True
    from filelock import FileLock, Timeout

    try:
        with FileLock(path / "lock", timeout=0):
            shutil.rmtree(path)
    except Timeout:
        return False
    return True
