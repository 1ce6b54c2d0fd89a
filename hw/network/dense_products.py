"""Products of a whole network if nothing were zero, and those of them that its source has, too."""

import numpy as np

from hw.network.layers import multiply_accumulates
from hw.network.network import Conv2D, DepthwiseConv2D, Layer, Linear, Network

__all__ = ["final_products", "source_products"]


def final_products(network: Network) -> int:
    """Products of the network without early exits if nothing were zero."""
    return sum(map(multiply_accumulates, _final_layers(network)))


def source_products(network: Network) -> int:
    """The same without layers that only copy, rescale, put together or average, as importers add them."""
    return sum(multiply_accumulates(layer) for layer in _final_layers(network) if not _moves(layer))


def _final_layers(network: Network) -> list[Layer]:
    """Layers that the last exit is computed of."""
    needed, found = {network.exits[-1].logits}, list[Layer]()
    for layer in reversed(network.layers):
        if layer.name in needed:
            needed.update(layer.inputs)
            found.append(layer)
    return found


def _moves(layer: Layer) -> bool:
    """Whether each output is one input on some scale, or the mean of one channel."""
    if not isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
        return False
    rows = layer.weight.reshape(len(layer.weight), -1)
    one = np.count_nonzero(rows, axis=1) <= 1
    mean = (rows == rows[:, :1]).all(axis=1) & (layer.weight.shape[3] == 1)
    return bool(rows.shape[1] > 0 and (one | mean).all())
