"""Files of trained and of compressed networks: no pickle, checksummed, with all that is needed to go on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hw import container
from hw.network.layers import is_raw
from hw.network.network import Network
from hw.rules import integer, require, shown
from hw.typed import checked
from models.datasets.splits import NAMES, SHAPES

if TYPE_CHECKING:
    from torch import nn

    from models.networks.architectures import AnyArchitecture

__all__ = [
    "DENSE",
    "MAGIC",
    "Checkpoint",
    "Compressed",
    "load",
    "load_compressed",
    "save",
    "save_compressed",
    "stage_of",
]

#: What files of trained and of compressed networks begin with.
MAGIC = b"OFFRCKPT"
#: What the name of the unpruned network ends with, after that of the data set.
DENSE = "-dense"
_VERSION = 3
_NETWORKS = ("network", "dense")
#: What files of either stage say.
_TRAINED = ("stage", "data", "seed", "metrics", "architecture")
_COMPRESSED = ("stage", "data", "seed", "metrics", "curve", *_NETWORKS)
#: What a curve is of, and the one metric that is no share.
_CURVE, _THRESHOLD = {"thresholds", "accuracy", "exit_share"}, "threshold"
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
    architecture : Architecture or another of models.networks.architectures
    state : dict of str to array
        Parameters and running statistics by name.
    metrics : dict of str to float
        Accuracies (0..1) by ``<split>_<exit>``.
    """

    data: str
    seed: int
    architecture: "AnyArchitecture"
    state: dict[str, np.ndarray] = field(repr=False)
    metrics: dict[str, float]

    @classmethod
    def of(cls, model: "nn.Module", *, data: str, seed: int, metrics: dict[str, float]) -> "Checkpoint":
        """A copy of the present state of a network that names its ``architecture``."""
        state = {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}
        architecture: Any = model.architecture
        return cls(data=data, seed=seed, architecture=architecture, state=state, metrics=metrics)

    def model(self) -> "nn.Module":
        """The network, in evaluation mode.

        Raises
        ------
        ValueError
            When the state isn't that of the architecture.
        """
        import torch

        from models.networks import architectures

        self.check()
        model = architectures.network(self.architecture)
        model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in self.state.items()})
        return model.eval()

    def check(self) -> None:
        """Refuse a state that isn't one of the architecture's.

        Raises
        ------
        ValueError
            Naming the first array that is missing, unknown, of another shape or type, or holds what can't be.
        """
        from models.networks import architectures

        expected = architectures.state_of(self.architecture)
        for name in sorted(expected.keys() | self.state.keys()):
            shape = tuple(expected[name].shape) if name in expected else None
            found = self.state[name].shape if name in self.state else None
            if found != shape:
                raise ValueError(f"checkpoint's {name} must have the shape {shape}, not {found}")
            values, wanted = self.state[name], str(expected[name].dtype).removeprefix("torch.")
            if values.dtype != wanted:
                raise ValueError(f"checkpoint's {name} must be {wanted}, not {values.dtype}")
            least = 0.0 if name.endswith("running_var") else -np.inf
            if not (np.isfinite(values) & (values >= least)).all():
                raise ValueError(f"checkpoint's {name} must be finite numbers{', 0 or more' if least == 0 else ''}")


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
        Thresholds, accuracy and exit share on validation data, see :class:`models.integer.exit_calibration.Curve`.
    activity, dense_activity : dict of str to float array (channels,)
        Share of nonzero activations of either network by tensor and channel, see
        :func:`models.integer.activity.activity`.
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
    from models.networks import architectures

    manifest = {
        "stage": "trained",
        "data": checkpoint.data,
        "seed": checkpoint.seed,
        "architecture": architectures.describe(checkpoint.architecture),
        "metrics": checkpoint.metrics,
    }
    container.write(path, MAGIC, _VERSION, manifest, checkpoint.state)


def load(path: Path) -> Checkpoint:
    """Read a trained network's file.

    Raises
    ------
    ValueError
        When it can't be read, is damaged, of another kind or stage, incomplete, or says what can't be.
    """
    from models.networks import architectures

    manifest, arrays = _read(path, "trained")
    with _named(path):
        _check_keys(manifest, _TRAINED)
        found = Checkpoint(
            **_common(manifest), architecture=architectures.from_dict(_take(manifest, "architecture")), state=arrays
        )
        _check_shape(found.data, found.architecture.shape, found.architecture.classes)
        found.check()
    return found


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
    container.write(path, MAGIC, _VERSION, manifest, arrays)


def load_compressed(path: Path) -> Compressed:
    """Read a compressed network's file.

    Raises
    ------
    ValueError
        When it can't be read, is damaged, of another kind or stage, or incomplete.
    """
    manifest, arrays = _read(path, "compressed")
    with _named(path):
        _check_keys(manifest, _COMPRESSED)
        unknown = sorted(name for name in arrays if name.partition(":")[0] not in (*_NETWORKS, *_ACTIVITIES))
        require(not unknown, f"arrays must be of {', '.join((*_NETWORKS, *_ACTIVITIES))}, not {shown(unknown)}")
        networks = {key: Network.from_dict(_take(manifest, key), _part(arrays, key)) for key in _NETWORKS}
        activities = {key: _part(arrays, key) for key in _ACTIVITIES}
        for key, network in zip(_ACTIVITIES, networks.values(), strict=True):
            _check_activity(key, activities[key], network)
        curve = _measured(manifest, "curve", dict[str, tuple[float, ...]])
        _check_curve(curve)
        common = _common(manifest)
        for network in networks.values():
            _check_shape(common["data"], network.input.shape, network.classes)
        return Compressed(
            **common,
            network=networks["network"],
            dense=networks["dense"],
            curve=curve,
            activity=activities["activity"],
            dense_activity=activities["dense_activity"],
        )


