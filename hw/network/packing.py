"""Columns of the image side by side, as channels: fewer and fuller words, of the same codes in the same order.

::

    3 channels   r g b · · · · ·  r g b · · · · ·        a word of 8 channels for each column
    packed       r g b r g b · ·                          a word for every two

A map of (height, width, channels) is one of (height, width / n, n * channels) without a code being moved. A layer reads
it all the same where its stride is a multiple of n columns: its kernel's columns go to the channels, too.
"""

from dataclasses import replace
from math import gcd

import numpy as np

from hw.config import WORD_CHANNELS
from hw.network.base_layer import Layer
from hw.network.layers import Conv2D, Linear
from hw.network.network import INPUT, Network
from hw.rules import require

__all__ = ["most_packed", "pack_columns"]


def most_packed(network: Network) -> int:
    """Columns of the image that a word can hold, 1 where they must stay apart."""
    width, channels = network.input.shape[1:]
    together = width
    for layer in network.layers:
        if INPUT in layer.inputs:
            together = gcd(together, _stride(layer))
    fitting = (n for n in range(1, together + 1) if not together % n and n * channels <= WORD_CHANNELS)
    return max(fitting, default=1)


def _stride(layer: Layer) -> int:
    """The columns that a layer can read together are a divisor of this; 0 where all of a row can."""
    if isinstance(layer, Conv2D | Linear) and layer.select is None:
        return layer.stride[1] if isinstance(layer, Conv2D) else 0
    return 1


def pack_columns(network: Network, together: int) -> Network:
    """The same network on an image of which so many columns lie side by side.

    Every tensor has the same codes; that of the image has another shape.

    Raises
    ------
    ValueError
        When not so many can.
    """
    if together == 1:
        return network
    most, (height, width, channels) = most_packed(network), network.input.shape
    require(
        together >= 1 and most % together == 0,
        f"{network.name}: columns of its image that lie together must be a divisor of {most}, not {together}",
    )
    image = replace(network.input, shape=(height, width // together, channels * together))
    layers = tuple(
        _packed(layer, together, image.shape) if INPUT in layer.inputs else layer for layer in network.layers
    )
    return replace(network, input=image, layers=layers)


def _packed(layer: Layer, together: int, shape: tuple[int, int, int]) -> Layer:
    """A layer that reads the image of this shape."""
    assert isinstance(layer, Conv2D | Linear)
    if isinstance(layer, Linear):
        return replace(layer, weight=layer.weight.reshape(-1, *shape))
    outputs, rows, columns, _ = layer.weight.shape
    # Windows begin where columns begin that lie together, and end where they end: weights of 0 beside the kernel's.
    before = -layer.pads[2] % together
    after = -(before + columns) % together
    weight = np.pad(layer.weight, ((0, 0), (0, 0), (before, after), (0, 0)))
    weight = weight.reshape(outputs, rows, -1, shape[2])
    stride, left = layer.stride[1] // together, (layer.pads[2] + before) // together
    right = (layer.output.shape[1] - 1) * stride + weight.shape[2] - shape[1] - left
    return replace(
        layer,
        weight=weight,
        stride=(layer.stride[0], stride),
        pads=(*layer.pads[:2], left, max(0, right)),
    )
