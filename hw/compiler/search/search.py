"""Searches for the cheapest choice of partitions: descends, and finds anew only what a change has an influence on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from math import inf
from typing import NamedTuple

import numpy as np

from hw.compiler.search.estimate import Estimate
from hw.compiler.search.reading import Reading
from hw.config import AcceleratorConfig

__all__ = ["Choice", "Costs", "Held", "Search"]

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
    rows : list of list of int64 array (commands, 2)
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
    rows: list[list[np.ndarray]]
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


class _Change(NamedTuple):
    """Other options of some layers.

    Attributes
    ----------
    move : _Move
    options, before : sequence of int
        Of its layers, with the change and without.
    load : int
        Cycles that reading all lists takes then, one after the other.
    lacking : int
        Words by which list memories are too small for the commands' lists then, where they are read during the run.
    """

    move: _Move
    options: Sequence[int]
    before: Sequence[int]
    load: int
    lacking: int


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
            [int((rows[:, 0] - list_words).clip(0).sum()) * config.cores for rows in options] for options in costs.rows
        ]
        #: Of each step, under each of its options: cycles that reading the commands' lists takes, one after the other.
        self._loads = [
            [int(rows[:, 1].sum()) * config.list_row_beats if streamed else 0 for rows in options]
            for options in costs.rows
        ]
        self._start(choice)

    def _start(self, choice: Choice) -> None:
        costs, self._choice = self._costs, list(choice)
        self._words = [self._words_at(place) for place in range(len(costs.places))]
        held = [held[choice[group[0]]] for held, group in zip(costs.held, costs.groups, strict=True)]
        self._sums = {name: np.sum([getattr(each, name) for each in held], axis=0) for name in ("lists", "channels")}
        self._load = sum(loads[option] for loads, option in zip(self._loads, choice, strict=True))
        self._lacking = sum(beyond[option] for beyond, option in zip(self._beyond, choice, strict=True))
        #: How often a change was kept.
        self._changes = 0
        self._take([self._cycles_at(step) for step in range(len(choice))])

    def _take(self, cycles: list[tuple[float, ...]]) -> None:
        """Note the cycles of the choice."""
        self._cycles, self._total = cycles, sum(chain.from_iterable(cycles))
        if self._streamed:
            self._reading = Reading(self._rows(0), cycles, self._config)

    def _rows(self, first: int) -> list[np.ndarray]:
        """Of the steps from that one on."""
        return [rows[option] for rows, option in zip(self._costs.rows[first:], self._choice[first:], strict=True)]

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
        return self._lists_lack(None) + self._channels_lack(None) + self._words_lack(None)

    def cost(self, price: float) -> float:
        """Cycles of the choice, with a price on every missing word."""
        total = self._reading.cycles if self._streamed else self._total
        return total + price * self.excess() if price else total

    def _try(self, move: _Move, options: Sequence[int], price: float, most: float, *, keep: bool) -> float:
        """What the choice costs with other options of some layers, infinite if that isn't below ``most``; it is kept if
        it is.
        """
        before = [self._choice[steps[0]] for steps in move.members]
        load, lacking = self._load, self._lacking
        for steps, option, last in zip(move.members, options, before, strict=True):
            for step in steps:
                load += self._loads[step][option] - self._loads[step][last]
                lacking += self._beyond[step][option] - self._beyond[step][last]
        # No cost is below the time that reading all lists takes.
        if load > most * (1 + _ROUNDING):
            return inf
        self._set(move, options)
        cost, changed = inf, [self._cycles_at(step) for step in move.steps]
        # Nor is one below the sum of its cycles, which differs by what these differ, but for rounding.
        old, new = sum([sum(self._cycles[step]) for step in move.steps]), sum(map(sum, changed))
        total = self._total - old + new
        if total - _ROUNDING * (self._total + new) < most:
            cycles = list(self._cycles)
            for step, each in zip(move.steps, changed, strict=True):
                cycles[step] = each
            change = _Change(move, options, before, load, lacking)
            if self._streamed:
                first, below = move.steps[0], most - price * lacking
                run = self._reading.other(first, self._rows(first), cycles[first:], (total, load), below)
            else:
                run = sum(chain.from_iterable(cycles))
            cost = run if not price else self._priced(run, change, price, most)
        if not cost < most:
            self._set(move, before)
            return inf
        if keep:
            self._keep(change, cycles)
        else:
            self._set(move, before)
        return cost

    def _priced(self, run: float, change: _Change, price: float, most: float) -> float:
        """The cycles of a run with a price on every missing word, or only so much of it that it isn't below ``most``.

        What each memory lacks is found in turn, the quickest first.
        """
        missing = 0
        for lack in (self._lists_lack, self._channels_lack, self._words_lack):
            cost = run + price * missing
            if cost >= most:
                return cost
            missing += lack(change)
        return run + price * missing

    def _lists_lack(self, change: _Change | None) -> int:
        """Words that all cores' list memories lack, with a change."""
        if self._streamed:
            return self._lacking if change is None else change.lacking
        return int((self._held("lists", change).max(axis=1) - self._list_words).clip(0).sum())

    def _channels_lack(self, change: _Change | None) -> int:
        """Words that all cores' channel memories lack."""
        return int((self._held("channels", change) - self._config.channel_words).clip(0).sum())

    def _words_lack(self, change: _Change | None) -> int:
        """Words that activation memories lack."""
        return self._costs.short(tuple(self._words if change is None else self._words_with(change)))

    def _words_with(self, change: _Change) -> list[int]:
        """Words of every place, with a change that is set."""
        words = list(self._words)
        for place in change.move.places:
            words[place] = self._words_at(place)
        return words

    def _held(self, memory: str, change: _Change | None) -> np.ndarray:
        """What all layers take of a memory."""
        found: np.ndarray = self._sums[memory]
        if change is not None:
            for group, option, last in zip(change.move.groups, change.options, change.before, strict=True):
                held = self._costs.held[group]
                found = found + (getattr(held[option], memory) - getattr(held[last], memory))
        return found

    def _keep(self, change: _Change, cycles: list[tuple[float, ...]]) -> None:
        """Take a change that is set."""
        self._words = self._words_with(change)
        self._sums = {memory: self._held(memory, change) for memory in self._sums}
        self._load, self._lacking = change.load, change.lacking
        self._take(cycles)
        self._changes += 1

    def descend(self, price: float) -> None:
        """Change one layer or two that share a tensor, as long as that lowers the cost."""
        least, vain = self.cost(price), dict[tuple[int, ...], int]()
        for moves in (self._singles, self._pairs) * _ROUNDS:
            improved = True
            while improved:
                improved = False
                for move in moves:
                    # What was in vain still is, as long as nothing has changed since.
                    if vain.get(move.groups) == self._changes:
                        continue
                    vain[move.groups] = self._changes
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

    def _options(self, move: _Move) -> Iterator[tuple[int, ...]]:
        return product(*(range(len(self._costs.held[group])) for group in move.groups))
