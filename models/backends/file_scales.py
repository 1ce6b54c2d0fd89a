"""Scales of single precision with which a file says what an integer network computes.

A network has multipliers of 31 bits, a file scales of 24: of input, weights and output they make a multiplier.
Those of weights are free, one for each output channel, and so are the last bits of a map's, for all that reads it
follows. Of these the ones are searched with which all sums that can occur become the same codes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice, product

import numpy as np

from hw.network.layers import is_raw
from hw.network.network import INPUT, Add, Conv2D, DepthwiseConv2D, Layer, Linear, Network, Tensor
from hw.numerics import Rounding, add, add_scales, clamp, requantize
from models.backends.rounded_sums import Rounds, SumSteps, Weighted, reached_codes
from models.frontends.requantization import channel_scale
from models.frontends.tflite.rounding import real_rounded

__all__ = ["FileRounding", "FileScales", "added", "file_scales"]

#: Neighbours in their last places that are tried, on either side: of a scale of weights, and of a map's.
_WEIGHTS, _MAPS = 2, 400
#: Pairs of operands' scales that are tried for an add, and with each scales of its output.
_PAIRS, _SUMS = 200, 5
#: The least factor: with it every sum becomes 0, as with a multiplier of 0.
_LEAST = 2.0**-40


#: A layer's output in a file, its scales of weights, and the channels for which these don't say the same.
_Found = tuple[Tensor, np.ndarray, list[int]]


class FileRounding(StrEnum):
    """How a file's operator rounds a sum times a real factor."""

    #: By a multiplier and a shift, as :class:`hw.numerics.Rounding` says.
    DOUBLE = "double"
    SINGLE = "single"
    #: The product in double precision, half away from zero: LiteRT's FULLY_CONNECTED.
    REAL = "real"


@dataclass(frozen=True, kw_only=True)
class FileScales:
    """Scales of a file, all of single precision.

    Parameters
    ----------
    tensors : dict of str to Tensor
        The network's maps with their scales in the file; raw heads are as in the network.
    weights : dict of str to float32 array
        Of layers with weights, one for each output channel; of raw heads one.
    missed : dict of str to list of int
        By the layer's name, channels for which no scales say what it computes; of an add none are named.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    missed: dict[str, list[int]] = field(default_factory=dict)


def file_scales(network: Network, rounding_of: Callable[[Weighted], FileRounding]) -> FileScales:
    """The scales of a network's file.

    Parameters
    ----------
    network : Network
        In its normal form.
    rounding_of : function
        How the file's operator of a layer rounds.
    """
    search = _Search(network, rounding_of)
    for layer in network.layers:
        search.add(layer)
    return search.made


def added(operands: Sequence[Tensor], output: Tensor, layer: Add, held: Sequence[tuple[int, int]]) -> np.ndarray:
    """The codes of an add for all that its operands can hold, by their scales and its output's."""
    one, other = (
        np.arange(low - operand.zero_point, high - operand.zero_point + 1)
        for operand, (low, high) in zip(operands, held, strict=True)
    )
    sums = add(one[:, None], other, add_scales(operands[0].scale, operands[1].scale, output.scale))
    codes: np.ndarray = clamp(sums + output.zero_point, *layer.clamp)
    return codes


