"""Element thresholds of an integer network: smaller activations are skipped, which saves products and issue slots.

A threshold belongs to the layer that multiplies, so two layers that read the same tensor may differ, and a residual
add still sees all of it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hw.network.network import Conv2D, DepthwiseConv2D, Layer, Linear, Network
from models.integer import golden

__all__ = ["element_thresholds_for", "with_element_thresholds"]

#: Magnitudes that an activation ``q - zero_point`` of int8 codes may have.
_MAGNITUDES = 256


def with_element_thresholds(network: Network, thresholds: Mapping[str, int]) -> Network:
    """The same network with other element thresholds.

    Parameters
    ----------
    thresholds : dict of str to int
        By layer, 1..255; 1 skips zeros only. Other layers keep theirs.

    Raises
    ------
    ValueError
        When there is no such layer, it has no weights, or a threshold is out of range; the message names the layer.
    """
    for name in thresholds:
        _weighted(network, name)
    layers = tuple(
        replace(layer, threshold=thresholds[layer.name])
        if isinstance(layer, Conv2D | DepthwiseConv2D | Linear) and layer.name in thresholds
        else layer
        for layer in network.layers
    )
    return replace(network, layers=layers)


def element_thresholds_for(network: Network, codes: np.ndarray, densities: Mapping[str, float]) -> dict[str, int]:
    """The smallest threshold of each layer with which it multiplies at most a given share of its input.

    Layers are taken in execution order, each with the thresholds before it in place: the densities hold for the network
    that :func:`with_element_thresholds` makes of the result, exactly on these images.

    Parameters
    ----------
    codes : int8 array, (N, height, width, channels)
        At least one image, as typical as the densities shall be.
    densities : dict of str to float
        Most activations that may be multiplied, by layer, as a share in 0..1 of its input tensor.

    Returns
    -------
    dict of str to int
        By layer, 1..255.

    Raises
    ------
    ValueError
        When there is no image or no such layer, a density is out of range, or more activations than that are as large
        as magnitudes get.
    """
    if len(codes) == 0:
        raise ValueError("thresholds need at least 1 image, not 0")
    for name, density in densities.items():
        _weighted(network, name)
        if not 0.0 <= density <= 1.0:
            raise ValueError(f"density of {name} must be in 0..1, not {density}")
    chosen: dict[str, int] = {}
    for name in (layer.name for layer in network.layers if layer.name in densities):
        source = network.layer(name).inputs[0]
        values = golden.run(with_element_thresholds(network, chosen), codes).tensors[source]
        chosen[name] = _smallest(name, values, network.tensors()[source].zero_point, densities[name])
    return chosen


def _weighted(network: Network, name: str) -> Layer:
    """A layer with weights."""
    layer = network.layer(name)
    if not isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
        raise ValueError(f"{name}: only a layer with weights has a threshold, not {layer.kind}")
    return layer


def _smallest(name: str, codes: np.ndarray, zero_point: int, density: float) -> int:
    """The smallest threshold that at most this share of the activations reaches."""
    magnitudes = np.abs(codes.astype(np.int16) - zero_point)
    counts = np.bincount(magnitudes.reshape(-1), minlength=_MAGNITUDES)
    reaching = counts[::-1].cumsum()[::-1]  # by threshold
    fitting = np.flatnonzero(reaching[1:] / magnitudes.size <= density)
    if not len(fitting):
        share = reaching[-1] / magnitudes.size
        raise ValueError(f"{name}: density must be at least {share:g}, the share of magnitudes of 255, not {density}")
    return 1 + int(fitting[0])
