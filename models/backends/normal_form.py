"""The form in which networks are written and compared: nothing but what computes, each layer of its simplest kind."""

from dataclasses import fields, replace

import numpy as np

from hw.network.layers import is_raw, select_of, threshold_of
from hw.network.network import (
    INPUT,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool,
    Layer,
    Linear,
    Network,
    Tensor,
)
from hw.numerics import clamp, quantize_scale, requantize
from models.backends.rounded_sums import reached

__all__ = ["normal_form", "opened"]


def normal_form(network: Network) -> Network:
    """A network that computes the same codes and logits, in the form that importers' own additions don't change.

    Layers that give codes on as they are, which the accelerator needs and no file has, are left out. A depthwise
    convolution of one channel is a convolution, a convolution whose kernel is its whole map a linear layer. Channels
    without weights have twice their code as bias, and a scale of one half. Bounds that no sum leaves are no clamp.
    """
    tensors, held = network.tensors(), {INPUT: (-128, 127)}
    heads = {head.logits for head in network.exits}
    stands_for = {INPUT: INPUT}
    layers = list[Layer]()
    for layer in network.layers:
        name = layer.inputs[0]
        source, codes = tensors[name], held[stands_for[name]]
        if layer.name not in heads and _gives_on(layer, source, codes):
            stands_for[layer.name] = stands_for[name]
            continue
        stands_for[layer.name] = layer.name
        moved = replace(layer, inputs=tuple(stands_for[each] for each in layer.inputs))
        held[layer.name] = reached(moved, source, codes)
        layers.append(opened(_constant(_simplest(moved, source.shape)), source, codes))
    return replace(network, layers=tuple(layers))


def _gives_on(layer: Layer, source: Tensor, codes: tuple[int, int]) -> bool:
    """Whether a layer's output is its input, whatever codes that holds."""
    if source != layer.output:
        return False
    if isinstance(layer, GlobalAveragePool):
        return layer.clamp[0] <= codes[0] and codes[1] <= layer.clamp[1]
    if threshold_of(layer) > 1 or select_of(layer) is not None:
        return False
    if not isinstance(layer, Conv2D | DepthwiseConv2D | Linear) or layer.weight.shape[1:3] != (1, 1):
        return False
    if not isinstance(layer, Linear) and (layer.stride != (1, 1) or any(layer.pads)):
        return False
    weight = layer.weight[:, 0, 0, :].astype(np.int64)
    gains = weight[:, 0] if isinstance(layer, DepthwiseConv2D) else np.diagonal(weight)
    if not isinstance(layer, DepthwiseConv2D) and np.count_nonzero(weight) > np.count_nonzero(gains):
        return False
    given = np.arange(codes[0], codes[1] + 1)
    sums = (given - source.zero_point)[:, None] * gains + layer.bias
    scales = layer.multiplier.astype(np.int64), layer.shift.astype(np.int64)
    made = clamp(requantize(sums, *scales, layer.rounding) + source.zero_point, *layer.clamp)
    return bool((made == given[:, None]).all())


def _simplest(layer: Layer, source: tuple[int, int, int]) -> Layer:
    """The same layer, of the simplest kind that computes it."""
    if isinstance(layer, DepthwiseConv2D) and source[2] == 1:
        layer = _as(Conv2D, layer)
    if isinstance(layer, Conv2D) and layer.weight.shape[1:3] == source[:2] and not any(layer.pads):
        layer = _as(Linear, layer)
    return layer


def _constant(layer: Layer) -> Layer:
    """The same layer, its channels without weights as importers make them."""
    if not isinstance(layer, Conv2D | DepthwiseConv2D | Linear) or is_raw(layer):
        return layer
    multiplier, shift, bias = (getattr(layer, name).astype(np.int64) for name in ("multiplier", "shift", "bias"))
    codes = clamp(requantize(bias, multiplier, shift, layer.rounding), -255, 255)
    half, dead = quantize_scale(0.5), ~layer.weight.any(axis=(1, 2, 3))
    pairs = {"bias": (2 * codes, bias), "multiplier": (half.multiplier, multiplier), "shift": (half.shift, shift)}
    return replace(layer, **{name: np.where(dead, *pair).astype(np.int32) for name, pair in pairs.items()})


def opened(layer: Layer, source: Tensor, held: tuple[int, int]) -> Layer:
    """The same layer, without the bounds of its clamp that none of its sums leaves."""
    if not isinstance(layer, Conv2D | DepthwiseConv2D | Linear) or is_raw(layer):
        return layer
    free = replace(layer, clamp=(-128, 127))
    bounds = zip((-128, 127), layer.clamp, reached(free, source, held), strict=True)
    low, high = (none if clamp(code, *layer.clamp) == code else bound for none, bound, code in bounds)
    return replace(layer, clamp=(low, high))


def _as(kind: type[Layer], layer: Layer) -> Layer:
    """A layer of another kind with the fields that both have."""
    return kind(**{each.name: getattr(layer, each.name) for each in fields(kind) if hasattr(layer, each.name)})
