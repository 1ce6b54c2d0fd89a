"""What each core makes of a command, a tile: bands of output rows times groups of output channels.

Core ``band * groups + group`` makes the output rows of its band, in the channel words of its group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hw.config import WORD_CHANNELS

__all__ = ["Tile", "divide", "slices", "tiles_of"]


@dataclass(frozen=True)
class Tile:
    """What a core makes in a command: output rows and channel words, the ones after the last not included."""

    core: int
    rows: tuple[int, int]
    words: tuple[int, int]

    def channels(self, channels: int) -> tuple[int, int]:
        """First channel and the one after the last, of a map of so many channels."""
        return self.words[0] * WORD_CHANNELS, min(self.words[1] * WORD_CHANNELS, channels)


def divide(first: int, last: int, count: int) -> list[tuple[int, int]]:
    """The range ``first`` to ``last`` (not included) as so many ranges whose sizes differ by at most 1."""
    edges = [first + number * (last - first) // count for number in range(count + 1)]
    return list(pairwise(edges))


def tiles_of(bands: Sequence[tuple[int, int]], words: tuple[int, int], groups: int) -> list[Tile]:
    """What each core with work makes of bands of output rows and of channel words, by number of the core."""
    return [
        Tile(band * groups + group, band_rows, group_words)
        for band, band_rows in enumerate(bands)
        for group, group_words in enumerate(divide(*words, groups))
    ]


def slices(rows: int, cores: int) -> list[tuple[int, int]]:
    """The rows of a map that each core scans in a selection: all rows, each once, in order."""
    return divide(0, rows, cores)
