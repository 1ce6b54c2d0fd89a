"""The sparse weight format: per PE and list, the nonzero weights and where their products go.

A *list* belongs to one input channel, one kernel row and one class of input columns. In the list memory of each PE it
is a pointer (start, count) and ``count`` consecutive entries (weight, accumulator offset); the pointers of all lists
come first, so a list's number is its pointer's address. A PE whose list is empty holds a pointer with count 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.config import AcceleratorConfig

__all__ = ["ListImage", "ListStore", "unpack"]

#: Bits of the weight in an entry; the offset lies above it (hw.isa.Entry).
_WEIGHT_BITS = 8


class ListStore:
    """Collects the lists of a program and packs them into the memory images of all PEs."""

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._lists: list[list[np.ndarray]] = []

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
        self._lists.append(list(entries))

    def pack(self) -> np.ndarray:
        """Memory images of all PEs: uint32 array (PEs, words), as long as the longest.

        Entries that stand somewhere already aren't stored again: the lists of columns at the edges of a map are parts
        of those of the columns between.

        Raises
        ------
        ValueError
            When a PE's lists don't fit its memory; the message says by how much.
        """
        config = self._config
        packed = [self._pack_pe(pe) for pe in range(config.multipliers)]
        used = max(len(words) for words in packed)
        if used > config.list_words:
            raise ValueError(
                f"list memory holds {config.list_words} words a PE; this network needs {used} "
                f"({len(self._lists)} pointers, {used - len(self._lists)} weights), {used - config.list_words} too many"
            )
        return np.stack([np.pad(words, (0, used - len(words))) for words in packed])

    def _pack_pe(self, pe: int) -> np.ndarray:
        """Pointers and entries of one PE."""
        pointers = np.zeros(len(self._lists), dtype=np.uint32)
        entries = b""
        longest_first = sorted(range(len(self._lists)), key=lambda number: -len(self._lists[number][pe]))
        for number in longest_first:
            part = self._lists[number][pe]
            if not len(part):
                break
            words = (part[:, 0] & ((1 << _WEIGHT_BITS) - 1)) | part[:, 1] << _WEIGHT_BITS
            data = words.astype("<u4").tobytes()
            place = _find(entries, data)
            if place is None:
                place = len(entries)
                entries += data
            pointers[number] = (len(pointers) + place // 4) | len(part) << self._config.start_bits
        return np.concatenate([pointers, np.frombuffer(entries, dtype="<u4").astype(np.uint32)])


def _find(words: bytes, part: bytes) -> int | None:
    """Byte offset of 32-bit words in others, at a word's boundary."""
    place = words.find(part)
    while place % 4 and place >= 0:
        place = words.find(part, place + 1)
    return None if place < 0 else place


@dataclass(frozen=True)
class ListImage:
    """What a list memory says, unpacked.

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
