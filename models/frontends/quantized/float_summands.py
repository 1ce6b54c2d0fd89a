"""Codes for a summand that a program leaves in float, as X86InductorQuantizer leaves that of a convolution.

The accelerator adds codes. Which values of such a summand matter follows from the sum, which is rounded and clamped,
and from the other summand, which has been: what lies beyond makes the sum's lowest or highest code, whatever it is. So
the summand is rounded once more, to a 254th of that range, and the sum is off by half such a step at most.
"""

import math

from hw.network.network import Tensor
from models.frontends.quantized.lowering import CodeRequest, Quantization

__all__ = ["MOST_CODES", "codes_off", "summand_quantization"]

#: By which a code of a sum may differ where a summand is rounded once more.
MOST_CODES = 2

_LOWEST, _HIGHEST = -128, 127  # codes


def summand_quantization(request: CodeRequest, other: Tensor, clamp: tuple[int, int]) -> Quantization:
    """The finest scale that holds every value of a summand on which the sum depends, and 0.

    Parameters
    ----------
    request : CodeRequest
        What is asked of the sum.
    other : Tensor
        The other summand.
    clamp : tuple of 2 int
        Its lowest and its highest code.
    """
    of_sum = request.quantization
    lowest, highest = ((code - of_sum.zero_point) * of_sum.scale for code in request.clamp)
    least, most = ((code - other.zero_point) * other.scale for code in clamp)
    low, high = min(lowest - most, 0.0), max(highest - least, 0.0)
    scale = (high - low) / (_HIGHEST - _LOWEST - 1)  # one less than there is room for: the zero point is rounded
    return Quantization(scale=scale, zero_point=round(_LOWEST + 0.5 - low / scale), low=_LOWEST, high=_HIGHEST)


def codes_off(error: float, scale: float) -> int:
    """Codes on this scale by which values may differ that were so far apart before they were rounded."""
    return math.floor(error / scale) + 1
