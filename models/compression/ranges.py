"""How far the codes of a map reach: over all its values, or less far, with finer steps for those within.

``minmax`` takes the means of the smallest and the largest value of batches; ``percentile`` leaves out the outermost
values; ``mse`` takes the ends with which the codes' squared error is least (Wu et al. 2020, arXiv 2004.09602;
Choukroun et al. 2019, arXiv 1902.06822). The latter two read a histogram of all values.
"""

import math

import numpy as np
import torch

from models.compression.range_rules import Ranges

__all__ = ["TINIEST", "RangeObserver", "asymmetric"]

#: Scale of what is always zero.
TINIEST = 1e-12

_BINS = 2048  # of a histogram: eight for each code
_OUTSIDE = 1e-4  # share of the values that a percentile's range leaves out, half of them at each end
_SHARES = np.linspace(1, 0.25, 31)  # of the largest and of the smallest value, as ends to try


def asymmetric(low: float, high: float, finest: float = 0.0) -> tuple[float, int]:
    """Scale and zero point of int8 codes over a range that holds zero; a step is ``finest`` at least.

    The scale is of single precision, which files of others hold.
    """
    scale = float(np.float32(max((high - low) / 255, finest, TINIEST)))
    return scale, min(max(round(-128 - low / scale), -128), 127)


class RangeObserver:
    """What a map's values are, batch by batch.

    Parameters
    ----------
    name : str
        What an error calls the map.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.ends: list[tuple[float, float]] = []
        self.counts = np.zeros(_BINS, dtype=np.int64)

    def observe(self, values: torch.Tensor) -> None:
        """Note the smallest and the largest value of a batch; a range always holds zero.

        Raises
        ------
        ValueError
            When they are infinite or no numbers.
        """
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"{self.name}: activations must be finite, not NaN or infinite")
        self.ends.append((min(low, 0.0), max(high, 0.0)))

    def count(self, values: torch.Tensor) -> None:
        """Add a batch to the histogram; all batches must have been observed."""
        low, high = self._outermost()
        if low < high:
            self.counts += np.histogram(values.numpy(), bins=_BINS, range=(low, high))[0]

    def bounds(self, ranges: Ranges) -> tuple[float, float]:
        """Lowest and highest value of the codes."""
        if ranges == "minmax" or not self.counts.any():
            low, high = np.mean(self.ends, axis=0)
            return float(low), float(high)
        return self._percentile() if ranges == "percentile" else self._least_error()

    def _outermost(self) -> tuple[float, float]:
        return min(low for low, _ in self.ends), max(high for _, high in self.ends)

    def _percentile(self) -> tuple[float, float]:
        low, high = self._outermost()
        edges, below = np.linspace(low, high, _BINS + 1), np.cumsum(self.counts) / self.counts.sum()
        first, last = np.searchsorted(below, (_OUTSIDE / 2, 1 - _OUTSIDE / 2))
        return min(float(edges[first]), 0.0), max(float(edges[last + 1]), 0.0)

    def _least_error(self) -> tuple[float, float]:
        low, high = self._outermost()
        edges = np.linspace(low, high, _BINS + 1)
        values = (edges[1:] + edges[:-1]) / 2
        tried = {(low * down, high * up) for down in _SHARES for up in _SHARES}
        return min(sorted(tried), key=lambda ends: self._error(values, *ends))

    def _error(self, values: np.ndarray, low: float, high: float) -> float:
        """Squared error of the values as codes over a range."""
        scale, zero_point = asymmetric(low, high)
        codes = (np.rint(values / scale) + zero_point).clip(-128, 127)
        return float((self.counts * ((codes - zero_point) * scale - values) ** 2).sum())
