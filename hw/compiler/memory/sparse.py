"""The sparse weight format: per PE and list, the nonzero weights and where their products go.

A *list* belongs to one input channel, one kernel row and one class of input columns; in a depthwise layer, where a
channel has products in one PE only, to as many neighbouring channels as there are PEs. In the list memory of each PE it
is a pointer (start, count) and ``count`` consecutive entries (weight, accumulator offset); the pointers of all lists
come first, so a list's number is its pointer's address. A PE whose list is empty holds a pointer with count 0.
"""

from collections.abc import Sequence

import numpy as np

from hw.config import AcceleratorConfig
from hw.program.list_memory import pack_cuts, pack_entries, pack_pointers
from hw.rules import ShortageError

__all__ = ["ListStore", "entry_text", "pack_all"]

#: One character a word: words have 18 bits, characters 20 and more.
_CODEC = ("utf-32-le", "surrogatepass")


class ListStore:
    """Collects the lists of a core and packs them into the memory images of its PEs."""

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._lists: list[list[str]] = []
        #: Words behind pointers, by their address.
        self._cuts: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._lists)

    def align(self, words: int) -> None:
        """Add empty lists until the next pointer's address is a multiple of ``words``."""
        while len(self._lists) % words:
            self._lists.append([""] * self._config.pes)

    def append_split(self, entries: Sequence[np.ndarray], cuts: np.ndarray, name: str) -> None:
        """Add the next list as a split one: its pointer gets an even address, and its cuts stand behind it.

        Parameters
        ----------
        cuts : int array (PEs, 2)
            Entries before the second and before the third part.

        Raises
        ------
        ValueError
            When a PE's list is longer than a pointer can say.
        """
        self.align(2)
        self.append(entries, name)
        self._cuts[len(self._lists)] = pack_cuts(cuts[:, 0], cuts[:, 1], self._config)
        self.align(2)

    def append(self, entries: Sequence[np.ndarray], name: str) -> None:
        """Add the next list.

        Parameters
        ----------
        entries : sequence of int arrays (n, 2), one per PE
            Columns weight (-128..127, not 0) and accumulator offset.
        name : str
            Layer, for the message of an error.

        Raises
        ------
        ValueError
            When a PE's list is longer than a pointer can say.
        """
        longest = max(len(part) for part in entries)
        if longest > self._config.max_list:
            raise ValueError(
                f"{name}: a weight list has {longest} entries, {longest - self._config.max_list} more than "
                f"the {self._config.max_list} that a pointer of this config can count"
            )
        self._lists.append([entry_text(part[:, 0], part[:, 1]) for part in entries])

    def pack(self) -> list[np.ndarray]:
        """Words of each PE's memory: uint32 arrays, pointers first.

        Entries that stand somewhere already aren't stored again: the lists of columns at the edges of a map are parts
        of those of the columns between.
        """
        return [self._pack_pe(pe) for pe in range(self._config.pes)]

    def _pack_pe(self, pe: int) -> np.ndarray:
        """Pointers and entries of one PE."""
        count = len(self._lists)
        starts, counts = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        entries, placed = "", {}
        for number in sorted(range(count), key=lambda number: -len(self._lists[number][pe])):
            part = self._lists[number][pe]
            if not part:
                break
            if part not in placed:
                place = entries.find(part)
                if place < 0:
                    place = len(entries)
                    entries += part
                placed[part] = place
            starts[number], counts[number] = count + placed[part], len(part)
        pointers = pack_pointers(starts, counts, self._config)
        for address, cuts in self._cuts.items():
            pointers[address] = cuts[pe]
        return np.concatenate([pointers, np.frombuffer(entries.encode(*_CODEC), dtype="<u4").astype(np.uint32)])


def entry_text(weights: np.ndarray, offsets: np.ndarray) -> str:
    """The words of some entries as a text of as many characters: what is found fastest in another.

    Parameters
    ----------
    weights, offsets : int arrays (entries,)
    """
    return pack_entries(weights, offsets).astype("<u4").tobytes().decode(*_CODEC)


def pack_all(stores: Sequence[ListStore], config: AcceleratorConfig) -> np.ndarray:
    """List memory images of all cores: uint32 array (cores * PEs, words), as long as the longest.

    Raises
    ------
    ShortageError
        When a PE's lists don't fit its memory; the message says by how much.
    """
    packed = [(words, len(store)) for store in stores for words in store.pack()]
    words, pointers = max(packed, key=lambda pair: len(pair[0]))
    used = len(words)
    if used > config.list_words:
        raise ShortageError(
            f"list memory holds {config.list_words} words a PE; this network needs {used} "
            f"({pointers} pointers, {used - pointers} weights), {used - config.list_words} too many",
            used - config.list_words,
        )
    return np.stack([np.pad(words, (0, used - len(words))) for words, _ in packed])
