"""What is done to the values of a user's images before they are quantized."""

from dataclasses import dataclass

import numpy as np

from hw.rules import require, shown

__all__ = ["Preprocessing"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What becomes of an image's values before they are quantized: ``(value * scale - mean) / deviation``, by channel.

    Parameters
    ----------
    scale : float
        255 where a network takes pixels as bytes are, of images that are in 0..1.
    mean, deviation : tuple of float
        One value, or one a channel.

    Raises
    ------
    ValueError
        When a number isn't finite, or a scale or deviation isn't positive.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name, values in (("scale", (self.scale,)), ("mean", self.mean), ("deviation", self.deviation)):
            right = bool(values) and all(np.isfinite(values)) and (name == "mean" or min(values) > 0)
            rule = "finite numbers" if name == "mean" else "finite positive numbers"
            require(right, f"{name} must be {rule}, not {shown(values)}")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Of images (N, height, width, channels), as float32.

        Raises
        ------
        ValueError
            When there are neither one nor as many values as channels.
        """
        channels = images.shape[-1]
        for name, values in (("mean", self.mean), ("deviation", self.deviation)):
            require(
                len(values) in (1, channels), f"{name} must have 1 or {channels} values, as channels, not {len(values)}"
            )
        return ((images * self.scale - np.array(self.mean)) / np.array(self.deviation)).astype(np.float32)
