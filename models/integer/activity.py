"""How often the activations of an integer network aren't zero: what its work is balanced for."""

import numpy as np

from hw.network.active import active_mask
from hw.network.layers import is_raw
from hw.network.network import Add, Network
from hw.network.zero_points import storage_zero_points
from models.integer import golden

__all__ = ["activity"]


def activity(network: Network, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Share of activations that are multiplied, by tensor and channel: float64 arrays (channels,), in 0..1.

    Those that the layer that reads the tensor selects and that reach its threshold, of several such layers on average;
    the nonzero ones if none does. Logits are left out.

    Parameters
    ----------
    codes : int8 array, (N, height, width, channels)
        At least one image.

    Raises
    ------
    ValueError
        When there is no image, or the images aren't what the network takes.
    """
    if len(codes) == 0:
        raise ValueError("activity needs at least 1 image, not 0")
    logits = {layer.name for layer in network.layers if is_raw(layer)}
    zero_points = storage_zero_points(network)
    found = {}
    for name, values in golden.run(network, codes).tensors.items():
        if name not in logits:
            readers = [layer for layer in network.layers if name in layer.inputs and not isinstance(layer, Add)]
            zero_point = zero_points[name]
            used = [active_mask(layer, values, zero_point) for layer in readers] or [values != zero_point]
            found[name] = np.mean([where.mean(axis=(0, 1, 2)) for where in used], axis=0)
    return found
