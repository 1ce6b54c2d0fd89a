"""Renumbers the channels of a network so that the PEs get equal work. What the network computes stays the same.

Stored channel ``c`` belongs to PE ``c % pes``, so the order of a map's channels decides which PE does which filter's
work. Channels are dealt to the PEs greedily, the heaviest first, each to the PE with the least work so far that has
room (SparTen balances filters greedily as well: Gondimalla et al., MICRO 2019). Maps that an element-wise layer ties
together are renumbered alike; channels are then exchanged between PEs as long as that shortens the layers that make
them, each of which waits for its own busiest PE. The image and the logits keep their order, and so do maps of which a
layer selects the largest activations or channels: of equal ones the order decides.

Where a pool or a depthwise convolution reads a map, cores may share it by words of eight channels: words then get equal
numbers of nonzero activations.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig
from hw.network.base_layer import Layer
from hw.network.layers import Add, Conv2D, DepthwiseConv2D, Linear, is_raw
from hw.network.network import INPUT, Network

__all__ = ["Densities", "balance", "deal", "orders"]

#: Share of activations that are taken for nonzero where nothing is known.
_DENSITY = 0.5

#: Share of nonzero activations by tensor, of the whole tensor or of each of its channels.
Densities = Mapping[str, float | np.ndarray]


def deal(work: np.ndarray, pes: int, scanned: np.ndarray | None = None) -> np.ndarray:
    """An order of channels, int64 (channels,), in which those at places ``p, p + pes, ...`` make equal work for all p.

    Parameters
    ----------
    work : float array, (layers, channels)
        Of every layer that makes the channels.
    pes : int
    scanned : float array (channels,), optional
        What the words of ``pes`` channels shall have equal sums of, too. In any case half of the words, or a quarter,
        makes about equal work.
    """
    total = work.sum(axis=0)
    owner = _exchanged(work, _dealt(total, pes))
    scans = np.zeros(len(total)) if scanned is None else scanned
    order = np.empty(len(total), dtype=np.int64)
    sums = np.zeros(-(-len(total) // pes))
    for pe in range(pes):
        hand = np.flatnonzero(owner == pe)
        placed = _arranged(hand[np.argsort(-total[hand], kind="stable")], total, scans, sums[: len(hand)])
        sums[: len(hand)] += scans[placed]
        order[pe::pes] = placed
    return order


def _arranged(hand: np.ndarray, work: np.ndarray, scanned: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """The channels of a PE, falling by work, in an order of which halves, halves of halves and so on have equal work.

    Of two such halves, the one with more that is ``scanned`` goes to the words whose ``sums`` are less.
    """
    if len(hand) < 2:
        return hand
    dealt = hand[_paired(len(hand))]
    first, second = dealt[: len(hand) // 2], dealt[len(hand) // 2 :]
    while True:
        # Exchange the two channels that make the halves most alike.
        gap = work[first].sum() - work[second].sum()
        gaps = abs(gap - 2 * (work[first][:, None] - work[second]))
        one, other = np.unravel_index(int(gaps.argmin()), gaps.shape)
        if gaps[one, other] >= abs(gap) * (1 - 1e-9):
            break
        first[one], second[other] = second[other], first[one]
    middle = len(first)
    halves = [half[np.argsort(-work[half], kind="stable")] for half in (first, second)]
    more, less = scanned[first].sum() > scanned[second].sum(), sums[:middle].sum() > sums[middle:].sum()
    if len(first) == len(second) and more == less:
        halves.reverse()
    places = sums[:middle], sums[middle:]
    return np.concatenate([_arranged(half, work, scanned, some) for half, some in zip(halves, places, strict=True)])


def _dealt(work: np.ndarray, pes: int) -> np.ndarray:
    """A PE for each channel: int64 (channels,)."""
    channels = len(work)
    room = [len(range(pe, channels, pes)) for pe in range(pes)]
    load = [0.0] * pes
    owner = np.empty(channels, dtype=np.int64)
    for channel in sorted(range(channels), key=lambda c: (-work[c], c)):
        pe = min((p for p in range(pes) if room[p]), key=lambda p: (load[p], -room[p], p))
        owner[channel] = pe
        room[pe] -= 1
        load[pe] += float(work[channel])
    return owner


def _exchanged(work: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """The same, with channels exchanged between PEs as long as the layers' busiest PEs have less work in all."""
    pes = int(owner.max()) + 1
    load = np.stack([work[:, owner == pe].sum(axis=1) for pe in range(pes)], axis=1)  # (layers, PEs)
    owner = owner.copy()
    # Equal shares decide between exchanges that don't change the busiest.
    least, evenness = float(load.max(axis=1).sum()), 1e-3 / max(1.0, float(load.max()))
    least += evenness * float((load**2).sum())
    improved = True
    while improved:
        improved = False
        for channel in range(len(owner)):
            others = np.flatnonzero(owner != owner[channel])
            if not len(others):
                continue
            moved = work[:, others] - work[:, [channel]]  # to the channel's PE
            tried = np.repeat(load[None], len(others), axis=0)
            tried[:, :, owner[channel]] += moved.T
            tried[np.arange(len(others)), :, owner[others]] -= moved.T
            cost = tried.max(axis=2).sum(axis=1) + evenness * (tried**2).sum(axis=(1, 2))
            best = int(cost.argmin())
            if cost[best] < least * (1 - 1e-9):
                other = others[best]
                owner[[channel, other]] = owner[[other, channel]]
                load, least, improved = tried[best], float(cost[best]), True
    return owner


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

    tensors = network.tensors()
    work: dict[str, np.ndarray] = {}
    scanned: dict[str, np.ndarray] = {}
    fixed = {INPUT}
    for layer in network.layers:
        if is_raw(layer):
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
        if not isinstance(layer, Conv2D | Linear | Add):
            for source in layer.inputs:
                density = np.asarray((densities or {}).get(source, _DENSITY))
                scanned[root(source)] = np.broadcast_to(density, tensors[source].shape[2])
    kept = {root(name) for name in fixed}
    makers: dict[str, list[np.ndarray]] = {}
    for name, own in work.items():
        makers.setdefault(root(name), []).append(own)
    dealt = {}
    for name in {root(name): None for name in tensors}:
        channels = tensors[name].shape[2]
        own = np.array(makers.get(name, [np.zeros(channels)]))
        dealt[name] = np.arange(channels) if name in kept else deal(own, config.pes, scanned.get(name))
    return {name: dealt[root(name)] for name in tensors}


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
