"""Where every command's lists lie: in the list memories throughout, or read from external memory during each run.

If all lists fit, they are loaded with the program. If not, and there is a loader, some commands' lists stay and the
others are overlays, which share what is left: each gets a region of addresses, the same in all cores, whose earlier
users have ended when it is written. Parts of a region that are free earlier are read earlier, as chunks of their own.
Which lists stay and where overlays lie is chosen by the expected time, with a beat in every cycle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.compiler.memory.core_schedule import CoreSchedule
from hw.compiler.memory.sparse import ListStore, pack_all
from hw.config import AcceleratorConfig
from hw.program.bits import words_of
from hw.program.chunks import ChunkRows, pack_chunk, rows_of
from hw.program.isa import MAX_CHUNKS, Chunk
from hw.program.list_memory import moved_pointers
from hw.rules import ShortageError

__all__ = ["CommandLists", "ListPlan", "all_resident", "streamed"]

#: Most chunks that an overlay is read in.
_PIECES = 4

#: Each working core's lists of a command.
CommandLists = dict[int, CoreSchedule]


@dataclass(frozen=True, kw_only=True)
class ListPlan:
    """What the list memories hold, and when.

    Attributes
    ----------
    lists : uint32 array (cores * PEs, words)
        Loaded with the program.
    first : list of dict of int to int
        Of each command, by core: number of its first list.
    waits : list of int
        Of each command: chunks that must have been written before it starts.
    chunks : list of (uint32 array (words,), int)
        Words of the beats of each chunk, and the commands that must have ended before it is read.
    read : list of int
        Of each command: words of its lists in each list memory, if they are read during the run; else 0.
    """

    lists: np.ndarray
    first: list[dict[int, int]]
    waits: list[int]
    chunks: list[tuple[np.ndarray, int]]
    read: list[int]


@dataclass(frozen=True)
class _Overlay:
    """A command's lists, addressed from 0.

    Attributes
    ----------
    groups : list of (cores, uint32 array (list rows, PEs), int)
        Cores with equal lists, their words, and how many of those are pointers.
    pointer_words : int
        Words of a pointer; the lists' address must be a multiple.
    """

    groups: list[tuple[tuple[int, ...], np.ndarray, int]]
    pointer_words: int

    @property
    def size(self) -> int:
        return max((len(words) for _, words, _ in self.groups), default=0)

    @property
    def resident_words(self) -> int:
        """The most that it adds to the lists that stay: with the words before it that its address may need."""
        return self.size + self.pointer_words - 1

    def beats(self, config: AcceleratorConfig) -> int:
        """To read it as one chunk."""
        return sum(len(words) * config.list_row_beats + 1 for _, words, _ in self.groups)

    def at(self, base: int, config: AcceleratorConfig) -> list[ChunkRows]:
        """The list rows at their addresses."""
        found = []
        for cores, words, pointers in self.groups:
            moved = np.concatenate([moved_pointers(words[:pointers], base, config), words[pointers:]])
            found.append(ChunkRows(cores=cores, address=base, words=moved))
        return found


def _stores(
    commands: Sequence[CommandLists], config: AcceleratorConfig
) -> tuple[list[ListStore], list[dict[int, int]]]:
    """The lists of some commands in a store for each core, and where those of each begin.

    Commands that share their lists have them once.
    """
    stores = [ListStore(config) for _ in range(config.cores)]
    added: dict[tuple[int, int], int] = {}
    first: list[dict[int, int]] = []
    for command in commands:
        first.append({})
        for core, work in command.items():
            key = core, id(work.lists)
            if key not in added:
                added[key] = work.add_lists(stores[core])
            first[-1][core] = added[key]
    return stores, first


def all_resident(commands: Sequence[CommandLists], config: AcceleratorConfig) -> ListPlan:
    """All lists in the list memories.

    Raises
    ------
    ShortageError
        When they don't fit.
    """
    stores, first = _stores(commands, config)
    return ListPlan(
        lists=pack_all(stores, config), first=first, waits=[0] * len(commands), chunks=[], read=[0] * len(commands)
    )


def _overlay(command: CommandLists, config: AcceleratorConfig) -> _Overlay:
    stores, _ = _stores([command], config)
    groups: dict[bytes, tuple[list[int], np.ndarray, int]] = {}
    for core in command:
        packed = stores[core].pack()
        size = max(len(words) for words in packed)
        words = np.stack([np.pad(words, (0, size - len(words))) for words in packed], axis=1)
        groups.setdefault(words.tobytes(), ([], words, len(stores[core])))[0].append(core)
    pointer_words = max((work.lists.pointer_words for work in command.values()), default=1)
    return _Overlay([(tuple(cores), words, pointers) for cores, words, pointers in groups.values()], pointer_words)


class _Arrangement:
    """Overlays at addresses, one command after the other, and the time that takes.

    Parameters
    ----------
    resident : int
        Words before the first overlay.
    pieces : int
        Most chunks of an overlay.
    """

    def __init__(self, resident: int, pieces: int, config: AcceleratorConfig):
        self._config = config
        self._pieces = pieces
        self._resident = resident
        #: Of every address: how many commands must have ended before it can be written.
        self._after = np.zeros(config.list_words, dtype=np.int64)
        self._ends = [0.0]
        self._loaded = 0.0
        self._last_after = 0
        #: Of each command with an overlay: its base, and of each of its addresses when that can be written.
        self.places: dict[int, tuple[int, np.ndarray]] = {}

    @property
    def cycles(self) -> float:
        """Until the end of the last command."""
        return self._ends[-1]

    def _pieces_at(self, base: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """When each address of an overlay can be written; the different times, and how many words can be at each."""
        after = np.maximum(self._after[base : base + size], self._last_after)
        times = np.unique(after)
        if len(times) > self._pieces:
            after = np.maximum(after, times[-self._pieces])
        times, words = np.unique(after, return_counts=True)
        return after, times, words

    def _arrival(self, times: np.ndarray, words: np.ndarray, beats_per_word: float) -> float:
        """When the last of it is there."""
        now = self._loaded
        for after, count in zip(times.tolist(), words.tolist(), strict=True):
            now = max(now, self._ends[after]) + count * beats_per_word
        return now

    def add(self, cycles: float, overlay: _Overlay | None) -> bool:
        """Append a command, with the overlay that it reads, if any; returns whether there is room."""
        start = self._ends[-1]
        if overlay is not None and (size := overlay.size):
            unit, beats = overlay.pointer_words, overlay.beats(self._config)
            highest = (self._config.list_words - size) // unit * unit
            if highest < self._resident:
                return False
            edges = np.flatnonzero(np.diff(self._after)) + 1
            behind, before = -(-np.append(edges, self._resident) // unit) * unit, (edges - size) // unit * unit
            best = None
            for base in sorted({highest, *behind.tolist(), *before.tolist()}):
                if not self._resident <= base <= highest:
                    continue
                after, times, words = self._pieces_at(base, size)
                found = (self._arrival(times, words, beats / size), int(times[-1]), base)
                if best is None or found < best[0]:
                    best = (found, after)
            assert best is not None
            (arrival, last, base), after = best
            number = len(self._ends) - 1
            self.places[number] = (base, after)
            self._after[base : base + size] = number + 1
            self._loaded, self._last_after = arrival, last
            start = max(start, arrival)
        self._ends.append(start + cycles)
        return True


def _arrange(
    overlays: list[_Overlay],
    cycles: Sequence[float],
    resident: set[int],
    words: int,
    pieces: int,
    config: AcceleratorConfig,
) -> _Arrangement | None:
    """The arrangement with these commands' lists in memory throughout, in so many words; None without room."""
    found = _Arrangement(words, pieces, config)
    for number, (overlay, time) in enumerate(zip(overlays, cycles, strict=True)):
        if not found.add(time, None if number in resident else overlay):
            return None
    return found


