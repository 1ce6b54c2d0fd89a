"""Where a network can have a further exit."""

from hw.network.layers import is_raw
from hw.network.network import Network
from hw.rules import require, shown

__all__ = ["branch_index"]


def branch_index(network: Network, after: str) -> int:
    """Position of the layer that a further exit's branch reads.

    Raises
    ------
    ValueError
        When there is no such layer, it makes logits or is the last, or it has an exit of its own.
    """
    names = [layer.name for layer in network.layers]
    inner = [layer.name for layer in network.layers[:-1] if not is_raw(layer)]
    require(after in inner, f"an exit must be after one of {', '.join(inner)}, not after {shown(after)}")
    require(f"{after}.exit" not in names, f"{after}: there is an exit after it already")
    return names.index(after)
