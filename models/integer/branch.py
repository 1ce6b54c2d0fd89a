"""An early exit for a network that is finished: only the branch is trained, everything else stays as it is.

The branch reads a map of the integer network, averages it down to a small grid and decides by one linear layer (the
internal classifiers of Kaya, Hong, Dumitras 2019, "Shallow-Deep Networks", section 3.1, trained on frozen features as
in its section 5.1). Since the network's own layers don't change, neither do the classes of images that don't leave.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from hw.network.base_layer import Layer, Tensor
from hw.network.branches import branch_index
from hw.network.layers import Linear
from hw.network.network import Exit, Network
from hw.network.pooling import AveragePool2D, GlobalAveragePool
from hw.numerics import Rounding
from hw.rules import require
from models.integer import golden
from models.integer.exit_calibration import calibrate_each, with_exit_thresholds

__all__ = ["check_branch", "with_branch"]

#: Most inputs of the branch's linear layer where its grid is chosen for the user.
_MOST_INPUTS = 1024
#: Images whose maps are held at a time.
_BATCH = 256


def with_branch(
    network: Network,
    after: str,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    grid: int | None = None,
    exit_loss: float = 0.005,
) -> Network:
    """The network with one more early exit, behind a layer.

    Thresholds of all early exits are chosen anew on the validation images, together.

    Parameters
    ----------
    after : str
        Name of the layer whose map the branch reads.
    train, validation : tuple of int8 array (N, height, width, channels) and int64 array (N,)
        Images as codes, and labels.
    grid : int or None
        Rows and columns that the map is averaged down to; None: the most of 4, 2 and 1 that divide it and leave the
        linear layer no more than 1,024 inputs.
    exit_loss : float
        Accuracy on the validation images that all early exits together may cost, 0..1.

    Raises
    ------
    ValueError
        When there is no such layer or exit can't stand there, the grid doesn't divide the map, or labels aren't the
        network's classes.
    """
    layers, index = list(network.layers), branch_index(network, after)
    for _, labels in (train, validation):
        _check_labels(network, labels)
    pool = _pool(network, layers[index], grid)
    source = layers[index].output if pool is None else pool.output
    last = layers[index] if pool is None else pool
    maps = _maps(network, after, pool, train[0])
    head = _trained(f"{after}.exit", last.name, source, maps, train[1], network.classes)
    added = [*([pool] if pool else []), head]
    early = Exit(logits=head.name, threshold=0)
    order = [*layers[: index + 1], *added, *layers[index + 1 :]]
    names = [layer.name for layer in order]
    exits = sorted([early, *network.exits], key=lambda exit_: names.index(exit_.logits))
    found = replace(network, layers=tuple(order), exits=tuple(exits))
    heads = golden.run(found, validation[0], keep=False).logits
    return with_exit_thresholds(found, *calibrate_each(heads, validation[1], exit_loss))


def check_branch(network: Network, after: str, grid: int | None) -> None:
    """Refuse a layer behind which no exit can stand, or a grid that doesn't suit it, before anything is computed.

    Raises
    ------
    ValueError
        As of :func:`with_branch`.
    """
    _pool(network, network.layers[branch_index(network, after)], grid)


def _check_labels(network: Network, labels: np.ndarray) -> None:
    right = len(labels) > 0 and labels.min() >= 0 and labels.max() < network.classes
    require(right, f"labels must be classes of the network, 0..{network.classes - 1}, at least one")


def _pool(network: Network, layer: Layer, grid: int | None) -> Layer | None:
    """The average that brings a map down to the grid; None where it has that size already."""
    height, width, channels = layer.output.shape
    fits = [n for n in (4, 2, 1) if height % n == width % n == 0 and n * n * channels <= max(_MOST_INPUTS, channels)]
    chosen = grid or fits[0]
    require(
        height % chosen == width % chosen == 0,
        f"{layer.name}: a grid of {chosen} must divide its map of {height}x{width}",
    )
    window = (height // chosen, width // chosen)
    if window == (1, 1):
        return None
    output = Tensor(shape=(chosen, chosen, channels), scale=layer.output.scale, zero_point=layer.output.zero_point)
    common: dict[str, Any] = {"name": f"{layer.name}.average", "inputs": (layer.name,), "output": output}
    if chosen == 1:
        return GlobalAveragePool(**common)
    return AveragePool2D(**common, window=window, stride=window)


def _maps(network: Network, after: str, pool: Layer | None, codes: np.ndarray) -> np.ndarray:
    """Activations that the branch's linear layer reads: codes less zero point, (N, inputs)."""
    zero_point, parts = network.tensors()[after].zero_point, []
    for start in range(0, len(codes), _BATCH):
        found = golden.run(network, codes[start : start + _BATCH]).tensors[after]
        found = found if pool is None else golden.compute(network, pool, [found])
        parts.append(found.reshape(len(found), -1).astype(np.int16) - zero_point)
    return np.concatenate(parts)


def _trained(name: str, reads: str, source: Tensor, maps: np.ndarray, labels: np.ndarray, classes: int) -> Linear:
    """A linear layer that tells the classes apart by these activations: multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values = maps * np.float32(source.scale)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(values, labels)
    scaler, regression = model[0], model[1]
    weight, bias = np.zeros((classes, maps.shape[1])), np.full(classes, -1e3)
    kept = regression.classes_
    found, offset = regression.coef_ / scaler.scale_, regression.intercept_
    if len(kept) == 2 and len(found) == 1:  # of two classes it gives one row
        found, offset = np.concatenate([-found, found]) / 2, np.concatenate([-offset, offset]) / 2
    weight[kept], bias[kept] = found, offset - found @ scaler.mean_
    step = max(float(np.abs(weight).max()) / 127, 1e-9)
    scale = step * source.scale
    zeros = np.zeros(classes, dtype=np.int32)
    return Linear(
        name=name,
        inputs=(reads,),
        output=Tensor(shape=(1, 1, classes), scale=scale, zero_point=0),
        weight=np.rint(weight / step).astype(np.int8).reshape(classes, *source.shape),
        bias=np.rint(bias / scale).clip(-(1 << 24), 1 << 24).astype(np.int32),
        multiplier=zeros,
        shift=zeros,
        rounding=Rounding.SINGLE,
        raw=True,
    )
