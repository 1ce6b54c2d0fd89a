"""What is known of the activation memories of all cores while a program is replayed without an image."""

from collections.abc import Sequence

import numpy as np

from hw.config import BANKS, WORD_CHANNELS, AcceleratorConfig
from hw.program.instructions import ResidualFields, SelectionFields, SourceFields, TargetFields, WindowFields
from hw.program.isa import NUMBERS
from hw.rules import require

__all__ = ["Memories", "walk_order"]

#: Marks of an address in :attr:`Memories._kept`; from 0 on, the operand of the core's own word with that ordinal.
_FREE, _READ = -1, -2
#: Mark of an address in :attr:`Memories._owner` without a word; else the number of the window it was written through.
_NOTHING = -1


def walk_order(first: int, target: TargetFields, positions: int, words: int) -> np.ndarray:
    """Words of some positions in the order of a walk: int array (positions, words); at least one column."""
    row, column = np.divmod(np.arange(positions), target.columns)
    starts = first + row * target.row_pitch + column * target.column_pitch
    addresses: np.ndarray = starts[:, None] + np.arange(words)
    return addresses


class Memories:
    """Which words are written, through which window, and which of their channels may be nonzero.

    A layer reads first (:meth:`read`, :meth:`operand`), then all its windows are opened (:meth:`open`), then its words
    go out (:meth:`deliver`). The methods raise ValueError, naming the instruction, when a program leaves the memories,
    reads what it has not written or writes over what is still read.
    """

    def __init__(self, config: AcceleratorConfig):
        self._sizes = config.bank_words
        shape = (config.cores, BANKS, max(self._sizes))
        self._owner = np.full(shape, _NOTHING, dtype=np.int64)
        self._active = np.zeros((*shape, WORD_CHANNELS), dtype=bool)
        self._kept = np.full(shape, _FREE, dtype=np.int64)
        self._given = np.zeros(shape, dtype=bool)
        self._windows: Sequence[WindowFields] = ()
        self._numbers: dict[WindowFields, int] = {}

    def read(self, where: str, core: int, source: SourceFields) -> np.ndarray:
        """Walk a map.

        Returns
        -------
        bool array (8 * words of a position,)
            Whether a channel may be nonzero at any position.
        """
        y, x = np.arange(source.rows - source.blank_rows)[:, None, None], np.arange(source.columns)[:, None]
        first = source.base + y * source.row_pitch + x * source.column_pitch
        addresses = first + np.arange(source.words)
        active = self._take(where, core, source.bank, addresses)
        self._kept[core, source.bank, addresses] = _READ
        channels: np.ndarray = active.any(axis=(0, 1)).reshape(-1)
        return channels

    def scan(self, where: str, core: int, selection: SelectionFields, starts: int) -> None:
        """Scan a slice of a map, from its first ``starts`` words on in turn."""
        first = selection.base + np.arange(starts)[:, None]
        self._take(where, core, selection.bank, first + np.arange(selection.words) * selection.pitch)

    def operand(
        self, where: str, core: int, residual: ResidualFields, target: TargetFields, positions: int, words: int
    ) -> np.ndarray:
        """Fetch the second operands of a core's words.

        Returns
        -------
        bool array (words, 8)
            Whether a channel may be nonzero at any position.
        """
        addresses = walk_order(residual.base, target, positions, words)
        active = self._take(where, core, residual.bank, addresses)
        kept = self._kept[core, residual.bank]
        unique, ordinals, counts = np.unique(addresses, return_index=True, return_counts=True)
        # The sum of an operand that is read once may be written over it: it's written after the operand has been read.
        kept[unique] = np.where((kept[unique] == _FREE) & (counts == 1), ordinals, _READ)
        maybe: np.ndarray = active.any(axis=0).reshape(words, WORD_CHANNELS)
        return maybe

    def open(self, where: str, windows: Sequence[WindowFields]) -> None:
        """Keep words through these windows, one a core, from now on.

        Words that were written there through another window are of another map, and forgotten.
        """
        self._windows = windows
        for core, window in enumerate(windows):
            size, end, last = self._sizes[window.bank], window.base + window.count, window.end
            require(end <= size, f"{where}: core {core}'s window reaches to {end}, beyond the {size} words of a bank")
            require(last <= NUMBERS, f"{where}: core {core}'s window reaches to word {last}, beyond {NUMBERS}")
            inside = self._owner[core, window.bank, window.base : end]
            inside[inside != self._number(window)] = _NOTHING

    def keeps(self, numbers: np.ndarray) -> list[int]:
        """The cores in whose windows some of these words of a map lie."""
        return [
            core
            for core, window in enumerate(self._windows)
            if ((numbers >= window.low) & (numbers < window.end)).any()
        ]

    def deliver(self, where: str, maker: int, everywhere: bool, numbers: np.ndarray, active: np.ndarray) -> None:
        """Send the words that a core makes to the windows of the cores it reaches.

        Parameters
        ----------
        maker : int
            The core.
        everywhere : bool
            Whether it reaches all cores; else only itself and the ones before and after it.
        numbers : int array (words,)
            In the order in which they are made.
        active : bool array (words, 8)
            Whether a channel may be nonzero.
        """
        lowest, highest = numbers.min(), numbers.max()
        for core, window in enumerate(self._windows):
            if window.end <= lowest or highest < window.low:
                continue
            ordinals = np.flatnonzero((numbers >= window.low) & (numbers < window.end))
            if not len(ordinals):
                continue
            require(
                everywhere or abs(core - maker) <= 1,
                f"{where}: core {core} keeps word {numbers[ordinals[0]]}, which core {maker} can't send it",
            )
            addresses = window.base + numbers[ordinals] - window.low
            if (given := self._given[core, window.bank, addresses]).any():
                word = numbers[ordinals][given][:1]
                raise ValueError(f"{where}: word {word} must not be written where core {core} gets the next image")
            kept = self._kept[core, window.bank, addresses]
            if (wrong := (kept != _FREE) & ((core != maker) | (kept != ordinals))).any():
                word = numbers[ordinals][wrong][:1]
                raise ValueError(f"{where}: word {word} must not be written over what core {core} reads")
            self._owner[core, window.bank, addresses] = self._number(window)
            self._active[core, window.bank, addresses] = active[ordinals]

    def give(self, windows: Sequence[WindowFields]) -> None:
        """From now on the next image may arrive in these windows, one a core: nothing else has any business there."""
        for core, window in enumerate(windows):
            self._given[core, window.bank, window.base : window.base + window.count] = True

    def end(self) -> None:
        """The layer is done: nothing is read any more."""
        self._kept[:] = _FREE

    def _number(self, window: WindowFields) -> int:
        return self._numbers.setdefault(window, len(self._numbers))

    def _take(self, where: str, core: int, bank: int, addresses: np.ndarray) -> np.ndarray:
        """Whether the channels of the words at some addresses may be nonzero: bool (*addresses, 8)."""
        last, size = addresses.max(initial=0), self._sizes[bank]
        require(last < size, f"{where}: word {last} is beyond the {size} words of a bank")
        require(
            not self._given[core, bank, addresses].any(),
            f"{where}: core {core} must not read where it gets the next image",
        )
        require(
            (self._owner[core, bank, addresses] != _NOTHING).all(),
            f"{where}: it reads words that nothing before it writes",
        )
        active: np.ndarray = self._active[core, bank, addresses]
        return active