def _beside(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor with its scale in single precision, and then with those beside it."""
    first = np.float32(tensor.scale)
    for by in sorted(range(-_MAPS, _MAPS + 1), key=abs):
        yield replace(tensor, scale=float((first.view(np.int32) + np.int32(by)).view(np.float32)))


class _Search:
    """The scales so far; what a layer's scale is depends on those before it alone."""

    def __init__(self, network: Network, rounding_of: Callable[[Weighted], FileRounding]) -> None:
        self.network, self.rounding_of = network, rounding_of
        self.made, self.ranges = FileScales(), reached_codes(network)
        self.made.tensors[INPUT] = next(_beside(network.input))
        self._read: set[str] = set()

    def add(self, layer: Layer) -> None:
        """Choose a layer's scales."""
        tensors, output = self.made.tensors, layer.output
        if is_raw(layer):
            scale = output.scale / tensors[layer.inputs[0]].scale
            tensors[layer.name], self.made.weights[layer.name] = output, np.array([scale], dtype=np.float32)
        elif isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
            found = self._by_image(layer) or _best(self._weighted(layer))
            self._take(layer.name, found)
            if found[2]:
                self.made.missed[layer.name] = found[2]
        elif isinstance(layer, Add):
            found_output = self._sum(layer)
            if found_output is None:
                self.made.missed[layer.name] = []
            tensors[layer.name] = found_output or next(_beside(output))
        else:
            tensors[layer.name] = replace(output, scale=tensors[layer.inputs[0]].scale)
        self._read.update(layer.inputs)

    def _take(self, name: str, found: _Found) -> None:
        self.made.tensors[name], self.made.weights[name], _ = found

    def _weighted(self, layer: Weighted) -> Iterator[_Found]:
        """Outputs and scales of weights that may say what a layer computes; one where it rounds otherwise."""
        source, rounding = self.made.tensors[layer.inputs[0]], self.rounding_of(layer)
        steps = SumSteps.of(layer, source, self.ranges[layer.inputs[0]])
        hard = np.empty(0, dtype=np.int64)
        for output in _beside(layer.output):
            if hard.size and _scales(layer, source, output, steps, rounding, hard)[1]:
                continue
            scales, missed = _scales(layer, source, output, steps, rounding, np.arange(len(layer.weight)))
            yield output, scales, missed
            if (layer.rounding is Rounding.DOUBLE) != (rounding is FileRounding.DOUBLE):
                return
            hard = np.union1d(hard, missed).astype(np.int64)

    def _by_image(self, layer: Weighted) -> _Found | None:
        """Scales of what reads the image first, by another scale of the image, so that no map's need be another."""
        if layer.inputs[0] != INPUT or INPUT in self._read:
            return None
        steps = SumSteps.of(layer, self.network.input, self.ranges[INPUT])
        output, rounding = next(_beside(layer.output)), self.rounding_of(layer)
        hard = np.empty(0, dtype=np.int64)
        for image in _beside(self.network.input):
            if hard.size and _scales(layer, image, output, steps, rounding, hard)[1]:
                continue
            scales, missed = _scales(layer, image, output, steps, rounding, np.arange(len(layer.weight)))
            if not missed:
                self.made.tensors[INPUT] = image
                return output, scales, missed
            hard = np.union1d(hard, missed).astype(np.int64)
        return None

    def _sum(self, layer: Add) -> Tensor | None:
        """The output of an add, after another scale of its operands where theirs don't serve; None where none does."""
        operands = [self.network.tensors()[name] for name in layer.inputs]
        held = [self.ranges[name] for name in layer.inputs]
        wanted = added(operands, layer.output, layer, held)
        apart = operands[0].scale / operands[1].scale

        def output(sources: Sequence[Tensor]) -> Tensor | None:
            """The output with operands of these scales."""
            moved = layer.output.scale * sources[0].scale / operands[0].scale
            outputs = islice(_beside(replace(layer.output, scale=moved)), _SUMS)
            return next((o for o in outputs if np.array_equal(added(sources, o, layer, held), wanted)), None)

        if (found := output([self.made.tensors[name] for name in layer.inputs])) is not None:
            return found
        first, second = (self._possible(name) for name in layer.inputs)
        twice = layer.inputs[0] == layer.inputs[1]
        pairs = [(each, each) for each in first] if twice else list(product(first, second))
        pairs.sort(key=lambda pair: abs(pair[0][0].scale / pair[1][0].scale / apart - 1))
        for pair in pairs[:_PAIRS]:
            if (found := output([each[0] for each in pair])) is not None:
                for name, each in zip(layer.inputs, pair, strict=True):
                    self._take(name, each)
                return found
        return None

    def _possible(self, name: str) -> list[_Found]:
        """Scales of an operand with which its layer says the same, all of them where nothing has read it yet."""
        maker = next((layer for layer in self.network.layers if layer.name == name), None)
        if isinstance(maker, Conv2D | DepthwiseConv2D | Linear) and name not in self._read:
            return [found for found in self._weighted(maker) if not found[2]]
        return [(self.made.tensors[name], self.made.weights.get(name, np.empty(0, dtype=np.float32)), [])]


def _best(found: Iterator[_Found]) -> _Found:
    """The first that misses no channel, or one that misses the fewest."""
    best = next(found)
    for each in found:
        if not best[2]:
            break
        best = min(best, each, key=lambda one: len(one[2]))
    return best


def _scales(
    layer: Weighted, source: Tensor, output: Tensor, steps: SumSteps, rounding: FileRounding, channels: np.ndarray
) -> tuple[np.ndarray, list[int]]:
    """Scales of some channels' weights, and the channels for which none says the same."""
    factors = np.maximum(layer.multiplier * np.exp2(-31.0 - layer.shift), _LEAST)
    found = (factors * output.scale / source.scale).astype(np.float32)
    nearest, left = found.view(np.int32).copy(), channels
    for by in sorted(range(-_WEIGHTS, _WEIGHTS + 1), key=abs):
        tried = (nearest[left] + np.int32(by)).view(np.float32)
        rounds, below_one = _scaled(source.scale * tried.astype(np.float64) / output.scale, rounding)
        same = below_one & steps.part(left).same(rounds)
        found[left[same]], left = tried[same], left[~same]
        if not left.size:
            break
    return found, left.tolist()


def _scaled(factors: np.ndarray, rounding: FileRounding) -> tuple[Rounds, np.ndarray]:
    """What a file's operator makes of sums, and which factors leave its weights as they are."""
    made = [channel_scale(float(factor)) for factor in factors]
    below_one = np.array([power == 1 for power, _ in made])
    if rounding is FileRounding.REAL:
        return lambda sums: real_rounded(sums, factors[:, None]), below_one
    multiplier, shift = (np.array([scale[index] for _, scale in made])[:, None] for index in (0, 1))
    return lambda sums: requantize(sums, multiplier, shift, Rounding(rounding)), below_one
