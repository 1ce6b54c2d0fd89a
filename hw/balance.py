"""Renumbers the channels of a network so that the PEs get equal work. What the network computes stays the same.

Stored channel ``c`` belongs to PE ``c % pes``, so the order of a map's channels decides which PE does which filter's
work. Channels are dealt to the PEs greedily, the heaviest first, each to the PE with the least work so far that has
room (SparTen balances filters greedily as well: Gondimalla et al., MICRO 2019). Maps that an element-wise layer ties
together are renumbered alike. The image and the logits keep their order, and so do maps of which a layer selects the
largest activations or channels: of equal ones the order decides.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig
from hw.layers import Conv2D, DepthwiseConv2D, Layer, Linear
from hw.network import INPUT, Network

__all__ = ["Densities", "balance", "deal", "orders"]

#: Share of activations that are taken for nonzero where nothing is known.
_DENSITY = 0.5

#: Share of nonzero activations by tensor, of the whole tensor or of each of its channels.
Densities = Mapping[str, float | np.ndarray]


def deal(work: np.ndarray, pes: int) -> np.ndarray:
    """An order of channels, int64 (channels,), in which those at places ``p, p + pes, ...`` make equal work for all p.

    Parameters
    ----------
    work : float array, (channels,)
    pes : int
    """
    channels = len(work)
    room = [len(range(pe, channels, pes)) for pe in range(pes)]
    hands: list[list[int]] = [[] for _ in range(pes)]
    load = [0.0] * pes
    for channel in sorted(range(channels), key=lambda c: (-work[c], c)):
        pe = min((p for p in range(pes) if len(hands[p]) < room[p]), key=lambda p: (load[p], len(hands[p]), p))
        hands[pe].append(channel)
        load[pe] += float(work[channel])
    order = np.empty(channels, dtype=np.int64)
    for pe, hand in enumerate(hands):
        order[pe::pes] = [hand[rank] for rank in _paired(len(hand))]
    return order


def _paired(count: int) -> list[int]:
    """Ranks so that the heaviest and the lightest are neighbours: any half of the words makes about equal work."""
    ranks: list[int] = []
    for low in range((count + 1) // 2):
        ranks += [low] if low == count - 1 - low else [low, count - 1 - low]
    return ranks


def orders(network: Network, config: AcceleratorConfig, densities: Densities | None = None) -> dict[str, Any]:
    """For every tensor the order of its channels: ``new channel n`` is the old channel ``orders[tensor][n]``."""
    tied: dict[str, str] = {}

    def root(name: str) -> str:
        while tied.get(name, name) != name:
            name = tied[name]
        return name

    work: dict[str, np.ndarray] = {name: np.zeros(t.shape[2]) for name, t in network.tensors().items()}
    fixed = {INPUT}
    for layer in network.layers:
        if isinstance(layer, Linear) and layer.raw:
            fixed.add(layer.name)
        if not isinstance(layer, Conv2D | Linear):
            for source in layer.inputs:
                tied[root(source)] = root(layer.name)
        if isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
            if layer.select is not None and layer.select.kind != "mask":
                fixed.add(layer.inputs[0])
            height, width, _ = layer.output.shape
            density = np.asarray((densities or {}).get(layer.inputs[0], _DENSITY))
            used = np.count_nonzero(layer.weight, axis=(1, 2))  # (channels, input channels)
            active = density.reshape(-1, 1) if isinstance(layer, DepthwiseConv2D) and density.ndim else density
            work[layer.name] = (used * active).sum(axis=1) * (height * width)
    total: dict[str, np.ndarray] = {}
    for name, own in work.items():
        total[root(name)] = total.get(root(name), 0.0) + own
    kept = {root(name) for name in fixed}
    dealt = {
        name: np.arange(len(values)) if name in kept else deal(values, config.pes) for name, values in total.items()
    }
    return {name: dealt[root(name)] for name in work}


def _renumbered(layer: Layer, order: dict[str, np.ndarray]) -> Layer:
    if not isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
        return layer
    own, select = order[layer.name], layer.select
    if select is not None and select.kind == "mask":
        places = np.flatnonzero(np.isin(order[layer.inputs[0]], select.channels))
        select = replace(select, channels=tuple(places.tolist()))
    weight = layer.weight[own]
    if not isinstance(layer, DepthwiseConv2D):
        weight = weight[..., order[layer.inputs[0]]]
    return replace(
        layer,
        weight=np.ascontiguousarray(weight),
        bias=layer.bias[own],
        multiplier=layer.multiplier[own],
        shift=layer.shift[own],
        select=select,
    )


def balance(network: Network, config: AcceleratorConfig, densities: Densities | None = None) -> Network:
    """The same network with its channels in an order that suits the config.

    Parameters
    ----------
    densities : mapping of str to float or float array (channels,), optional
        Share of nonzero activations by tensor.
    """
    order = orders(network, config, densities)
    return replace(network, layers=tuple(_renumbered(layer, order) for layer in network.layers))
