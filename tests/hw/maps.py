"""Random layers as the dispatcher sees them: a strided view of a bank of words, with its tables."""

from dataclasses import dataclass
from random import Random

from hw.config import WORD_CHANNELS

__all__ = ["WORDS", "View", "pack", "random_view"]

#: Words of the tests' activation bank.
WORDS = 512


@dataclass(frozen=True)
class View:
    """A layer's input.

    Attributes
    ----------
    source : dict
        Fields of :class:`hw.isa.Source`.
    rows, columns : list of dict
        Fields of :class:`hw.isa.Row` and :class:`hw.isa.Column`.
    bank : list of tuple of 8 int
        The whole bank: activations, -255..255, by word and channel.
    """

    source: dict[str, int]
    rows: list[dict[str, int]]
    columns: list[dict[str, int]]
    bank: list[tuple[int, ...]]

    def words(self):
        """(row, column, word of the position, address) of every word, in order; column is -1 for a row's own item."""
        source = self.source
        for y in range(source["rows"]):
            yield y, -1, 0, 0
            for x in range(source["columns"]):
                base = source["base"] + y * source["row_pitch"] + x * source["column_pitch"]
                for word in range(source["words"]):
                    yield y, x, word, base + word

    def slots(self):
        """What each slot holds: None, ("job", activation, list, accumulator) or ("dump", accumulator)."""
        source = self.source
        step, wrap = source["accumulator_step"], source["accumulator_wrap"]
        leaving = 0
        for y, x, word, address in self.words():
            row = self.rows[y]
            if x < 0:
                yield None
                continue
            column = self.columns[x]
            if not any(self.bank[address]):
                yield None
            for channel, value in enumerate(self.bank[address]):
                if not value:
                    continue
                accumulator = row["accumulator"]
                for kernel_row in range(row["count"]):
                    number = row["list"] + kernel_row * source["list_step"] + column["list"]
                    number += word * WORD_CHANNELS + channel
                    yield "job", value, number, accumulator + column["accumulator"]
                    accumulator = (accumulator - step) % wrap
            if x == source["columns"] - 1 and word == source["words"] - 1:
                for _ in range(row["dumps"]):
                    yield "dump", leaving
                    leaving = (leaving + step) % wrap


def pack(word: tuple[int, ...]) -> int:
    """A word as the memories hold it: 9 bits a channel, two's complement, the first channel lowest."""
    return sum((value & 0x1FF) << 9 * channel for channel, value in enumerate(word))


def random_view(rng: Random, *, lists: int, accumulators: int) -> View:
    """A small map of 1 to 5 words a position, seen whole or in part, with any strides.

    Numbers of lists and accumulators stay in range.
    """
    words = rng.randint(1, 5)
    rows, columns = rng.randint(1, 4), rng.randint(1, 4)
    down, right = rng.randint(1, 2), rng.randint(1, 2)
    width = columns * right + rng.randrange(2)
    pitch = words + rng.randrange(3)
    density = rng.choice((0.0, 0.1, 0.5, 1.0))
    live = rng.randint(1, 4)
    step = rng.randint(1, accumulators // live // 2)
    base = rng.randrange(WORDS - rows * down * width * pitch)
    # Words that aren't the view's own are full, so that one read in error is seen.
    bank = [_word(rng, 1.0) for _ in range(WORDS)]
    for y in range(rows):
        for x in range(columns):
            for word in range(words):
                bank[base + (y * down * width + x * right) * pitch + word] = _word(rng, density)
    return View(
        source={
            "bank": 0,
            "base": base,
            "row_pitch": down * width * pitch,
            "column_pitch": right * pitch,
            "words": words,
            "rows": rows,
            "columns": columns,
            "row_table": rng.randrange(50),
            "column_table": rng.randrange(60, 100),
            "list_step": rng.randrange(words * WORD_CHANNELS, words * WORD_CHANNELS + 9),
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
        bank=bank,
    )


def _word(rng: Random, density: float) -> tuple[int, ...]:
    """Activations, each nonzero with this probability."""
    return tuple(
        rng.choice((-1, 1)) * rng.randint(1, 255) if rng.random() < density else 0 for _ in range(WORD_CHANNELS)
    )
