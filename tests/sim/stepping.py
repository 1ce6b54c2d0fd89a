"""One core on one layer, cycle by cycle: what :mod:`sim.kernel` must find without stepping.

Units are stepped as the block diagram has them. In each cycle a PE issues at most one entry and takes at most one job
from its queue, the dispatcher makes at most one slot, the lanes take at most one value each.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hw.config import WORD_CHANNELS

#: A slot that asks every PE to hand out the accumulators of an output position.
DUMP = "dump"

#: Of the causes of cycles, those that are counted as they pass; of lists that aren't split none go to edges.
COUNTED = ("products", "imbalance", "drain", "load", "edges")
#: Entries of a job in each PE; None for a slot without a job.
Slot = list[int] | str | None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What a core does, as :func:`sim.kernel.layer_cycles` takes it; ``counts`` are (lists, PEs)."""

    rows: list[tuple[int, int, bool, bool]]
    columns: list[tuple[int, int]]
    first: int
    row_pitch: int
    column_pitch: int
    channels: int
    list_step: int
    dump_length: int
    group: int
    counts: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Units:
    """Sizes and latencies."""

    pes: int
    job_queue: int
    output_queue: int
    first_push: int
    lead: int
    output_latency: int
    lanes: int
    slow: bool
    latency: int


@dataclass
class Pe:
    """A PE: its queue, the job that it walks, and the values that wait behind it."""

    jobs: deque = field(default_factory=deque)
    entries: int = 0
    dumps: bool = False
    taken_at: int = 0  # the job before, from the queue
    last_entry: int = 0
    arrivals: list[int] = field(default_factory=list)
    taken: int = 0
    stalls_before: int = 0
    loaded_since: int = 0
    accepted: int = 0  # jobs that are no dumps
    spent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))

    @property
    def idle(self) -> bool:
        return not self.jobs and not self.entries


def slots_of(layer: Layer, active: np.ndarray) -> Iterator[Slot]:
    """The dispatcher's slots, in order."""
    for y, (first_list, each, final, filled) in enumerate(layer.rows):
        yield None
        for x, (list_offset, dumps) in enumerate(layer.columns):
            base = layer.first + y * layer.row_pitch + x * layer.column_pitch
            if not filled:
                yield None
            for word in range(base, base + layer.channels, WORD_CHANNELS) if filled else ():
                starts = range(word, word + WORD_CHANNELS, layer.group)
                some = [n for n in starts if active[n : n + layer.group].any()]
                if not some:
                    yield None
                for n in some:
                    used = active[n : n + layer.group] if layer.group > 1 else np.array(True)
                    for k in range(each):
                        number = first_list + list_offset + (n - base) // layer.group + k * layer.list_step
                        yield (layer.counts[number] * used).tolist()
            for _ in range(dumps if final else 0):
                yield DUMP


class Core:
    """Steps through a layer.

    Parameters
    ----------
    writes : set of int
        Cycles in which rows of lists are written.
    """

    def __init__(self, layer: Layer, units: Units, active: np.ndarray, writes: set[int]):
        self.layer, self.units, self.writes = layer, units, writes
        self.slots: deque[Slot] = deque([None] * units.lead)
        self.slots.extend(slots_of(layer, active))
        self.values = layer.dump_length * sum(slot is DUMP for slot in self.slots)
        self.pes = [Pe() for _ in range(units.pes)]
        self.stalls = 0
        self.step, self.next_step, self.last_step = 0, 0, 0

    def run(self) -> tuple[int, int, list[int], dict[str, list[int]]]:
        """Cycles, stalls, and of each PE its jobs and its cycles by cause."""
        steps = self.values * self.units.pes // self.units.lanes
        now = self.units.first_push - self.units.lead
        while self.step < steps:
            full = [len(pe.jobs) == self.units.job_queue for pe in self.pes]
            room = [len(pe.arrivals) - pe.taken < self.units.output_queue for pe in self.pes]
            for pe, has_room in zip(self.pes, room, strict=True):
                self._walk(pe, has_room, now)
            self._dispatch(full, now)
            self._lanes(now)
            now += 1
        cycles = self.last_step + self.units.latency
        spent = {cause: [pe.spent[cause] for pe in self.pes] for cause in self.pes[0].spent}
        spent["barrier"] = [cycles - pe.last_entry for pe in self.pes]
        spent["dispatch"] = [pe.last_entry - sum(pe.spent.values()) for pe in self.pes]
        return cycles, self.stalls, [pe.accepted for pe in self.pes], spent

    def _walk(self, pe: Pe, has_room: bool, now: int) -> None:
        if pe.entries and (has_room or not pe.dumps):
            pe.entries -= 1
            pe.last_entry = now
            if pe.dumps:
                pe.arrivals.append(now + self.units.output_latency)
                if not pe.entries:
                    pe.spent["drain"] += now - pe.taken_at
            else:
                pe.spent["products"] += 1
        if not pe.entries and pe.jobs:
            pe.entries, pe.dumps, waited_for_others = pe.jobs.popleft()
            # Of the cycles without an entry, those in which the dispatcher waited for another PE.
            pe.spent["imbalance"] += min(now - pe.last_entry - pe.loaded_since, waited_for_others)
            pe.taken_at, pe.loaded_since = now, 0

    def _dispatch(self, full: list[bool], now: int) -> None:
        if not self.slots:
            return
        slot = self.slots[0]
        entries = [self.layer.dump_length] * len(self.pes) if slot is DUMP else slot or [0] * len(self.pes)
        if any(queue and count for queue, count in zip(full, entries, strict=True)):
            self.stalls += 1
            return
        if now in self.writes:
            for pe in self.pes:
                pe.spent["load"] += pe.idle
                pe.loaded_since += pe.idle
            return
        self.slots.popleft()
        for pe, count in zip(self.pes, entries, strict=True):
            if count:
                pe.jobs.append((count, slot is DUMP, self.stalls - pe.stalls_before))
                pe.stalls_before = self.stalls
                pe.accepted += slot is not DUMP

    def _lanes(self, now: int) -> None:
        lanes, slow = self.units.lanes, self.units.slow
        if now < self.next_step or (slow and now % 2 == 0):
            return
        value, first = divmod(self.step * lanes, len(self.pes))
        group = self.pes[first : first + lanes]
        if all(len(pe.arrivals) > value and pe.arrivals[value] <= now for pe in group):
            for pe in group:
                pe.taken += 1
            self.step += 1
            self.last_step, self.next_step = now, now + 1 + slow
