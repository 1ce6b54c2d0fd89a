"""An integer network in a form for anybody: JSON and arrays, all scales as the integers that are computed with.

``docs/integer-network.md`` says what each field means and how each layer computes, as code that a test runs.
"""

from typing import Any

import numpy as np

from hw.network.layers import Add
from hw.network.network import Network
from hw.network.pooling import AveragePool2D, GlobalAveragePool
from hw.numerics import add_scales, average_scale

__all__ = ["FORMAT", "description"]

#: Version of the form: raised when something in it gets another name or meaning.
FORMAT = 1


def description(network: Network, origin: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the network's JSON holds, and its arrays by name, ``LAYER/FIELD``.

    Parameters
    ----------
    origin : str
        What the network was made of, in words.

    Raises
    ------
    ValueError
        When two arrays' names differ in case alone, for archives may mistake one for the other.
    """
    tensors, found = network.tensors(), network.to_dict()
    for layer, described in zip(network.layers, found["layers"], strict=True):
        described["input_zero_points"] = [tensors[name].zero_point for name in layer.inputs]
        if isinstance(layer, Add):
            first, second = (tensors[name].scale for name in layer.inputs)
            scales = add_scales(first, second, layer.output.scale)
            described["scales"] = {name: list(scale) for name, scale in scales._asdict().items()}
        if isinstance(layer, AveragePool2D | GlobalAveragePool):
            rows, columns = tensors[layer.inputs[0]].shape[:2]
            window = layer.window if isinstance(layer, AveragePool2D) else (rows, columns)
            described["window"] = list(window)
            described["scale"] = list(average_scale(window[0] * window[1]))
    arrays = dict(network.arrays())
    if len({name.lower() for name in arrays}) < len(arrays):
        raise ValueError(f"{network.name}: names of layers must differ by more than upper and lower case")
    return {"format": FORMAT, "origin": origin, **found}, arrays
