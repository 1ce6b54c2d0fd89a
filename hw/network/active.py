"""Which activations a layer multiplies: the one definition that golden model, simulator and statistics share."""

import numpy as np

from hw.network.layers import Layer, select_of, threshold_of
from hw.network.selection import winners

__all__ = ["active_mask"]


def active_mask(layer: Layer, activations: np.ndarray) -> np.ndarray:
    """Where a layer multiplies its input: bool array of the input's shape.

    Parameters
    ----------
    activations : integer array, (N, height, width, channels)
        ``q - zero_point``, -255..255, of the layer's first input.
    """
    magnitudes, select = np.abs(activations), select_of(layer)
    reach: np.ndarray = magnitudes >= threshold_of(layer)
    return reach if select is None else reach & winners(select, magnitudes)
