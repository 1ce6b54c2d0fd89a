"""Which code of a map is stored as 0, and so takes no cycles."""

from collections.abc import Iterable

from hw.network.base_layer import Layer
from hw.network.network import INPUT, Network
from hw.network.pooling import AveragePool2D, GlobalAveragePool, MaxPool2D
from hw.numerics import clamp

__all__ = ["code_ranges", "storage_zero_points"]


def code_ranges(layers: Iterable[Layer]) -> dict[str, tuple[int, int]]:
    """Lowest and highest code that each tensor can hold, of a network's layers in execution order."""
    ranges = {INPUT: (-128, 127)}
    for layer in layers:
        low, high = layer.clamp
        if isinstance(layer, AveragePool2D | GlobalAveragePool | MaxPool2D):
            # A pool's codes lie between its input's.
            low, high = (int(clamp(code, low, high)) for code in ranges[layer.inputs[0]])
        ranges[layer.name] = low, high
    return ranges


def storage_zero_points(network: Network) -> dict[str, int]:
    """The storage zero point of each tensor: memories hold ``a = q - zero_point`` with this one.

    It is the code of the real zero, but for maps that only max pools read: accumulators that keep the largest product
    begin at 0, so no activation may be negative there, and the lowest code is the 0.
    """
    ranges = code_ranges(network.layers)
    found = {}
    for name, tensor in network.tensors().items():
        readers = [layer for layer in network.layers if name in layer.inputs]
        compared = bool(readers) and all(isinstance(layer, MaxPool2D) for layer in readers)
        found[name] = ranges[name][0] if compared else tensor.zero_point
    return found
