"""How sure a share of so many images is."""

import math

__all__ = ["interval"]

#: Of 95 %.
_DEVIATIONS = 1.959964


def interval(share: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, 0..1, that was found on so many images."""
    square = _DEVIATIONS**2 / images
    middle = (share + square / 2) / (1 + square)
    reach = _DEVIATIONS / (1 + square) * math.sqrt(share * (1 - share) / images + square / images / 4)
    return max(0.0, middle - reach), min(1.0, middle + reach)
