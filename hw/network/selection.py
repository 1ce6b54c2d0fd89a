"""Which activations of its input a layer multiplies: winners by magnitude, chosen for each image, or fixed channels.

The largest elements of a map: Gong et al. 2020, "JPNet" (winner rates); the strongest channels: Yang et al. 2019,
"DASNet" (dynamic winners-take-all). Ties go to the lower index, so that the choice is unique.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.rules import integer, require

__all__ = ["KINDS", "Select", "winners"]

#: What can be selected.
KINDS = ("elements", "channels", "mask")


@dataclass(frozen=True, kw_only=True)
class Select:
    """A selection of a layer's input activations; for this layer, the others count as zero.

    Parameters
    ----------
    kind : str
        ``elements``: the ``count`` activations ``a = q - zero_point`` of the whole map with the largest ``|a|``, of
        equal ones those that come first in C order (row, column, channel).
        ``channels``: the ``count`` channels with the largest sum of ``|a|`` over all positions, of equal ones the first
        ones.
        ``mask``: always the same channels.
    count : int
        Winners: 1 to the activations or the channels of the map; 0 for a mask.
    channels : tuple of int
        Of a mask, in rising order, at least one; else empty.
    """

    kind: str
    count: int = 0
    channels: tuple[int, ...] = ()

    def check(self, name: str, shape: tuple[int, int, int]) -> None:
        """Refuse what is no selection of a map of this shape, naming the layer."""
        require(self.kind in KINDS, f"{name}: select must be of {', '.join(KINDS)}, not {self.kind!r}")
        if self.kind == "mask":
            require(
                integer(self.count) and self.count == 0, f"{name}: a mask has no count to select, not {self.count!r}"
            )
            require(
                isinstance(self.channels, tuple)
                and all(integer(channel) and 0 <= channel < shape[2] for channel in self.channels)
                and len(self.channels) > 0
                and list(self.channels) == sorted(set(self.channels)),
                f"{name}: the mask must name channels within 0..{shape[2] - 1} in rising order, not {self.channels!r}",
            )
            return
        most = shape[2] if self.kind == "channels" else int(np.prod(shape))
        require(
            integer(self.count) and 1 <= self.count <= most,
            f"{name}: the count of {self.kind} to select must be an integer in 1..{most}, not {self.count!r}",
        )
        require(self.channels == (), f"{name}: only a mask names channels, not {self.kind}: {self.channels!r}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; ``Select(**values)`` with a tuple of channels is the inverse."""
        return {"kind": self.kind, "count": self.count, "channels": list(self.channels)}


def winners(select: Select, magnitudes: np.ndarray) -> np.ndarray:
    """Where activations are selected.

    Parameters
    ----------
    magnitudes : int array, (N, height, width, channels)
        ``|a|``, 0..255.

    Returns
    -------
    bool array of the same shape
    """
    images, *_, depth = magnitudes.shape
    if select.kind == "elements":
        flat = magnitudes.reshape(images, int(np.prod(magnitudes.shape[1:])))
        # The smallest magnitude that wins, of which the first ones win only.
        least = np.partition(flat, -select.count, axis=1)[:, -select.count, None]
        above, equal = flat > least, flat == least
        left = select.count - above.sum(axis=1, keepdims=True)
        kept: np.ndarray = above | (equal & (equal.cumsum(axis=1) <= left))
        return kept.reshape(magnitudes.shape)
    chosen = np.zeros((images, depth), dtype=bool)
    if select.kind == "mask":
        chosen[:, list(select.channels)] = True
    else:
        scores = magnitudes.sum(axis=(1, 2), dtype=np.int64)
        np.put_along_axis(chosen, np.argsort(-scores, axis=1, kind="stable")[:, : select.count], True, axis=1)
    return np.broadcast_to(chosen[:, None, None, :], magnitudes.shape)
