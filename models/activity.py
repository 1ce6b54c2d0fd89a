"""How often the activations of an integer network aren't zero: what its work is balanced for."""

import numpy as np

from hw.network import Linear, Network
from models import golden

__all__ = ["activity"]


def activity(network: Network, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Share of nonzero activations by tensor and channel, logits left out: float64 arrays (channels,), in 0..1.

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
    logits = {layer.name for layer in network.layers if isinstance(layer, Linear) and layer.raw}
    tensors = network.tensors()
    return {
        name: (values != tensors[name].zero_point).mean(axis=(0, 1, 2))
        for name, values in golden.run(network, codes).tensors.items()
        if name not in logits
    }
