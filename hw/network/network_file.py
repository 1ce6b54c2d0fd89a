"""A file that holds an integer network alone: what an import leaves, and what can be compiled anywhere."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hw import container
from hw.network.network import Network
from hw.rules import require, shown, text

__all__ = ["MAGIC", "NetworkFile", "load", "save"]

MAGIC = b"OFFRNETW"
_VERSION = 1
#: Prefixes of arrays: of the network, and of the shares of its tensors' channels.
_NETWORK, _ACTIVITY = "network:", "activity:"


@dataclass(frozen=True, kw_only=True)
class NetworkFile:
    """What the file holds.

    Parameters
    ----------
    network : Network
    origin : str
        What the network was made of, in words: a file's kind and name.
    activity : dict of str to float64 array (channels,)
        Share of nonzero activations by tensor, 0..1, on the images it was measured on; empty where it wasn't.

    Raises
    ------
    ValueError
        When the shares aren't of the network's tensors.
    """

    network: Network
    origin: str
    activity: dict[str, np.ndarray] = field(repr=False)

    def __post_init__(self) -> None:
        require(text(self.origin), f"origin must be a text that can be printed, not {shown(self.origin)}")
        tensors = self.network.tensors()
        for name, shares in self.activity.items():
            require(name in tensors, f"activity must be of the network's tensors, not of {shown(name)}")
            channels = tensors[name].shape[2]
            right = shares.dtype == np.float64 and shares.shape == (channels,)
            require(
                right and bool(((shares >= 0) & (shares <= 1)).all()),
                f"activity of {name} must be {channels} float64 in 0..1, not {shares.dtype} {shares.shape}",
            )


def save(path: Path, file: NetworkFile) -> None:
    """Write the file, whole or not at all."""
    arrays = {f"{_NETWORK}{name}": array for name, array in file.network.arrays()}
    arrays |= {f"{_ACTIVITY}{name}": shares for name, shares in file.activity.items()}
    container.write(path, MAGIC, _VERSION, {"network": file.network.to_dict(), "origin": file.origin}, arrays)


def load(path: Path) -> NetworkFile:
    """Read the file.

    Raises
    ------
    ValueError
        When it can't be read, is damaged, of another kind, incomplete, or contradicts itself.
    """
    manifest, arrays = container.read(path, MAGIC, _VERSION)
    try:
        require(manifest.keys() == {"network", "origin"}, f"manifest must hold network and origin, not {set(manifest)}")
        unknown = sorted(name for name in arrays if not name.startswith((_NETWORK, _ACTIVITY)))
        require(not unknown, f"arrays must be of network and activity, not {shown(unknown)}")
        parts = [
            {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            for prefix in (_NETWORK, _ACTIVITY)
        ]
        network = Network.from_dict(manifest["network"], parts[0])
        return NetworkFile(network=network, origin=manifest["origin"], activity=parts[1])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
