"""Where a network can have a further exit."""

from hw.network.layers import Add, is_raw
from hw.network.network import Network
from hw.rules import require, shown

__all__ = ["branch_index"]


def branch_index(network: Network, after: str) -> int:
    """Position of the layer that a further exit's branch reads.

    Raises
    ------
    ValueError
        When there is no such layer, it makes logits or is the last, it has an exit of its own, or the addition
        that is fused with it follows: its map is nowhere without the residual.
    """
    names = [layer.name for layer in network.layers]
    following = dict(zip(names, network.layers[1:], strict=False))
    fused = {name: add.name for name, add in following.items() if isinstance(add, Add) and name in add.inputs}
    inner = [layer.name for layer in network.layers[:-1] if not is_raw(layer) and layer.name not in fused]
    require(
        after not in fused,
        f"{after}: an exit must not stand between a layer and the addition fused with it; nearest: {fused.get(after)}",
    )
    require(after in inner, f"an exit must be after one of {', '.join(inner)}, not after {shown(after)}")
    require(f"{after}.exit" not in names, f"{after}: there is an exit after it already")
    return names.index(after)
