"""What a layer with weights makes of every sum that can occur, and whether another way to round them makes the same.

Rounded sums rise in steps: two ways to round are the same where every step is at the same sum, however multipliers
differ in the last bits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hw.network.network import Conv2D, DepthwiseConv2D, Linear, Tensor
from hw.numerics import requantize

__all__ = ["Rounds", "SumSteps", "Weighted", "requantized"]

Weighted = Conv2D | DepthwiseConv2D | Linear
#: From sums (channels, n) to codes less the output's zero point.
Rounds = Callable[[np.ndarray], np.ndarray]

_INT32 = np.iinfo(np.int32)
_NEAR = 4  # sums beside the one that real arithmetic says


def requantized(layer: Weighted) -> Rounds:
    """How a layer rounds its sums."""
    multiplier, shift = (values[:, None].astype(np.int64) for values in (layer.multiplier, layer.shift))
    return lambda sums: requantize(sums, multiplier, shift, layer.rounding)


@dataclass(frozen=True, kw_only=True)
class SumSteps:
    """Where the codes of a layer with weights rise.

    Parameters
    ----------
    codes : int64 array (n,)
        All of the clamp but the lowest, less the output's zero point.
    sums : int64 array (channels, n)
        The least sum that becomes this code or more; where none does, one more than the largest sum.
    least, most : int64 array (channels, 1)
        Sums that can occur, biases included.
    """

    codes: np.ndarray
    sums: np.ndarray
    least: np.ndarray
    most: np.ndarray

    @classmethod
    def of(cls, layer: Weighted, source: Tensor, held: tuple[int, int]) -> "SumSteps":
        """The steps of a layer, not a raw one, that reads a map which holds codes from the one to the other."""
        weight = layer.weight.reshape(len(layer.weight), -1).astype(np.int64)
        ends, bias = [code - source.zero_point for code in held], layer.bias.astype(np.int64)
        least, most = (
            (limit(weight * ends[0], weight * ends[1]).sum(axis=1) + bias).clip(_INT32.min, _INT32.max)[:, None]
            for limit in (np.minimum, np.maximum)
        )
        codes = np.arange(layer.clamp[0] + 1, layer.clamp[1] + 1) - layer.output.zero_point
        rounds = requantized(layer)

        def reached(sums: np.ndarray) -> np.ndarray:
            return rounds(sums) >= codes

        factors = np.maximum(layer.multiplier, 1) * np.exp2(-31.0 - layer.shift)
        guess = ((codes - 0.5) / factors[:, None]).clip(least, most).astype(np.int64)
        low, high = (guess - _NEAR).clip(least, most + 1), (guess + _NEAR).clip(least, most + 1)
        low = np.where((low > least) & reached(low - 1), least, low)
        high = np.where((high <= most) & ~reached(high), most + 1, high)
        while (open_ := low < high).any():
            middle = (low + high) >> 1
            above = reached(middle)
            high = np.where(open_ & above, middle, high)
            low = np.where(open_ & ~above, middle + 1, low)
        return cls(codes=codes, sums=low, least=least, most=most)

    def part(self, channels: np.ndarray) -> "SumSteps":
        """Those of some channels."""
        return SumSteps(
            codes=self.codes, sums=self.sums[channels], least=self.least[channels], most=self.most[channels]
        )

    def same(self, rounds: Rounds) -> np.ndarray:
        """Whether another rounding, that rises as well, has the same steps: bool array (channels,)."""
        here = (self.sums > self.most) | (rounds(self.sums) >= self.codes)
        before = (self.sums <= self.least) | (rounds(self.sums - 1) < self.codes)
        return np.asarray((here & before).all(axis=1))
