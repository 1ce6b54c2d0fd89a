"""What the golden model must compute, by loops and for the tests of it: images, layers, a network around a layer."""

import numpy as np

from hw.network.network import Conv2D, DepthwiseConv2D, Exit, Linear, Network, Tensor
from hw.numerics import Rounding, requantize


def images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape)).astype(np.int8)


def naive_convolution(codes: np.ndarray, zero_point: int, layer: Conv2D | DepthwiseConv2D) -> np.ndarray:
    """Accumulators in int64 by loops over kernel positions: the definition."""
    weight = layer.weight.astype(np.int64)
    if isinstance(layer, DepthwiseConv2D):  # every channel sees itself alone
        weight = weight * np.eye(len(weight), dtype=np.int64)[:, None, None]
    top, bottom, left, right = layer.pads
    values = codes.astype(np.int64) - zero_point
    values[abs(values) < layer.threshold] = 0
    values = np.pad(values, ((0, 0), (top, bottom), (left, right), (0, 0)))
    height, width, _ = layer.output.shape
    total = np.zeros((len(codes), *layer.output.shape), dtype=np.int64)
    for y in range(weight.shape[1]):
        for x in range(weight.shape[2]):
            rows = slice(y, y + (height - 1) * layer.stride[0] + 1, layer.stride[0])
            columns = slice(x, x + (width - 1) * layer.stride[1] + 1, layer.stride[1])
            total += values[:, rows, columns] @ weight[:, y, x].T
    return total + layer.bias


def codes_of(accumulators: np.ndarray, layer: Conv2D | Linear) -> np.ndarray:
    scaled = requantize(accumulators, layer.multiplier.astype(np.int64), layer.shift.astype(np.int64), layer.rounding)
    return (scaled + layer.output.zero_point).clip(*layer.clamp).astype(np.int8)


def head(source: str, shape: tuple[int, int, int], weight: np.ndarray | None = None, **fields) -> Linear:
    """A raw head of two classes that every network needs."""
    weight = np.ones((2, *shape), dtype=np.int8) if weight is None else weight
    zeros = np.zeros(len(weight), dtype=np.int32)
    values = {"bias": zeros, "multiplier": zeros, "shift": zeros, "rounding": Rounding.SINGLE, "raw": True}
    output = Tensor(shape=(1, 1, len(weight)), scale=0.1, zero_point=0)
    return Linear(**{"name": "head", "inputs": (source,), "output": output, "weight": weight, **values, **fields})


def ending(*layers, source: Tensor) -> Network:
    """A network of these layers and a head."""
    last = layers[-1]
    tail = head(last.name, last.output.shape)
    return Network(name="net", input=source, layers=(*layers, tail), exits=(Exit(logits="head"),), classes=2)
