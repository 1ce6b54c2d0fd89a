"""Searches for the cheapest choice of partitions: descends, and finds anew only what a change has an influence on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, product
from math import inf

import numpy as np

from hw.compiler.search.estimate import Estimate
from hw.config import AcceleratorConfig

__all__ = ["Choice", "Costs", "Held", "Search", "streamed_cycles"]

#: A choice: for each step, the number of one of its options.
Choice = tuple[int, ...]

#: Searches over single steps and over pairs, in turn.
_ROUNDS = 2
#: How much a sum of cycles may differ that is found from another one.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Held:
    """What a layer takes of memories under an option.

    Attributes
    ----------
    lists : int array (cores, PEs)
        Words of list memory.
    channels : int array (cores,)
        Output channels.
    """

    lists: np.ndarray
    channels: np.ndarray

    @classmethod
    def of(cls, costs: Sequence[Estimate]) -> "Held":
        """``costs`` are those of the layer's steps; equal lists are held once."""
        different = {cost.lists: cost for cost in costs}.values()
        lists = sum(cost.pointers.sum(axis=0)[:, None] + cost.entries.sum(axis=0) for cost in different)
        return cls(np.asarray(lists), costs[0].channels)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What choices are compared by.

    Attributes
    ----------
    groups : list of list of int
        The steps of each layer, which take the same option.
    neighbours : list of tuple of 2 int
        Layers that share a tensor.
    held : list of list of Held
        Of each layer, under each of its options.
    rows : list of list of list of (int, int)
        Of each step, under each of its options: list words and rows of its commands.
    cycles : callable
        Of each command of a step (its number), given its option and those of its readers.
    readers : list of tuple of int
        Of each step: those that its cycles depend on, too.
    words : callable
        Of a place in activation memory (its number), given the options of its readers.
    places : list of tuple of int
        Of each place: the steps that its words depend on.
    short : callable
        Words by which activation memories are too small, given those of all places.
    """

    groups: list[list[int]]
    neighbours: list[tuple[int, int]]
    held: list[list[Held]]
    rows: list[list[list[tuple[int, int]]]]
    cycles: Callable[[int, int, tuple[int, ...]], tuple[float, ...]]
    readers: list[tuple[int, ...]]
    words: Callable[[int, tuple[int, ...]], int]
    places: list[tuple[int, ...]]
    short: Callable[[tuple[int, ...]], int]


@dataclass(frozen=True)
class _Move:
    """Layers whose options change together, and what that has an influence on.

    Attributes
    ----------
    groups : tuple of int
    members : tuple of list of int
        The steps of each.
    steps : tuple of int
        Steps whose cycles may change.
    places : tuple of int
        Places whose words may.
    """

    groups: tuple[int, ...]
    members: tuple[list[int], ...]
    steps: tuple[int, ...]
    places: tuple[int, ...]


class Search:
    """A choice, and cheaper ones with every call.

    Parameters
    ----------
    choice : tuple of int
        To begin with.
    list_words : int
        Words that may be planned with in each list memory.
    streamed : bool
        Whether list memories hold a few commands' lists at a time, read during the run; else all of them.
    """

    def __init__(self, costs: Costs, choice: Choice, list_words: int, streamed: bool, config: AcceleratorConfig):
        self._costs, self._list_words, self._streamed, self._config = costs, list_words, streamed, config
        self._singles = [self._move(group) for group in range(len(costs.groups))]
        self._pairs = [self._move(*pair) for pair in costs.neighbours]
        #: Of each step, under each of its options: words beyond the memory of the commands' lists.
        self._beyond = [
            [sum(max(0, words - list_words) for words, _ in rows) * config.cores for rows in options]
            for options in costs.rows
        ]
        #: Of each step, under each of its options: cycles that reading the commands' lists takes, one after the other.
        self._loads = [
            [sum(count for _, count in rows) * config.list_row_beats if streamed else 0 for rows in options]
            for options in costs.rows
        ]
        self._start(choice)
        self._total = sum(chain.from_iterable(self._cycles))

    def _start(self, choice: Choice) -> None:
        costs, self._choice = self._costs, list(choice)
        self._cycles = [self._cycles_at(step) for step in range(len(choice))]
        self._words = [self._words_at(place) for place in range(len(costs.places))]
        held = [held[choice[group[0]]] for held, group in zip(costs.held, costs.groups, strict=True)]
        self._lists = np.sum([each.lists for each in held], axis=0)
        self._channels = np.sum([each.channels for each in held], axis=0)
        self._load = sum(loads[option] for loads, option in zip(self._loads, choice, strict=True))

    def _move(self, *groups: int) -> _Move:
        members = tuple(self._costs.groups[group] for group in groups)
        changed = set(chain.from_iterable(members))
        steps = [n for n, readers in enumerate(self._costs.readers) if n in changed or changed.intersection(readers)]
        places = [n for n, readers in enumerate(self._costs.places) if changed.intersection(readers)]
        return _Move(groups, members, tuple(steps), tuple(places))

    def _cycles_at(self, step: int) -> tuple[float, ...]:
        choice = self._choice
        return self._costs.cycles(step, choice[step], tuple([choice[n] for n in self._costs.readers[step]]))

    def _words_at(self, place: int) -> int:
        return self._costs.words(place, tuple([self._choice[n] for n in self._costs.places[place]]))

    def _set(self, move: _Move, options: Sequence[int]) -> None:
        for steps, option in zip(move.members, options, strict=True):
            for step in steps:
                self._choice[step] = option

    @property
    def choice(self) -> Choice:
        """The cheapest so far."""
        return tuple(self._choice)

    def excess(self) -> int:
        """Words by which the memories are too small; of lists and channels, summed over the cores."""
        return sum(excess() for excess in self._excesses(self._lists, self._channels, self._words))

    def _excesses(self, lists: np.ndarray, channels: np.ndarray, words: Sequence[int]) -> tuple[Callable[[], int], ...]:
        """Words that are missing of each memory, the cheapest to find first."""

        def of_lists() -> int:
            if self._streamed:
                return sum(beyond[option] for beyond, option in zip(self._beyond, self._choice, strict=True))
            return int((lists.max(axis=1) - self._list_words).clip(0).sum())

        return (
            of_lists,
            lambda: int((channels - self._config.channel_words).clip(0).sum()),
            lambda: self._costs.short(tuple(words)),
        )

    def cost(self, price: float) -> float:
        """Cycles of the choice, with a price on every missing word."""
        return self._cost(self._cycles, self._lists, self._channels, self._words, price, inf)

    def _cost(
        self,
        cycles: Sequence[tuple[float, ...]],
        lists: np.ndarray,
        channels: np.ndarray,
        words: Sequence[int],
        price: float,
        most: float,
    ) -> float:
        """What a choice costs with these figures; or only so much of it that it isn't below ``most``."""
        if self._streamed:
            rows = [rows for step, option in enumerate(self._choice) for rows in self._costs.rows[step][option]]
            total = streamed_cycles(rows, list(chain.from_iterable(cycles)), self._config)
        else:
            total = sum(chain.from_iterable(cycles))
        cost, missing = total, 0
        for excess in self._excesses(lists, channels, words) if price else ():
            if cost >= most:
                break
            missing += excess()
            cost = total + price * missing
        return cost

    def _try(self, move: _Move, options: Sequence[int], price: float, most: float, *, keep: bool) -> float:
        """What the choice costs with other options of some layers; it is kept if that is below ``most``."""
        before = [self._choice[steps[0]] for steps in move.members]
        load = sum([
            self._loads[step][option] - self._loads[step][last]
            for steps, option, last in zip(move.members, options, before, strict=True) for step in steps
        ])  # fmt: skip
        # Nor is one below the time that reading all lists takes.
        if self._load + load > most * (1 + _ROUNDING):
            return inf
        self._set(move, options)
        cost, changed = inf, [self._cycles_at(step) for step in move.steps]
        # No cost is below the sum of its cycles, which differs by what these differ, but for rounding.
        old, new = sum([sum(self._cycles[step]) for step in move.steps]), sum(map(sum, changed))
        if self._total - old + new - _ROUNDING * (self._total + new) < most:
            cycles, words = list(self._cycles), list(self._words)
            for step, each in zip(move.steps, changed, strict=True):
                cycles[step] = each
            lists, channels = self._lists, self._channels
            for group, option, last in zip(move.groups, options, before, strict=True) if price or keep else ():
                held = self._costs.held[group]
                lists = lists + (held[option].lists - held[last].lists)
                channels = channels + (held[option].channels - held[last].channels)
            for place in move.places:
                words[place] = self._words_at(place)
            cost = self._cost(cycles, lists, channels, words, price, most)
        if keep and cost < most:
            self._cycles, self._lists, self._channels, self._words = cycles, lists, channels, words
            self._load += load
            self._total = sum(chain.from_iterable(cycles))
        else:
            self._set(move, before)
        return cost

    def descend(self, price: float) -> None:
        """Change one layer or two that share a tensor, as long as that lowers the cost."""
        least = self.cost(price)
        for moves in (self._singles, self._pairs) * _ROUNDS:
            improved = True
            while improved:
                improved = False
                for move in moves:
                    for options in self._options(move):
                        found = self._try(move, options, price, least, keep=True)
                        if found < least:
                            least, improved = found, True

    def fall(self, price: float) -> None:
        """Change one layer at a time, the one that lowers the cost most, as long as one does."""
        while True:
            least, best = self.cost(price), None
            for move in self._singles:
                for options in self._options(move):
                    found = self._try(move, options, price, least, keep=False)
                    if found < least:
                        least, best = found, (move, options)
            if best is None:
                return
            self._try(*best, price, inf, keep=True)

    def runners_up(self) -> list[tuple[int, float] | None]:
        """Of each layer: the cheapest other option with which memories lack no more words while all other layers keep
        theirs, and the cycles of the whole choice with it, which differ by at least one; None if there is none.
        """
        lacking, chosen = self.excess(), self.cost(0)
        found: list[tuple[int, float] | None] = []
        for move in self._singles:
            best = None
            for (option,) in self._options(move):
                if option == self._choice[move.members[0][0]]:
                    continue
                cycles = self._try(move, (option,), 0, inf, keep=False)
                if abs(cycles - chosen) >= 1 and (best is None or cycles < best[1]):
                    # With a price on missing words, these are what the cost is higher by.
                    cost = self._try(move, (option,), 1, inf, keep=False)
                    best = (option, cycles) if cost <= cycles + lacking else best
            found.append(best)
        return found

    def _options(self, move: _Move) -> list[tuple[int, ...]]:
        return list(product(*(range(len(self._costs.held[group])) for group in move.groups)))


def streamed_cycles(rows: Sequence[tuple[int, int]], cycles: Sequence[float], config: AcceleratorConfig) -> float:
    """Expected cycles of a run if lists are read as soon as those before leave room for them.

    Parameters
    ----------
    rows : sequence of (int, int)
        Of each command: :meth:`hw.compiler.search.estimate.Estimate.rows`.
    cycles : sequence of float
        Of each command.
    """
    capacity, beats = config.list_words, config.list_row_beats
    ends, loaded, last = [0.0], 0.0, 0.0
    oldest = held = 0
    # A search calls this for every choice that it tries: comparisons are faster than max.
    for number, ((words, count), each) in enumerate(zip(rows, cycles, strict=True)):
        held += words
        while held > capacity and oldest < number:
            held -= rows[oldest][0]
            oldest += 1
        room = ends[oldest]
        loaded = (room if room > loaded else loaded) + count * beats
        last = (loaded if loaded > last else last) + each
        ends.append(last)
    return last
