"""Files of trained and of compressed networks: no pickle, checksummed, with all that is needed to go on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hw import container
from hw.network import Network
from models import architectures
from models.architectures import AnyArchitecture

__all__ = ["Checkpoint", "Compressed", "load", "load_compressed", "save", "save_compressed"]

_MAGIC = b"OFFRCKPT"
_VERSION = 3
_ACTIVITIES = ("activity", "dense_activity")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained float network.

    Parameters
    ----------
    data : str
        Name of the data set.
    seed : int
        Of its split and of the training.
    architecture : Architecture or another of models.architectures
    state : dict of str to array
        Parameters and running statistics by name.
    metrics : dict of str to float
        Accuracies (0..1) by ``<split>_<exit>``.
    """

    data: str
    seed: int
    architecture: AnyArchitecture
    state: dict[str, np.ndarray] = field(repr=False)
    metrics: dict[str, float]

    @classmethod
    def of(cls, model: nn.Module, *, data: str, seed: int, metrics: dict[str, float]) -> "Checkpoint":
        """A copy of the present state of a network that names its ``architecture``."""
        state = {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}
        architecture: Any = model.architecture
        return cls(data=data, seed=seed, architecture=architecture, state=state, metrics=metrics)

    def model(self) -> nn.Module:
        """The network, in evaluation mode.

        Raises
        ------
        ValueError
            When the state isn't that of the architecture.
        """
        model = architectures.network(self.architecture)
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        for name in sorted(expected.keys() | self.state.keys()):
            found = self.state[name].shape if name in self.state else None
            if found != expected.get(name):
                raise ValueError(f"checkpoint's {name} must have the shape {expected.get(name)}, not {found}")
        model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in self.state.items()})
        return model.eval()


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """What compression delivers.

    Parameters
    ----------
    data : str
        Name of the data set.
    seed : int
    network : Network
        Pruned, int8, with calibrated exits.
    dense : Network
        Int8 without pruning and without early exits, for comparison.
    metrics : dict of str to float
        Accuracies, exit shares and densities, in 0..1; ``threshold``.
    curve : dict of str to list
        Thresholds, accuracy and exit share on validation data, see :class:`models.exits.Curve`.
    activity, dense_activity : dict of str to float array (channels,)
        Share of nonzero activations of either network by tensor and channel, see :func:`models.activity.activity`.
    """

    data: str
    seed: int
    network: Network
    dense: Network
    metrics: dict[str, float]
    curve: dict[str, list[float]] = field(repr=False)
    activity: dict[str, np.ndarray] = field(repr=False)
    dense_activity: dict[str, np.ndarray] = field(repr=False)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a trained network's file, whole or not at all."""
    manifest = {
        "stage": "trained",
        "data": checkpoint.data,
        "seed": checkpoint.seed,
        "architecture": architectures.describe(checkpoint.architecture),
        "metrics": checkpoint.metrics,
    }
    container.write(path, _MAGIC, _VERSION, manifest, checkpoint.state)


def load(path: Path) -> Checkpoint:
    """Read a trained network's file.

    Raises
    ------
    ValueError
        When it can't be read, is damaged, of another kind or stage, or incomplete.
    """
    manifest, arrays = _read(path, "trained")
    return Checkpoint(
        data=_take(path, manifest, "data"),
        seed=_take(path, manifest, "seed"),
        architecture=architectures.from_dict(_take(path, manifest, "architecture")),
        state=arrays,
        metrics=_take(path, manifest, "metrics"),
    )


def save_compressed(path: Path, compressed: Compressed) -> None:
    """Write a compressed network's file, whole or not at all."""
    networks = {"network": compressed.network, "dense": compressed.dense}
    manifest = {
        "stage": "compressed",
        "data": compressed.data,
        "seed": compressed.seed,
        "metrics": compressed.metrics,
        "curve": compressed.curve,
        **{key: network.to_dict() for key, network in networks.items()},
    }
    arrays = {f"{key}:{name}": array for key, network in networks.items() for name, array in network.arrays()}
    for key in _ACTIVITIES:
        arrays |= {f"{key}:{name}": shares for name, shares in getattr(compressed, key).items()}
    container.write(path, _MAGIC, _VERSION, manifest, arrays)


def load_compressed(path: Path) -> Compressed:
    """Read a compressed network's file.

    Raises
    ------
    ValueError
        When it can't be read, is damaged, of another kind or stage, or incomplete.
    """
    manifest, arrays = _read(path, "compressed")
    networks = {}
    for key in ("network", "dense"):
        networks[key] = Network.from_dict(_take(path, manifest, key), _part(arrays, key))
    activities = {key: _part(arrays, key) for key in _ACTIVITIES}
    for key, network in zip(_ACTIVITIES, networks.values(), strict=True):
        _check_activity(path, key, activities[key], network)
    return Compressed(
        data=_take(path, manifest, "data"),
        seed=_take(path, manifest, "seed"),
        metrics=_take(path, manifest, "metrics"),
        curve=_take(path, manifest, "curve"),
        network=networks["network"],
        dense=networks["dense"],
        activity=activities["activity"],
        dense_activity=activities["dense_activity"],
    )


def _part(arrays: dict[str, np.ndarray], key: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{key}:"): array for name, array in arrays.items() if name.startswith(f"{key}:")}


def _check_activity(path: Path, key: str, found: dict[str, np.ndarray], network: Network) -> None:
    """Shares of tensors of the network, one for each channel."""
    tensors = network.tensors()
    for name, shares in found.items():
        if name not in tensors:
            raise ValueError(f"{path}: {key} must be of the network's tensors, not of {name!r}")
        wanted = (tensors[name].shape[2],)
        if shares.dtype != np.float64 or shares.shape != wanted or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"{path}: {key} of {name} must be {wanted} float64 in 0..1")


def _read(path: Path, stage: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    manifest, arrays = container.read(path, _MAGIC, _VERSION)
    if manifest.get("stage") != stage:
        raise ValueError(f"{path}: must be a {stage} network, not {manifest.get('stage')!r}")
    return manifest, arrays


def _take(path: Path, manifest: dict[str, Any], key: str) -> Any:
    if key not in manifest:
        raise ValueError(f"{path}: the manifest must hold {key!r}")
    return manifest[key]
