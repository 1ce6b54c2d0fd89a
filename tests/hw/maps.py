"""Random layers as the dispatcher sees them: a strided view of a map with its nonzero masks and its tables."""

from dataclasses import dataclass
from random import Random

from hw.config import MASK_CHANNELS

__all__ = ["View", "random_view"]

#: Where things lie in the address spaces of the tests.
ACTIVATIONS, MASKS = 8192, 256


@dataclass(frozen=True)
class View:
    """A layer's input.

    Attributes
    ----------
    source : dict
        Fields of :class:`hw.isa.Source`.
    rows, columns : list of dict
        Fields of :class:`hw.isa.Row` and :class:`hw.isa.Column`.
    masks : list of int
        The whole mask memory.
    """

    source: dict[str, int]
    rows: list[dict[str, int]]
    columns: list[dict[str, int]]
    masks: list[int]

    def words(self):
        """(row, column, base address, mask address) of every mask word, in order; column is -1 for a row's own item."""
        source = self.source
        for y in range(source["rows"]):
            yield y, -1, 0, 0
            for x in range(source["columns"]):
                base = source["base"] + y * source["row_pitch"] + x * source["column_pitch"]
                mask = source["mask_base"] + y * source["mask_row_pitch"] + x * source["mask_column_pitch"]
                for word in range(source["mask_words"]):
                    yield y, x, base + word * MASK_CHANNELS, mask + word

    def slots(self):
        """What each slot holds: None, ("job", activation, list, accumulator) or ("dump", accumulator)."""
        source = self.source
        step, wrap = source["accumulator_step"], source["accumulator_wrap"]
        leaving = 0
        for y, x, base, mask in self.words():
            row = self.rows[y]
            if x < 0:
                yield None
                continue
            column = self.columns[x]
            first = base - source["base"] - y * source["row_pitch"] - x * source["column_pitch"]
            bits = [bit for bit in range(MASK_CHANNELS) if self.masks[mask] >> bit & 1]
            if not bits:
                yield None
            for bit in bits:
                accumulator = row["accumulator"]
                for kernel_row in range(row["count"]):
                    number = row["list"] + kernel_row * source["list_step"] + column["list"] + first + bit
                    yield "job", base + bit, number, accumulator + column["accumulator"]
                    accumulator = (accumulator - step) % wrap
            if x == source["columns"] - 1 and first // MASK_CHANNELS == source["mask_words"] - 1:
                for _ in range(row["dumps"]):
                    yield "dump", leaving
                    leaving = (leaving + step) % wrap


def random_view(rng: Random, *, lists: int, accumulators: int) -> View:
    """A small map of up to 70 channels, seen with any strides; numbers of lists and accumulators stay in range."""
    channels = rng.choice((rng.randint(1, 31), 32, 33, rng.randint(34, 70)))
    words = -(-channels // MASK_CHANNELS)
    rows, columns = rng.randint(1, 4), rng.randint(1, 4)
    down, right = rng.randint(1, 2), rng.randint(1, 2)
    width = columns * right + rng.randrange(2)
    pitch = channels + rng.randrange(4)
    density = rng.choice((0.0, 0.1, 0.5, 1.0))
    live = rng.randint(1, 4)
    step = rng.randint(1, accumulators // live // 2)
    list_step = rng.randrange(channels, channels + 9)
    # Masks that aren't the view's own are full, so that one read in error is seen.
    masks = [(1 << MASK_CHANNELS) - 1] * MASKS
    mask_base = rng.randrange(MASKS - rows * down * width * words)
    for y in range(rows):
        for x in range(columns):
            for channel in range(words * MASK_CHANNELS):
                if channel >= channels or rng.random() >= density:
                    address = mask_base + (y * down * width + x * right) * words + channel // MASK_CHANNELS
                    masks[address] &= ~(1 << channel % MASK_CHANNELS)
    return View(
        source={
            "bank": 0,
            "base": rng.randrange(ACTIVATIONS - rows * down * width * pitch),
            "row_pitch": down * width * pitch,
            "column_pitch": right * pitch,
            "mask_base": mask_base,
            "mask_row_pitch": down * width * words,
            "mask_column_pitch": right * words,
            "mask_words": words,
            "rows": rows,
            "columns": columns,
            "row_table": rng.randrange(50),
            "column_table": rng.randrange(60, 100),
            "list_step": list_step,
            "accumulator_step": step,
            "accumulator_wrap": step * live,
        },
        rows=[
            {
                "list": rng.randrange(lists // 4),
                "accumulator": rng.randrange(live) * step,
                "count": rng.randint(1, 4),
                "dumps": rng.choice((0, 0, 1, 3)),
            }
            for _ in range(rows)
        ],
        columns=[
            {"list": rng.randrange(lists // 4), "accumulator": rng.randrange(accumulators // 2)} for _ in range(columns)
        ],
        masks=masks,
    )
