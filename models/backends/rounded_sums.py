"""What a layer with weights makes of every sum that can occur, and whether another way to round them makes the same.

Rounded sums rise in steps: two ways to round are the same where every step is at the same sum, however multipliers
differ in the last bits.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hw.network.layers import is_raw
from hw.network.network import (
    INPUT,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool2D,
    Network,
    Tensor,
)
from hw.numerics import clamp, requantize

__all__ = ["Rounds", "SumSteps", "Weighted", "reached", "reached_codes", "requantized"]

Weighted = Conv2D | DepthwiseConv2D | Linear
#: From sums (channels, n) to codes less the output's zero point.
Rounds = Callable[[np.ndarray], np.ndarray]

_INT32 = np.iinfo(np.int32)
_NEAR = 4  # sums beside the one that real arithmetic says


def requantized(layer: Weighted) -> Rounds:
    """How a layer rounds its sums."""
    multiplier, shift = (values[:, None].astype(np.int64) for values in (layer.multiplier, layer.shift))
    return lambda sums: requantize(sums, multiplier, shift, layer.rounding)


def reached_codes(network: Network) -> dict[str, tuple[int, int]]:
    """Lowest and highest code that sums allow each map of a network to hold."""
    tensors, found = network.tensors(), {INPUT: (-128, 127)}
    for layer in network.layers:
        found[layer.name] = reached(layer, tensors[layer.inputs[0]], found[layer.inputs[0]])
    return found


def reached(layer: Layer, source: Tensor, held: tuple[int, int]) -> tuple[int, int]:
    """The same of a layer's output, whose first input holds codes from the one to the other."""
    if isinstance(layer, Weighted) and not is_raw(layer):
        steps = _units(layer, source, held)
        ends = (requantized(layer)(steps.sums_of(sums)) + layer.output.zero_point for sums in (steps.least, steps.most))
        low, high = (extreme(codes) for extreme, codes in zip((np.min, np.max), ends, strict=True))
    elif isinstance(layer, AveragePool2D | GlobalAveragePool | MaxPool2D):
        low, high = held
    else:
        low, high = layer.clamp
    return int(clamp(int(low), *layer.clamp)), int(clamp(int(high), *layer.clamp))


@dataclass(frozen=True, kw_only=True)
class SumSteps:
    """Where the codes of a layer with weights rise, as its sums do in steps of their weights' common divisor.

    Parameters
    ----------
    codes : int64 array (n,)
        All of the clamp but the lowest, less the output's zero point.
    steps : int64 array (channels, n)
        The least number of steps with which the sum becomes this code or more; where none does, one more than the most.
    least, most : int64 array (channels, 1)
        Steps that can occur.
    unit, bias : int64 array (channels, 1)
        A step, and the sum at 0 of them.
    """

    codes: np.ndarray
    steps: np.ndarray
    least: np.ndarray
    most: np.ndarray
    unit: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, layer: Weighted, source: Tensor, held: tuple[int, int]) -> "SumSteps":
        """The steps of a layer, not a raw one, that reads a map which holds codes from the one to the other."""
        found, rounds = _units(layer, source, held), requantized(layer)
        codes, least, most = found.codes, found.least, found.most

        def above(steps: np.ndarray) -> np.ndarray:
            return np.asarray(rounds(found.sums_of(steps)) >= codes)

        factors = np.maximum(layer.multiplier, 1) * np.exp2(-31.0 - layer.shift)
        near = ((codes - 0.5) / factors[:, None] - found.bias) / found.unit
        guess = near.clip(least, most).astype(np.int64)
        low, high = (guess - _NEAR).clip(least, most + 1), (guess + _NEAR).clip(least, most + 1)
        low = np.where((low > least) & above(low - 1), least, low)
        high = np.where((high <= most) & ~above(high), most + 1, high)
        while (open_ := low < high).any():
            middle = (low + high) >> 1
            here = above(middle)
            high = np.where(open_ & here, middle, high)
            low = np.where(open_ & ~here, middle + 1, low)
        return replace(found, steps=low)

    def sums_of(self, steps: np.ndarray) -> np.ndarray:
        """Sums, biases included, of so many steps."""
        return (steps * self.unit + self.bias).clip(_INT32.min, _INT32.max)

    def part(self, channels: np.ndarray) -> "SumSteps":
        """Those of some channels."""
        chosen = {name: values[channels] for name, values in vars(self).items() if name != "codes"}
        return SumSteps(codes=self.codes, **chosen)

    def same(self, rounds: Rounds) -> np.ndarray:
        """Whether another rounding, that rises as well, has the same steps: bool array (channels,)."""
        here = (self.steps > self.most) | (rounds(self.sums_of(self.steps)) >= self.codes)
        before = (self.steps <= self.least) | (rounds(self.sums_of(self.steps - 1)) < self.codes)
        return np.asarray((here & before).all(axis=1))


def _units(layer: Weighted, source: Tensor, held: tuple[int, int]) -> SumSteps:
    """What sums can occur; where they rise isn't in it."""
    weight = layer.weight.reshape(len(layer.weight), -1).astype(np.int64)
    ends = [code - source.zero_point for code in held]
    if any(getattr(layer, "pads", ())):
        ends = [min(ends[0], 0), max(ends[1], 0)]
    unit = np.maximum(np.gcd.reduce(weight, axis=1), 1)[:, None]
    least, most = (
        extreme(weight * ends[0], weight * ends[1]).sum(axis=1)[:, None] // unit for extreme in (np.minimum, np.maximum)
    )
    codes = np.arange(layer.clamp[0] + 1, layer.clamp[1] + 1) - layer.output.zero_point
    bias = layer.bias.astype(np.int64)[:, None]
    return SumSteps(codes=codes, steps=np.empty((len(weight), 0)), least=least, most=most, unit=unit, bias=bias)
