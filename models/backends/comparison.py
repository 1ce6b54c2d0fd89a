"""Whether two integer networks are the same but for the names of their layers."""

from dataclasses import replace

import numpy as np

from hw.network.layers import is_raw
from hw.network.network import INPUT, Add, Conv2D, DepthwiseConv2D, Layer, Linear, Network, Tensor
from hw.rules import require
from models.backends.file_scales import added
from models.backends.normal_form import normal_form
from models.backends.rounded_sums import SumSteps, Weighted, reached_codes, requantized

__all__ = ["compare"]

#: How far scales may be apart, which files hold in single precision.
_PRECISION = 2.0**-12


def compare(network: Network, again: Network) -> int:
    """Refuse a network that was read back and computes other codes than the one that was written, for any input.

    Names of layers, thresholds of exits and the last bits of scales may differ; so may multipliers, shifts and
    roundings that make the same codes of all sums.

    Returns
    -------
    int
        How many channels have other multipliers, shifts or roundings.

    Raises
    ------
    ValueError
        When something else differs; the message names the first layer.
    """
    first, second = normal_form(network), normal_form(again)
    require(
        _same_tensor(first.input, second.input), f"the image must be read back as {first.input}, not {second.input}"
    )
    named, left, changed = {INPUT: INPUT}, list(second.layers), 0
    for layer in first.layers:
        wanted = replace(layer, inputs=tuple(named[name] for name in layer.inputs))
        alike = next((each for each in left if _alike(wanted, each)), None)
        must = f"{layer.name}: {layer.kind} must be read back as it was written; please report the network"
        require(alike, must)
        assert alike is not None
        left.remove(alike)
        named[layer.name] = alike.name
        same = _same_codes((first, second), (layer, alike))
        require(same.all(), must)
        if isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
            assert isinstance(alike, Conv2D | DepthwiseConv2D | Linear)
            changed += 0 if is_raw(layer) else _changed(layer, alike)
    outputs = [named[head.logits] for head in first.exits] == [head.logits for head in second.exits]
    require(outputs and not left, f"{network.name}: what is read back must have the same outputs, and no more layers")
    return changed


def _same_tensor(first: Tensor, second: Tensor) -> bool:
    same = (first.shape, first.zero_point) == (second.shape, second.zero_point)
    return same and abs(second.scale / first.scale - 1) < _PRECISION


def _alike(first: Layer, second: Layer) -> bool:
    """Whether all is equal but names and how sums are rounded."""
    if type(first) is not type(second) or not _same_tensor(first.output, second.output):
        return False
    names = ("inputs", "clamp", "stride", "pads", "window", "raw", "threshold", "select")
    if any(getattr(first, name, None) != getattr(second, name, None) for name in names):
        return False
    if not isinstance(first, Conv2D | DepthwiseConv2D | Linear):
        return True
    assert isinstance(second, type(first))
    return np.array_equal(first.weight, second.weight) and np.array_equal(first.bias, second.bias)


def _changed(first: Weighted, second: Weighted) -> int:
    """How many channels are rescaled otherwise."""
    if first.rounding is not second.rounding:
        return len(first.bias)
    return int(((first.multiplier != second.multiplier) | (first.shift != second.shift)).sum())


def _same_codes(networks: tuple[Network, Network], layers: tuple[Layer, Layer]) -> np.ndarray:
    """Whether two layers that are alike make the same codes of all that they can read, for each channel or at all."""
    ranges, tensors = reached_codes(networks[0]), [network.tensors() for network in networks]
    first, second = layers
    held = [ranges[name] for name in first.inputs]
    if isinstance(first, Add):
        one, other = (
            added([found[name] for name in each.inputs], each.output, first, held)
            for each, found in zip(layers, tensors, strict=True)
        )
        return np.array(np.array_equal(one, other))
    if not isinstance(first, Conv2D | DepthwiseConv2D | Linear) or is_raw(first):
        return np.array(True)
    assert isinstance(second, Conv2D | DepthwiseConv2D | Linear)
    return SumSteps.of(first, tensors[0][first.inputs[0]], held[0]).same(requantized(second))
