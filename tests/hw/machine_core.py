"""A core of the accelerator in plain Python: memories, and one layer's work as its description says it.

It knows nothing of networks and refuses to touch anything that a program has no business with: memory nobody wrote,
accumulators outside the live rows, words beyond an image, words that another core still reads.
"""

from collections.abc import Iterable

import numpy as np

from hw.config import BANKS, WORD_CHANNELS, AcceleratorConfig
from hw.numerics import BIASED_BITS, AddScales, Rounding, Scale, add, clamp, requantize
from hw.program.instructions import CoreLayer, ResidualFields, SelectionFields, SourceFields, TargetFields, WindowFields
from hw.program.isa import SelectUse
from hw.program.list_memory import unpack_entries, unpack_pointers

__all__ = ["Core", "places"]

#: Stands in memories for "never written".
NOTHING = 1 << 20


def places(first: int, target: TargetFields, positions: int, words: int) -> np.ndarray:
    """Numbers of the words at some positions in the order of a walk: int array (positions, words)."""
    row, column = np.divmod(np.arange(positions), target.columns)
    return (first + row * target.row_pitch + column * target.column_pitch)[:, None] + np.arange(words)


class Core:
    """One core: its memories, and what it has read in the present layer.

    Parameters
    ----------
    number : int
    compiled : bool
        As for :class:`Machine`.
    """

    def __init__(self, images: dict[str, np.ndarray], config: AcceleratorConfig, number: int, *, compiled: bool):
        self._config = config
        self._compiled = compiled
        loaded = images["lists"][number * config.pes : (number + 1) * config.pes].astype(np.int64)
        self._lists = np.full((config.pes, config.list_words), NOTHING, dtype=np.int64)
        self._lists[:, : loaded.shape[1]] = loaded
        self._bias = images["bias"][number].astype(np.uint32).view(np.int32).astype(np.int64)
        self._multiplier, self._shift = (images[name][number].astype(np.int64) for name in ("multiplier", "shift"))
        self._activations = np.full((BANKS, config.activation_words, WORD_CHANNELS), NOTHING, dtype=np.int64)
        self._accumulators = np.zeros((config.pes, config.accumulators), dtype=np.int64)
        #: (bank, word) of everything read in this layer, with the numbers of the words it was the operand of.
        self._read: dict[tuple[int, int], set[int | None]] = {}
        self._window: WindowFields | None = None
        #: What the last selections have chosen: address and channel of activations, masks of channels.
        self.elements: set[tuple[int, int]] = set()
        self.masks: list[list[int]] = []

    def write(self, address: int, words: list[int]) -> None:
        """A row of list words comes, one for each PE."""
        self._lists[:, address] = words

    def begin(self) -> None:
        """Nothing has been read in this layer."""
        self._read = {}

    def open(self, window: WindowFields) -> None:
        """Keep the words of this window from now on."""
        self._window = window

    def take(self, maker: int | None, number: int, word: np.ndarray) -> None:
        """A word comes from the exchange; it is kept if it lies in the window.

        Parameters
        ----------
        maker : int or None
            This core's own word (its number), or another core's or the image's.
        """
        window = self._window
        offset = number - window.low
        if not 0 <= offset < window.count:
            return
        address = window.base + offset
        assert address < self._config.activation_words, "a word beyond the bank"
        readers = self._read.get((window.bank, address), set())
        assert readers <= {maker} - {None}, "a word over one that is still read"
        self._activations[window.bank, address] = word

    def layer(self, part: CoreLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Numbers, accumulators and values of the words made, and the products."""
        lane, residual, target = part.lane, part.residual, part.target
        stream, products = self._multiply(part)
        assert len(stream) == lane.outputs
        assert lane.channels % WORD_CHANNELS == 0
        accumulators = np.array(stream, dtype=np.int64).reshape(-1, lane.channels)
        first = lane.channel_base * WORD_CHANNELS
        channels = slice(first, first + lane.channels)
        biased = accumulators + self._bias[channels]
        self._check_width(biased, self._config.accumulator_bits if lane.raw else BIASED_BITS)
        if lane.raw:
            assert lane.slow or self._config.lanes == 1
            return np.arange(biased.size // WORD_CHANNELS), accumulators, biased, products
        assert lane.slow or not target.everywhere or self._config.cores * self._config.lanes <= WORD_CHANNELS
        assert target.words * WORD_CHANNELS == lane.channels
        numbers = places(target.first, target, len(biased), target.words).reshape(-1)
        rounding = Rounding.DOUBLE if lane.double else Rounding.SINGLE
        scaled = requantize(biased, self._multiplier[channels], self._shift[channels], rounding)
        codes = clamp(scaled + lane.offset, lane.clamp_low, lane.clamp_high)
        if residual.enable:
            assert lane.slow or self._config.fast_sums
            assert residual.bank != part.source.bank
            codes = self._add(codes - residual.zero_point, residual, target, numbers)
        return numbers, accumulators, codes - target.zero_point, products

    def _fetch(self, bank: int, address: int, reader: int | None) -> np.ndarray:
        """A word of the activation memory."""
        word = self._activations[bank, address]
        assert (word != NOTHING).all(), "a word that nobody wrote"
        self._read.setdefault((bank, address), set()).add(reader)
        return word

    def scan(self, selection: SelectionFields) -> list[tuple[tuple[int, int], int]]:
        """Place (number of the word, channel) and magnitude of everything in the core's slice of a selection."""
        found = []
        for start in range(selection.pitch):
            for n in range(selection.words):
                address = selection.base + start + n * selection.pitch
                number = address - selection.shift
                word = self._fetch(selection.bank, address, None)
                found += [((number, channel), abs(int(value))) for channel, value in enumerate(word)]
        return found

    def _selected(self, source: SourceFields, address: int, word: int) -> list[bool]:
        """Which channels of a word the layer's selection has chosen."""
        if source.select == SelectUse.ELEMENTS.value:
            return [(address, channel) in self.elements for channel in range(WORD_CHANNELS)]
        if source.select == SelectUse.CHANNELS.value:
            return [bool(bit) for bit in self.masks[source.first_mask + word]]
        return [True] * WORD_CHANNELS

    def _multiply(self, part: CoreLayer) -> tuple[list[int], int]:
        """The accumulators in the order in which they leave the PEs, and the number of products."""
        source = part.source
        step, dump_length, filled = source.accumulator_step, source.dump_length, len(part.rows) - source.blank_rows
        assert source.threshold >= 1
        stream: list[int] = []
        products = 0
        leaving = source.first_dump
        for y, row in enumerate(part.rows):
            for x, column in enumerate(part.columns):
                base = source.base + y * source.row_pitch + x * source.column_pitch
                words = source.words if y < filled else 0
                position = [self._fetch(source.bank, base + word, None) for word in range(words)]
                values = np.concatenate(position) if words else np.zeros(0, dtype=np.int64)
                chosen = [bit for word in range(words) for bit in self._selected(source, base + word, word)]
                for channel in np.flatnonzero((abs(values) >= source.threshold) & np.array(chosen, dtype=bool)):
                    place, pe = divmod(int(channel), self._config.pes)
                    number, pes = (place, [pe]) if source.depthwise else (channel, range(self._config.pes))
                    number += source.first_list + row.list + column.list
                    for k in range(row.count):
                        start = row.accumulator - k * step + column.accumulator
                        job = int(number + k * source.list_step), int(values[channel]), start
                        split = row.parts & column.parts, row.skip | column.skip
                        assert split[0] or not (row.parts or column.parts), "a position that meets no part of a list"
                        products += self._job(*job, pes, bool(source.max_pool), *split)
                for _ in range(column.dumps if row.final else 0):
                    places = (leaving + np.arange(dump_length)) % self._config.accumulators
                    stream += self._accumulators[:, places].T.reshape(-1).tolist()
                    self._accumulators[:, places] = 0
                    leaving += dump_length
        assert source.partial or not self._accumulators.any(), "an accumulator that no dump took"
        return stream, products

    def _parts(self, pe: int, number: int, parts: int) -> tuple[int, int]:
        """First entry and number of entries of some parts of a split list."""
        pointer, cuts = (int(self._lists[pe, 2 * number + n]) for n in range(2))
        assert NOTHING not in (pointer, cuts), "a list that nobody wrote"
        start, count = unpack_pointers(pointer, self._config)
        bits = self._config.start_bits // 2
        ends = [0, cuts % (1 << bits), cuts >> bits, count]
        assert ends == sorted(ends), "cuts that don't follow one another"
        met = [n for n in range(3) if parts >> n & 1]
        assert met == list(range(met[0], met[-1] + 1)), "parts that don't follow one another"
        return start + ends[met[0]], ends[met[-1] + 1] - ends[met[0]]

    def _job(self, number: int, value: int, base: int, pes: Iterable[int], maximum: bool, parts: int, skip: int) -> int:
        """One activation for one list of some PEs, or some parts of it; returns the products made."""
        products = 0
        for pe in pes:
            if parts:
                start, count = self._parts(pe, number, parts)
                words = self._lists[pe, start : start + count]
                assert len(words) == count, "a list beyond the memory"
                words = words[words >> 16 & skip == 0] & 0xFFFF
                products += self._products(pe, words, value, base, maximum)
                continue
            pointer = int(self._lists[pe, number])
            assert pointer != NOTHING, "a list that nobody wrote"
            start, count = unpack_pointers(pointer, self._config)
            words = self._lists[pe, start : start + count]
            assert len(words) == count, "a list beyond the memory"
            products += self._products(pe, words, value, base, maximum)
        return products

    def _products(self, pe: int, words: np.ndarray, value: int, base: int, maximum: bool) -> int:
        """Those of an activation with some entries; returns how many."""
        assert (words != NOTHING).all(), "a list beyond what was written"
        weights, offsets = unpack_entries(words)
        places = (base + offsets) % self._config.accumulators
        if self._compiled:
            assert weights.all(), "a stored weight of zero"
            assert len(set(places.tolist())) == len(words)
        if maximum:
            assert (weights == 1).all(), "a maximum of weighted values"
            assert not self._compiled or value >= 0, "a maximum of negative values"
            np.maximum.at(self._accumulators[pe], places, value)
        else:
            np.add.at(self._accumulators[pe], places, weights * value)
        self._check_width(self._accumulators[pe, places], self._config.accumulator_bits)
        return len(words)

    def _add(self, own: np.ndarray, residual: ResidualFields, target: TargetFields, numbers: np.ndarray) -> np.ndarray:
        """The sum with the second operand; ``numbers`` are those of the words the sums go to."""
        positions, channels = own.shape
        words = channels // WORD_CHANNELS
        read = places(residual.base, target, positions, words).reshape(-1)
        other = [
            self._fetch(residual.bank, int(place), int(number)) for place, number in zip(read, numbers, strict=True)
        ]
        names = ("first", "second", "output")
        scales = AddScales(*(Scale(getattr(residual, n).multiplier, getattr(residual, n).shift) for n in names))
        total = add(own, np.array(other).reshape(own.shape), scales) + residual.offset
        return clamp(total, residual.clamp_low, residual.clamp_high)

    def _check_width(self, values: np.ndarray, bits: int) -> None:
        bound = 1 << bits - 1
        assert not self._compiled or ((values >= -bound) & (values < bound)).all(), "an accumulator overflows"