def stage_of(path: Path) -> str:
    """What a network's file is of: ``trained`` or ``compressed``.

    Raises
    ------
    ValueError
        When it can't be read, is damaged, or of neither.
    """
    stage = container.read(path, MAGIC, _VERSION)[0].get("stage")
    if stage not in ("trained", "compressed"):
        raise ValueError(f"{path}: stage must be trained or compressed, not {shown(stage)}")
    return str(stage)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong is wrong in this file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _common(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the files of all stages say."""
    data, seed = checked(_take(manifest, "data"), str, "data"), checked(_take(manifest, "seed"), int, "seed")
    require(data in NAMES, f"data must be one of {', '.join(NAMES)}, not {data!r}")
    require(seed >= 0, f"seed must not be negative, not {seed}")
    metrics = _measured(manifest, "metrics", dict[str, float])
    _check_metrics(metrics)
    return {"data": data, "seed": seed, "metrics": metrics}


def _measured(manifest: dict[str, Any], key: str, hint: Any) -> Any:
    """Numbers as they stand in a table; fractions are for people."""
    found = _take(manifest, key)
    checked(found, hint, key)
    for values in found.values():
        each = values if isinstance(values, list) else [values]
        require(not any(isinstance(value, str) for value in each), f"{key} must be numbers, not {shown(values)}")
    return found


def _check_metrics(metrics: dict[str, float]) -> None:
    """Shares, but for a threshold."""
    for name, value in metrics.items():
        if name == _THRESHOLD:
            require(integer(value) and value >= 0, f"metrics: {name} must be a whole number, 0 or more, not {value}")
        else:
            require(0 <= value <= 1, f"metrics: {shown(name)} must be in 0..1, not {value}")


def _check_curve(curve: dict[str, list[float]]) -> None:
    """Thresholds, and what each would give (:class:`models.integer.exit_calibration.Curve`); or nothing at all."""
    if not curve:
        return
    require(curve.keys() == _CURVE, f"curve must be of {', '.join(sorted(_CURVE))}, not {shown(sorted(curve))}")
    lengths = [len(values) for values in curve.values()]
    require(len(set(lengths)) == 1 and lengths[0], f"curve must be lists of equal lengths, 1 or more, not of {lengths}")
    thresholds = curve["thresholds"]
    rising = all(one < other for one, other in pairwise(thresholds))
    require(
        rising and thresholds[0] >= 0 and all(map(integer, thresholds)),
        f"curve: thresholds must be whole numbers, 0 or more, that rise, not {shown(thresholds)}",
    )
    for name in _CURVE - {"thresholds"}:
        wrong = [value for value in curve[name] if not 0 <= value <= 1]
        require(not wrong, f"curve: {name} must be in 0..1, not {shown(wrong)}")


def _check_keys(manifest: dict[str, Any], known: tuple[str, ...]) -> None:
    """All that a file of a stage says, and nothing else."""
    for key in known:
        _take(manifest, key)
    unknown = sorted(manifest.keys() - set(known))
    require(not unknown, f"the manifest must hold {', '.join(known)}, and not {shown(unknown)}")


def _check_shape(data: str, shape: tuple[int, int, int], classes: int) -> None:
    """A network takes the images of its data set, and tells its classes apart."""
    require(
        (shape, classes) == SHAPES[data],
        f"images and classes must be those of {data}, {SHAPES[data]}, not {(shape, classes)}",
    )


def _part(arrays: dict[str, np.ndarray], key: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{key}:"): array for name, array in arrays.items() if name.startswith(f"{key}:")}


def _check_activity(key: str, found: dict[str, np.ndarray], network: Network) -> None:
    """Shares of all tensors of the network but logits, one for each channel."""
    tensors = network.tensors()
    for name, shares in found.items():
        if name not in tensors:
            raise ValueError(f"{key} must be of the network's tensors, not of {name!r}")
        wanted = (tensors[name].shape[2],)
        if shares.dtype != np.float64 or shares.shape != wanted or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"{key} of {name} must be {wanted} float64 in 0..1")
    logits = {layer.name for layer in network.layers if is_raw(layer)}
    missing = [name for name in tensors if name not in logits and name not in found]
    require(not missing, f"{key} must be of all of the network's maps, and lacks {shown(missing)}")


def _read(path: Path, stage: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    manifest, arrays = container.read(path, MAGIC, _VERSION)
    if manifest.get("stage") != stage:
        raise ValueError(f"{path}: must be a {stage} network, not {shown(manifest.get('stage'))}")
    return manifest, arrays


def _take(manifest: dict[str, Any], key: str) -> Any:
    if key not in manifest:
        raise ValueError(f"the manifest must hold {key!r}")
    return manifest[key]
