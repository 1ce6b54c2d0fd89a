"""Before the passes: channels of one code whatever the input, whose products overflow, lose their weights."""

from dataclasses import replace

import numpy as np

from hw.config import AcceleratorConfig
from hw.network.base_layer import Layer
from hw.network.layers import Conv2D, DepthwiseConv2D, Linear, is_raw
from hw.network.network import Network
from hw.network.zero_points import code_ranges
from hw.numerics import BIASED_BITS, clamp, product_sums, requantize

__all__ = ["fold_constants"]

#: Biased accumulators of this magnitude and beyond have no code (:func:`hw.numerics.requantize`).
_MOST = 1 << BIASED_BITS - 1

_Foldable = Conv2D | DepthwiseConv2D | Linear


def fold_constants(network: Network, config: AcceleratorConfig) -> Network:
    """The same network, every tensor of it, without the weights of channels that are constant and don't fit.

    Quantizers leave such channels: a huge bias, or an output range of a single code. What fits a config's accumulators,
    which hold the products without the bias, stays as it is.
    """
    tensors, ranges = network.tensors(), code_ranges(network.layers)
    layers: list[Layer] = []
    for layer in network.layers:
        if isinstance(layer, _Foldable) and not is_raw(layer):
            name = layer.inputs[0]
            low, high = (code - tensors[name].zero_point for code in ranges[name])
            layers.append(_folded(layer, low, high, 1 << config.accumulator_bits - 1))
        else:
            layers.append(layer)
    if all(new is old for new, old in zip(layers, network.layers, strict=True)):
        return network
    return replace(network, layers=tuple(layers))


def _folded(layer: _Foldable, low: int, high: int, bound: int) -> _Foldable:
    """The layer for inputs of ``low`` to ``high``, with accumulators of ``-bound`` to ``bound - 1``."""
    lows, highs = product_sums(layer.weight.reshape(len(layer.weight), -1), low, high)
    bias = layer.bias.astype(np.int64)
    least, most = lows + bias, highs + bias
    overflows = (lows < -bound) | (highs >= bound)
    inside = (least >= -_MOST) & (most < _MOST)
    # What has a code without weights: the bias nearest to those that the channel can have.
    alone = np.clip(np.clip(bias, least, most), -_MOST, _MOST - 1)
    codes = [_codes(layer, np.where(inside, each, 0)) for each in (least, most, alone)]
    constant = overflows & inside & (codes[0] == codes[1]) & (codes[0] == codes[2])
    if not constant.any():
        return layer
    weight = np.where(constant[:, None, None, None], 0, layer.weight).astype(layer.weight.dtype)
    return replace(layer, weight=weight, bias=np.where(constant, alone, bias).astype(layer.bias.dtype))


def _codes(layer: _Foldable, accumulators: np.ndarray) -> np.ndarray:
    """Of a biased accumulator of every channel; they never fall when it rises."""
    scaled = requantize(accumulators, layer.multiplier.astype(np.int64), layer.shift.astype(np.int64), layer.rounding)
    codes: np.ndarray = clamp(scaled + layer.output.zero_point, *layer.clamp)
    return codes
