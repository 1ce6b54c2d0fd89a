"""Random layers as the dispatcher sees them: a strided view of a bank of words, with its tables."""

from dataclasses import dataclass
from random import Random

from hw.config import WORD_CHANNELS

__all__ = ["WORDS", "View", "pack", "random_view"]

#: Parts of a split list that a position may meet.
_PARTS = (0b001, 0b010, 0b100, 0b011, 0b110, 0b111)
#: Words of the tests' activation bank.
WORDS = 512


@dataclass(frozen=True)
class View:
    """A layer's input.

    Attributes
    ----------
    source : dict
        Fields of :class:`hw.program.isa.Source`.
    rows, columns : list of dict
        Fields of :class:`hw.program.isa.Row` and :class:`hw.program.isa.Column`.
    bank : list of tuple of 8 int
        The whole bank: activations, -255..255, by word and channel.
    accumulators : int
        Of a PE: their addresses wrap around.
    pes : int
    """

    source: dict[str, int]
    rows: list[dict[str, int]]
    columns: list[dict[str, int]]
    bank: list[tuple[int, ...]]
    accumulators: int
    pes: int

    def words(self):
        """(row, column, word of the position, address) of every word, in order.

        Column is -1 for a row's own item; address is None in a row below the map, where a position has one word.
        """
        source = self.source
        filled = source["rows"] - source["blank_rows"]
        for y in range(source["rows"]):
            yield y, -1, 0, None
            for x in range(source["columns"]):
                base = source["base"] + y * source["row_pitch"] + x * source["column_pitch"]
                for word in range(source["words"] if y < filled else 1):
                    yield y, x, word, base + word if y < filled else None

    def value(self, address: int | None) -> tuple[int, ...]:
        """Activations of a word: none in a row below the map."""
        return self.bank[address] if address is not None else (0,) * WORD_CHANNELS

    def handed_out(self, address: int | None) -> list[tuple[int, tuple[int | None, ...]]]:
        """What is handed out of a word: number of its list, counted from the word's first; activation for each PE.

        That is everything not below the threshold; of a depthwise layer group by group, and None for the others.
        """
        values = [value if abs(value) >= self.source["threshold"] else None for value in self.value(address)]
        groups = [tuple(values[n : n + self.pes]) for n in range(0, WORD_CHANNELS, self.pes)]
        if not self.source["depthwise"]:
            groups = [(value,) * self.pes for value in values]
        return [(n, group) for n, group in enumerate(groups) if any(value is not None for value in group)]

    def ends(self, y: int, word: int) -> bool:
        """Whether this is the last word of its position."""
        source = self.source
        return y >= source["rows"] - source["blank_rows"] or word == source["words"] - 1

    def slots(self):
        """What each slot holds: None, ("job", activation for each PE, list, accumulator, (parts, marks to skip))
        or ("dump", accumulator).
        """
        source = self.source
        lists = WORD_CHANNELS // (self.pes if source["depthwise"] else 1)
        leaving = source["first_dump"]
        for y, x, word, address in self.words():
            row = self.rows[y]
            if x < 0:
                yield None
                continue
            column = self.columns[x]
            if not self.handed_out(address):
                yield None
            for place, values in self.handed_out(address):
                for kernel_row in range(row["count"]):
                    number = source["first_list"] + row["list"] + kernel_row * source["list_step"] + column["list"]
                    number += word * lists + place
                    start = row["accumulator"] - kernel_row * source["accumulator_step"] + column["accumulator"]
                    split = row["parts"] & column["parts"], row["skip"] | column["skip"]
                    yield "job", values, number, start % self.accumulators, split
            if row["final"] and self.ends(y, word):
                for _ in range(column["dumps"]):
                    yield "dump", leaving
                    leaving = (leaving + source["dump_length"]) % self.accumulators


def pack(word: tuple[int, ...]) -> int:
    """A word as the memories hold it: 9 bits a channel, two's complement, the first channel lowest."""
    return sum((value & 0x1FF) << 9 * channel for channel, value in enumerate(word))


def random_view(
    rng: Random, *, lists: int, accumulators: int, pes: int, depthwise: bool = False, split: bool = False
) -> View:
    """A small map of 1 to 5 words a position, seen whole or in part, with any strides, and rows below it.

    Numbers of lists stay in range; sums of accumulator addresses don't.
    """
    words = rng.randint(1, 5)
    filled, columns = rng.randint(1, 4), rng.randint(1, 4)
    rows = filled + rng.choice((0, 0, 1, 3))
    down, right = rng.randint(1, 2), rng.randint(1, 2)
    width = columns * right + rng.randrange(2)
    pitch = words + rng.randrange(3)
    density = rng.choice((0.0, 0.1, 0.5, 1.0))
    base = rng.randrange(WORDS - filled * down * width * pitch)
    # Words that aren't the view's own are full, so that one read in error is seen.
    bank = [_word(rng, 1.0) for _ in range(WORDS)]
    for y in range(filled):
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
            "blank_rows": rows - filled,
            "columns": columns,
            "row_table": rng.randrange(50),
            "column_table": rng.randrange(60, 100),
            "first_list": rng.randrange(lists // 4),
            "first_dump": rng.randrange(accumulators),
            "list_step": rng.randrange(words * WORD_CHANNELS, words * WORD_CHANNELS + 9),
            "accumulator_step": rng.randrange(accumulators),
            "dump_length": rng.randint(1, accumulators - 1),
            "threshold": rng.choice((1, 1, 2, rng.randint(1, 255))),
            "max_pool": base % 2,  # nothing that the dispatcher looks at
            "depthwise": int(depthwise),
        },
        rows=[
            {
                "list": rng.randrange(lists // 4),
                "accumulator": rng.randrange(accumulators),
                # What a row below the map says of lists is of no influence.
                "count": rng.randint(int(y < filled), 4),
                "final": rng.choice((0, 1)),
                "parts": rng.choice(_PARTS) if split else 0,
                "skip": rng.randrange(4) if split else 0,
            }
            for y in range(rows)
        ],
        columns=[
            {
                "list": rng.randrange(lists // 4),
                "accumulator": rng.randrange(accumulators),
                "dumps": rng.choice((0, 0, 1, 3)),
                "parts": 0b111 if split else 0,
                "skip": rng.randrange(4) if split else 0,
            }
            for _ in range(columns)
        ],
        bank=bank,
        accumulators=accumulators,
        pes=pes,
    )


def _word(rng: Random, density: float) -> tuple[int, ...]:
    """Activations, each nonzero with this probability."""
    return tuple(
        rng.choice((-1, 1)) * rng.randint(1, 255) if rng.random() < density else 0 for _ in range(WORD_CHANNELS)
    )