def _choose(overlays: list[_Overlay], cycles: Sequence[float], config: AcceleratorConfig) -> set[int]:
    """The commands whose lists had best stay, one after the other as long as the expected time falls."""
    resident: set[int] = set()
    arranged = _arrange(overlays, cycles, resident, 0, _PIECES, config)
    assert arranged is not None
    least, words = arranged.cycles, 0
    while True:
        best = None
        for number, overlay in enumerate(overlays):
            more = words + overlay.resident_words
            if number in resident or not overlay.size or more > config.list_words:
                continue
            arranged = _arrange(overlays, cycles, resident | {number}, more, _PIECES, config)
            if arranged is not None and (best is None or arranged.cycles < best[0]):
                best = (arranged.cycles, number)
        if best is None or best[0] >= least:
            return resident
        least = best[0]
        resident.add(best[1])
        words += overlays[best[1]].resident_words


def streamed(
    commands: Sequence[CommandLists], cycles: Sequence[float], program_words: int, config: AcceleratorConfig
) -> ListPlan:
    """Some lists in the list memories, the others in external memory.

    Parameters
    ----------
    cycles : sequence of float
        Expected, of each command.
    program_words : int
        Left in the program memory for the chunk table.

    Raises
    ------
    ShortageError
        When the lists of one command don't fit, or the chunk table doesn't; the message says by how much.
    """
    overlays = [_overlay(command, config) for command in commands]
    largest = max(range(len(overlays)), key=lambda number: overlays[number].size)
    missing = overlays[largest].size - config.list_words
    if missing > 0:
        name = next(iter(commands[largest].values())).name
        raise ShortageError(
            f"{name}: list memory holds {config.list_words} words a PE; this layer alone needs "
            f"{overlays[largest].size}, {missing} too many",
            missing,
        )
    resident = _choose(overlays, cycles, config)
    stores, first_lists = _stores([c if n in resident else {} for n, c in enumerate(commands)], config)
    lists = pack_all(stores, config)
    most = min(MAX_CHUNKS, program_words // words_of(Chunk))
    for pieces in range(_PIECES, 0, -1):
        arranged = _arrange(overlays, cycles, resident, lists.shape[1], pieces, config)
        assert arranged is not None
        waits, first, chunks = _emit(commands, overlays, first_lists, arranged, config)
        if len(chunks) <= most:
            read = [0 if number in resident else overlay.size for number, overlay in enumerate(overlays)]
            return ListPlan(lists=lists, first=first, waits=waits, chunks=chunks, read=read)
    missing = words_of(Chunk) * (len(chunks) - most)
    raise ShortageError(
        f"program memory holds {config.program_words} words; {len(chunks)} chunks of lists need {missing} more",
        missing,
    )


def _emit(
    commands: Sequence[CommandLists],
    overlays: list[_Overlay],
    first_lists: list[dict[int, int]],
    arranged: _Arrangement,
    config: AcceleratorConfig,
) -> tuple[list[int], list[dict[int, int]], list[tuple[np.ndarray, int]]]:
    """What each command waits for, its first lists, and the chunks."""
    waits, first = [], []
    chunks: list[tuple[np.ndarray, int]] = []
    for number, command in enumerate(commands):
        place = arranged.places.get(number)
        if place is None:
            first.append(first_lists[number])
        else:
            base, after = place
            first.append({core: base // work.lists.pointer_words for core, work in command.items()})
            for time in np.unique(after).tolist():
                rows = [some for segment in overlays[number].at(base, config) for some in _some(segment, after == time)]
                if rows:
                    chunks.append((pack_chunk(rows_of(rows), config), time))
        waits.append(len(chunks))
    return waits, first, chunks


def _some(segment: ChunkRows, chosen: np.ndarray) -> list[ChunkRows]:
    """The chosen list rows of a segment, as segments of consecutive ones."""
    numbers = np.flatnonzero(chosen[: len(segment.words)])
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return [
        ChunkRows(cores=segment.cores, address=segment.address + int(run[0]), words=segment.words[run])
        for run in runs
        if len(run)
    ]
