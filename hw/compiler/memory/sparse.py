"""The sparse weight format: per PE and list, the nonzero weights and where their products go.

A *list* belongs to one input channel, one kernel row and one class of input columns; in a depthwise layer, where a
channel has products in one PE only, to as many neighbouring channels as there are PEs. In the list memory of each PE it
is a pointer (start, count) and ``count`` consecutive entries (weight, accumulator offset); the pointers of all lists
come first, so a list's number is its pointer's address. A PE whose list is empty holds a pointer with count 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.config import AcceleratorConfig
from hw.rules import ShortageError

__all__ = ["ListImage", "ListStore", "pack_all", "unpack"]

#: Bits of the weight in an entry; the offset lies above it (hw.program.isa.Entry).
_WEIGHT_BITS = 8
#: One character a word: words have 18 bits, characters 20 and more.
_CODEC = ("utf-32-le", "surrogatepass")


class ListStore:
    """Collects the lists of a core and packs them into the memory images of its PEs."""

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._lists: list[list[str]] = []

    def __len__(self) -> int:
        return len(self._lists)

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
            When a PE's part is longer than a pointer can say.
        """
        longest = max(len(part) for part in entries)
        if longest > self._config.max_list:
            raise ValueError(
                f"{name}: a weight list has {longest} entries, {longest - self._config.max_list} more than "
                f"the {self._config.max_list} that a pointer of this config can count"
            )
        self._lists.append([_text(part) for part in entries])

    def pack(self) -> list[np.ndarray]:
        """Words of each PE's memory: uint32 arrays, pointers first.

        Entries that stand somewhere already aren't stored again: the lists of columns at the edges of a map are parts
        of those of the columns between.
        """
        return [self._pack_pe(pe) for pe in range(self._config.pes)]

    def _pack_pe(self, pe: int) -> np.ndarray:
        """Pointers and entries of one PE."""
        count = len(self._lists)
        pointers = np.zeros(count, dtype=np.uint32)
        entries, known = "", {}
        for number in sorted(range(count), key=lambda number: -len(self._lists[number][pe])):
            part = self._lists[number][pe]
            if not part:
                break
            if part not in known:
                place = entries.find(part)
                if place < 0:
                    place = len(entries)
                    entries += part
                known[part] = place
            pointers[number] = (count + known[part]) | len(part) << self._config.start_bits
        return np.concatenate([pointers, np.frombuffer(entries.encode(*_CODEC), dtype="<u4").astype(np.uint32)])


def _text(part: np.ndarray) -> str:
    """The words of some entries as a text of as many characters: what is found fastest in another."""
    words: np.ndarray = (part[:, 0] & ((1 << _WEIGHT_BITS) - 1)) | part[:, 1] << _WEIGHT_BITS
    return words.astype("<u4").tobytes().decode(*_CODEC)


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


@dataclass(frozen=True)
class ListImage:
    """What the list memories of a core say, unpacked.

    Attributes
    ----------
    counts : int32 array (lists, PEs)
    entries : list (PE) of list (list) of int arrays (n, 2)
        Weight, accumulator offset.
    """

    counts: np.ndarray
    entries: list[list[np.ndarray]]


def unpack(image: np.ndarray, lists: int, config: AcceleratorConfig) -> ListImage:
    """The inverse of :meth:`ListStore.pack`.

    Parameters
    ----------
    image : uint32 array (PEs, words)
        The list memories of a core.
    lists : int
        Pointers in it.

    Raises
    ------
    ValueError
        When a pointer leads outside the image.
    """
    if not 0 <= lists <= image.shape[1]:
        raise ValueError(f"list memory image has {image.shape[1]} words, fewer than its {lists} pointers")
    pointers = image[:, :lists].astype(np.int64)
    starts = pointers & ((1 << config.start_bits) - 1)
    counts = pointers >> config.start_bits
    if ((counts > 0) & ((starts < lists) | (starts + counts > image.shape[1]))).any():
        raise ValueError("list memory image holds a pointer to outside its entries")
    entries = []
    for pe in range(image.shape[0]):
        words = image[pe].astype(np.int64)
        pairs = np.stack([((words & 0xFF) ^ 0x80) - 0x80, words >> _WEIGHT_BITS], axis=1)
        entries.append([pairs[s : s + n] for s, n in zip(starts[pe], counts[pe], strict=True)])
    return ListImage(counts.T.astype(np.int32), entries)
