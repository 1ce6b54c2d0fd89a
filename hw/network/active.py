"""Which activations a layer multiplies: the one definition that golden model, simulator and statistics share."""

import numpy as np

from hw.network.base_layer import Layer
from hw.network.layers import select_of, threshold_of
from hw.network.selection import winners

__all__ = ["active_mask"]


def active_mask(layer: Layer, codes: np.ndarray, zero_point: int) -> np.ndarray:
    """Where a layer multiplies its input: bool array of the input's shape.

    Parameters
    ----------
    codes : integer array, (N, height, width, channels)
        ``q`` of the layer's first input, or its activations, -255..255, with a zero point of 0.
    zero_point : int
        The code that is stored as 0.
    """
    threshold, select = threshold_of(layer), select_of(layer)
    # Comparing codes spares a copy of the map.
    reach: np.ndarray
    if threshold > 1:
        reach = (codes >= zero_point + threshold) | (codes <= zero_point - threshold)
    else:
        reach = codes != zero_point
    return reach if select is None else reach & winners(select, np.abs(codes.astype(np.int16) - zero_point))
