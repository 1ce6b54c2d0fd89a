"""How a command is split over the cores: bands of output rows times groups of output channels.

Core ``band * groups + group`` makes the output rows of its band, in the channel words of its group. What a core reads
follows from what it makes, and that is what it keeps of every map: whole rows, from the first to the last that any of
its commands reads (its *window*).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hw.compiler.steps.step import Step
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.tiles import Tile, divide, tiles_of

__all__ = [
    "Partition",
    "Rows",
    "bands_of",
    "is_everywhere",
    "join",
    "most_bands",
    "most_tiles",
    "read_rows",
    "window_words",
]

#: First row and the one after the last; None where there are none.
Rows = tuple[int, int] | None


@dataclass(frozen=True)
class Partition:
    """How a step is split.

    Attributes
    ----------
    bands, groups : int
        Of each of its commands.
    commands : int
        Each makes some of the channels.
    merged : bool
        Whether the kernel rows that meet an input row stand in one list: an activation is handed out once, but more
        lists are kept.
    passes : int
        Each command is done in so many LAYERs, each for some of the input channels: fewer lists are needed at a time.
        All accumulators of a band are then in use from the first to the last.
    column_major : bool
        Whether a core walks its band column by column instead of row by row: the first outputs of a narrow band are
        final after a few positions then, and the lanes have work from there on.
    split : bool
        Whether one list of an input channel, or with a stride one for each residue, serves all kernel rows and columns
        (:mod:`hw.compiler.steps.split`); each takes two words of pointers. It is ``merged``, too.
    """

    bands: int
    groups: int
    commands: int = 1
    merged: bool = False
    passes: int = 1
    column_major: bool = False
    split: bool = False


def bands_of(step: Step, bands: int) -> list[tuple[int, int]]:
    """The output rows that each band of a step makes."""
    return divide(0, step.result.output.shape[0], bands) if step.strip is None else list(step.strip.rows)


def join(rows: Iterable[Rows]) -> Rows:
    """From the first row of any range to the last of any."""
    ranges = [r for r in rows if r is not None]
    return (min(first for first, _ in ranges), max(last for _, last in ranges)) if ranges else None


def most_bands(step: Step, cores: int) -> int:
    """The most bands in which so many cores can make a step."""
    if step.strip is not None:
        return len(step.strip.rows)
    return 1 if step.raw else min(cores, 1 << step.result.output.shape[0].bit_length() - 1)


def read_rows(step: Step, name: str, tiles: Iterable[Tile], cores: int) -> list[Rows]:
    """Rows of a map that each core reads to make its tile of a step."""
    found: list[Rows] = [None] * cores
    for tile in tiles:
        multiplied = step.kernel.reads(*tile.rows) if step.reads == name else None
        found[tile.core] = join([multiplied, tile.rows if step.residual == name else None])
    return found


def most_tiles(step: Step, cores: int) -> list[Tile]:
    """The tiles of a step in as many bands as possible, whatever their channels."""
    return tiles_of(bands_of(step, most_bands(step, cores)), (0, 1), 1)


def window_words(windows: Iterable[Rows], shape: tuple[int, int, int], config: AcceleratorConfig) -> int:
    """Words of the largest window of a map."""
    rows = max((last - first for first, last in filter(None, windows)), default=0)
    return rows * shape[1] * (config.padded_channels(shape[2]) // WORD_CHANNELS)


def is_everywhere(tiles: Sequence[Tile], windows: Sequence[Rows], config: AcceleratorConfig) -> bool:
    """Whether words must go to all cores: with few cores always, else if one that isn't next to the maker keeps some.

    Parameters
    ----------
    tiles : sequence of Tile
        Who makes what.
    windows : sequence of rows
        What each core keeps.
    """
    if not config.neighbour_exchange:
        return True
    return any(
        abs(tile.core - core) > 1 and rows is not None and tile.rows[0] < rows[1] and rows[0] < tile.rows[1]
        for tile in tiles
        for core, rows in enumerate(windows)
    )
