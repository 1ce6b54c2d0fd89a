"""Which core runs which strips, and how many rows it keeps of every map: timed, and searched for."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tools.strips.anneal import anneal, seed, steady
from tools.strips.machine import OVERLAP, Machine
from tools.strips.recurrence import run
from tools.strips.rooms import core_memory, kept_rows, maps_of, rings_of, room_links
from tools.strips.work import Work

__all__ = ["Bench", "StripPlacement", "StripTimes"]

#: Rows to spare that are more than any strip waits for; as a negative number, all that rings can do without.
_PLENTY = 64
#: So often the images come one after the other, for what is kept in rings to fill and to be used up.
_ROUNDS = 3
#: Spans that aren't known.
_UNKNOWN = np.zeros((0, 0, 2), dtype=np.int64)
#: Rows to spare that a search begins with, of those with which no strip waits for ever the best.
_SPARE = (0, -1, -2, -3, -4, -6, -8, -_PLENTY)


@dataclass(frozen=True, eq=False)
class StripPlacement:
    """Where strips run and how much of every map is kept.

    Attributes
    ----------
    cores : int64 array (strips,)
        The host's strips come first; its number is behind those of the cores.
    spare : int64 array (cores, maps)
        Rows of each ring beyond those of an image.
    """

    cores: np.ndarray
    spare: np.ndarray


@dataclass(frozen=True, eq=False)
class StripTimes:
    """When every strip of every image starts, has been dispatched and is complete; what the cores did."""

    started: np.ndarray
    issued: np.ndarray
    done: np.ndarray
    counted: np.ndarray

    def steady(self, first: int, last: int) -> float:
        """Cycles an image, of those behind ``first`` up to ``last``."""
        return float(steady(self.done, first, last))

    def spans(self) -> np.ndarray:
        """Of every strip: cycles from its start to its last push and to its completion; 0 where it is skipped."""
        ran = (self.started >= 0)[:, :, None]
        return np.where(ran, np.stack([self.issued - self.started, self.done - self.started], axis=2), 0)

    def busy(self) -> np.ndarray:
        """Cycles an image in which each strip has its core for itself."""
        cycles: np.ndarray = np.maximum(self.spans()[:, :, 0] - OVERLAP, 0).mean(axis=0)
        return cycles


def _window(count: int) -> tuple[int, int]:
    """Images between whose ends cycles are counted: all but the first round and the last few."""
    return count, _ROUNDS * count - 1 - min(4, count // 2)


class Bench:
    """A network's strips on a machine."""

    def __init__(self, work: Work, machine: Machine):
        self.work, self.machine, self.maps = work, machine, maps_of(work)
        self.hosts = len(work.host_rows)

    def start(self, cores: np.ndarray | None = None, spare: int = 0) -> StripPlacement:
        """Strips on some cores, or all on the first, with rings of an image and some rows to spare."""
        total, units = len(self.work.table), self.machine.cores
        everywhere = np.full(total, units, dtype=np.int64)
        everywhere[self.hosts :] = 0 if cores is None else cores
        return StripPlacement(everywhere, np.full((units, len(self.maps.names)), spare, dtype=np.int64))

    def _kept(self, placement: StripPlacement) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kept, extent = kept_rows(placement.cores, self.machine.cores, self.maps.reads, self.maps.makers)
        return kept, extent, rings_of(kept, extent, placement.spare)

    def memory(self, placement: StripPlacement) -> np.ndarray:
        """Of each core: list words of its fullest PE, activation words, words for which there is no place."""
        kept, extent, rings = self._kept(placement)
        maps = self.maps
        return np.array(
            [
                core_memory(
                    core, placement.cores, rings, kept, extent, maps.reads, maps.lists, maps.list_words, maps.widths,
                    self.machine.limits,
                )
                for core in range(self.machine.cores)
            ]
        )  # fmt: skip

    def _walk(self, images: Any) -> tuple[np.ndarray, ...]:
        work = self.work
        return work.rows, work.columns, work.counts, work.useful, work.active[images], work.costs[images]

    def time(
        self, placement: StripPlacement, images: Any, *, barrier: bool = False, spans: np.ndarray = _UNKNOWN
    ) -> StripTimes:
        """Times the strips of some images.

        Parameters
        ----------
        barrier : bool
            Whether a layer's strips wait for all strips of the layer before, and an image for the one before.
        spans : int64 array (images, strips, 2)
            Of :meth:`StripTimes.spans`, where these are known.
        """
        work, maps = self.work, self.maps
        total = len(work.table)
        if barrier:
            links = self._barriers()
        else:
            kept, _, rings = self._kept(placement)
            delays, lanes = np.empty((total, total), dtype=np.int64), np.empty((total, total), dtype=bool)
            freed, rooms = room_links(placement.cores, rings, kept, maps.reads, maps.makers, delays, lanes)
            links = maps.needed, maps.followers, freed, rooms
        exits, sizes = work.exits[images], self.machine.sizes
        return StripTimes(*run(work.table, placement.cores, links, *self._walk(images), exits, sizes, spans))

    def _barriers(self) -> tuple[np.ndarray, ...]:
        total = len(self.work.table)
        layer_of = [-1] * self.hosts + [strip.layer for strip in self.work.strips]
        needs = [(a, b) for a in range(total) for b in range(total) if layer_of[a] == layer_of[b] - 1]
        pairs = np.array(needs)
        numbers = np.arange(total + 1)
        ends = np.clip(numbers - self.hosts, 0, None) * self.hosts
        rooms = [[host, 1, 1] for _ in self.work.strips for host in range(self.hosts)]
        return np.searchsorted(pairs[:, 0], numbers), np.ascontiguousarray(pairs[:, 1]), ends, np.array(rooms)

    def anneal(
        self, start: StripPlacement, images: Any, steps: int, *, hot: float, cold: float, load: bool = False
    ) -> tuple[StripPlacement, float]:
        """The placement with the fewest cycles an image that was found from another, and these.

        Parameters
        ----------
        load : bool
            Whether the load of the fullest core is made small, or the cycles an image by the recurrence, with the spans
            of strips from an exact run.
        """
        maps, work = self.maps, self.work
        times = self.time(replace(start, spare=start.spare * 0 + _PLENTY) if load else start, images)
        count = len(work.exits[images])
        cores, spare, cost = anneal(
            start.cores.copy(),
            start.spare.copy(),
            times.busy(),
            (maps.makers, maps.reads, maps.lists, maps.list_words, maps.widths, self.machine.limits),
            (
                work.table,
                (maps.needed, maps.followers),
                self.machine.sizes,
                np.tile(work.exits[images], _ROUNDS),
                self._walk(images),
            ),
            _UNKNOWN if load else np.tile(times.spans(), (_ROUNDS, 1, 1)),
            _window(count),
            self.hosts,
            steps,
            hot,
            cold,
        )
        return StripPlacement(cores, spare), float(cost)

    def search(self, images: Any, number: int, steps: tuple[int, int]) -> tuple[StripPlacement, float]:
        """The best placement that is found from scratch, and its cycles an image; ``number`` is of the seed.

        ``steps``: of moves by the load of the cores, and of moves in each of three rounds by the recurrence.
        """
        most, there = max(layer.accumulators for layer in self.work.layers), self.machine.accumulators
        if most > there:
            raise ValueError(f"a strip holds {most} accumulators of a PE, which has {there}: cut its layer differently")
        seed(number)
        starts = []
        for spare in (0, -_PLENTY):
            loaded, _ = self.anneal(self.start(spare=spare), images, steps[0], hot=0.1, cold=0.0005, load=True)
            for rows in _SPARE:
                tried = replace(loaded, spare=np.full_like(loaded.spare, rows))
                if self.time(tried, images).done.min() >= 0:
                    starts.append(self.anneal(tried, images, 0, hot=1, cold=1))
        here = min(starts, key=lambda found: found[1])[0]
        numbers = np.tile(np.arange(len(self.work.exits))[images], _ROUNDS)
        found = []
        for hot in (0.02, 0.006, 0.002):
            here, _ = self.anneal(here, images, steps[1], hot=hot, cold=hot / 6)
            cycles = self.time(here, numbers).steady(*_window(len(numbers) // _ROUNDS))
            found.append((here, cycles, self.memory(here)[:, 2].sum()))
        placement, cycles, _ = min(found, key=lambda each: (each[2] > 0, each[1]))
        return placement, cycles
