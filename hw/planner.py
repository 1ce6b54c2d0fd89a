"""Chooses the partition of every step: fewest expected cycles with which the memories suffice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import combinations, product

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.estimate import Estimate, estimate
from hw.memory_plan import Placement, Request, ShortageError, excess, plan
from hw.need import Need, least_passes, need, refusal
from hw.network import INPUT, Network
from hw.partition import Part, Partition, Rows, bands_of, is_everywhere, join, parts_of, read_rows, shares, window_words
from hw.rules import require
from hw.steps import Step, makers_of, maps_of, readers_of

__all__ = ["Choice", "Planner"]

#: Expected share of nonzero activations where nothing was measured: of maps, and of images.
_DENSITY, _IMAGE_DENSITY = 0.5, 1.0
#: Cycles that a missing word counts for, one search after the other.
_PRICES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
#: Searches over single steps and over pairs, in turn.
_ROUNDS = 2
#: Into how many times a command's lists the list memory may be divided where lists are read during the run.
_SHARES = (1, 3)

#: A choice: for each step, the number of one of its options.
Choice = tuple[int, ...]


@dataclass(frozen=True)
class _Held:
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
    def of(cls, costs: Sequence[Estimate]) -> "_Held":
        """``costs`` are those of the layer's steps; equal lists are held once."""
        different = {cost.lists: cost for cost in costs}.values()
        lists = sum(cost.pointers.sum(axis=0)[:, None] + cost.entries.sum(axis=0) for cost in different)
        return cls(np.asarray(lists), costs[0].channels)


class Planner:
    """Knows the possible partitions of all steps of a network and what they cost.

    Parameters
    ----------
    densities : dict of str to (float or None)
        Expected share of nonzero activations by tensor, 0..1; where it is missing or None, 0.5 (images: 1).
    in_place : bool
        Whether a sum is written over the residual operand that nothing reads after it. That saves memory, and may cost
        cycles: of maps in one place, each core keeps the same rows.

    Raises
    ------
    ValueError
        When a density is impossible, or a layer doesn't fit accumulators and list pointers in any partition.
    """

    def __init__(
        self,
        network: Network,
        steps: Sequence[Step],
        config: AcceleratorConfig,
        densities: Mapping[str, float | None] | None = None,
        *,
        in_place: bool = False,
    ):
        self._steps = list(steps)
        self._config = config
        self._in_place = in_place
        tensors = network.tensors()
        for name, density in (densities or {}).items():
            require(name in tensors, f"densities: {network.name} has no tensor {name!r}")
            require(density is None or 0 <= density <= 1, f"densities: {name} must be from 0 to 1, not {density}")
        known = {name: value for name, value in (densities or {}).items() if value is not None}
        known = dict.fromkeys(tensors, _DENSITY) | {INPUT: _IMAGE_DENSITY} | known
        self.maps = {name: tensors[tensor] for name, tensor in maps_of(network, steps).items()}
        # All steps of a layer, strip by strip, take the same option.
        layers = dict.fromkeys(step.layer.name for step in steps)
        self._groups = [[n for n, step in enumerate(steps) if step.layer.name == layer] for layer in layers]
        self._options: list[list[tuple[Partition, Estimate]]] = [[] for _ in steps]
        for group in self._groups:
            partitions = self._partitions([steps[n] for n in group])
            for n in group:
                density = known[steps[n].layer.inputs[0]]
                self._options[n] = [(each, estimate(steps[n], each, density, config)) for each in partitions]
        self._rows = [[cost.rows() for _, cost in options] for options in self._options]
        self._held = [
            [_Held.of(costs) for costs in zip(*([cost for _, cost in self._options[n]] for n in group), strict=True)]
            for group in self._groups
        ]
        readers = readers_of(steps)
        #: Names of the tensors that lie in one place, one after the other.
        self._together = _together(self._steps if in_place else [], readers)
        self._readers = {
            name: tuple(sorted({n for other in names for n in readers[other]}))
            for name, names in self._together.items()
        }
        #: Tensors of which winners are chosen: every core keeps the rows that it scans.
        self._scanned = {step.reads for step in steps if step.select is not None and step.select.kind != "mask"}
        self._window = lru_cache(maxsize=None)(self._window_of)
        self._reads = lru_cache(maxsize=None)(self._reads_of)
        self._short = lru_cache(maxsize=None)(self._short_of)
        self._words = lru_cache(maxsize=None)(self._words_of)
        self._cycles = lru_cache(maxsize=None)(self._cycles_of)
        made = makers_of(steps)
        apart = [(self._together[s.residual][0], self._together[s.reads][0]) for s in self._steps if s.residual]
        self._stored = {
            name: (first, frozenset(reads for residual, reads in apart if residual == name))
            for name, first in made.items()
            if self._together[name][0] == name
        }
        changes = [
            [tuple((n, option) for n in group) for option in range(len(self._options[group[0]]))]
            for group in self._groups
        ]
        self._single = [change for group in changes for change in group]
        group_of = {n: number for number, group in enumerate(self._groups) for n in group} | {-1: -1}
        neighbours = {
            pair
            for name, first in made.items()
            for pair in combinations(sorted({group_of[n] for n in (first, *readers[name])} - {-1}), 2)
        }
        self._pairs = [
            first + second for a, b in sorted(neighbours) for first, second in product(changes[a], changes[b])
        ]

    def _partitions(self, steps: Sequence[Step]) -> list[Partition]:
        """All partitions of a layer's steps that PEs and tables can hold, with as few commands as possible."""
        config, step = self._config, steps[0]
        height, _, channels = step.result.output.shape
        words = config.padded_channels(channels) // WORD_CHANNELS
        cores = 1 if step.raw else config.cores
        powers = [1 << n for n in range(cores.bit_length())]
        pairs = [(b, g) for b in powers for g in powers if b * g <= cores and b <= height and g <= words]
        if step.strip is not None:
            pairs = [(b, g) for b, g in pairs if b == len(step.strip.rows)]
        found: list[Partition] = []
        least: list[Need] = []
        ways = [
            (merged, upright)
            for merged in (True, False)
            for upright in ((False,) if step.kernel.total else (False, True))
        ]
        passes = least_passes(step)
        for (bands, groups), (merged, upright) in product(pairs, ways):
            for commands in range(1, 2 if step.raw else words // groups + 1):
                partition = Partition(bands, groups, commands, merged, passes, upright)
                unfit = [each for step in steps if not (each := need(step, partition, config)).fits(config)]
                if not unfit:
                    found.append(partition)
                    break
            else:
                least += unfit
        if config.loader:
            found += [smaller for partition in found for smaller in self._smaller(steps, partition)]
        if found:
            return found
        raise ValueError(refusal(step.layer.name, least, config))

    def _smaller(self, steps: Sequence[Step], partition: Partition) -> list[Partition]:
        """The same partition in more commands and passes, so that the lists of each are some part of the memory."""
        config, step, found = self._config, steps[0], []
        words = config.padded_channels(step.result.output.shape[2]) // WORD_CHANNELS // partition.groups
        deep = 1 if step.kernel.own or step.select else -(-step.source.shape[2] // WORD_CHANNELS)

        def size(smaller: Partition) -> int:
            return max(rows for step in steps for rows, _ in estimate(step, smaller, _DENSITY, config).rows())

        for deeper, least, most in (
            (True, partition.passes + 1, deep),
            (False, partition.commands + 1, 1 if step.raw else words),
        ):
            for share in _SHARES:
                for count in range(least, most + 1):
                    smaller = replace(partition, passes=count) if deeper else replace(partition, commands=count)
                    if not all(need(step, smaller, config).fits(config) for step in steps):
                        break
                    if size(smaller) * share <= config.list_words:
                        found.append(smaller)
                        break
        return [smaller for smaller in dict.fromkeys(found) if size(partition) * max(_SHARES) > config.list_words]

    def partitions(self, choice: Choice) -> list[Partition]:
        """The partition of every step."""
        return [options[number][0] for options, number in zip(self._options, choice, strict=True)]

    def _reads_of(self, tensor: str, step: int, option: int) -> list[Rows]:
        return read_rows(self._steps[step], tensor, self._options[step][option][0], self._config.cores)

    def _window_of(self, tensor: str, options: tuple[int, ...]) -> list[Rows]:
        """Rows of a tensor that each core keeps, given the options of those that read what lies in its place."""
        found = [
            self._reads(name, n, option)
            for name in self._together[tensor]
            for n, option in zip(self._readers[tensor], options, strict=True)
        ]
        if self._scanned.intersection(self._together[tensor]):
            scanned = shares(self.maps[tensor].shape[0], self._config.cores)
            found.append([share if share[0] < share[1] else None for share in scanned])
        return [join(rows[core] for rows in found) for core in range(self._config.cores)]

    def windows(self, choice: Choice) -> dict[str, list[Rows]]:
        """Rows of every tensor that each core keeps."""
        return {name: self._window(name, self._of_readers(name, choice)) for name in self._readers}

    def _cycles_of(self, number: int, option: int, readers: tuple[int, ...]) -> tuple[float, ...]:
        step, (partition, cost) = self._steps[number], self._options[number][option]
        if step.raw:
            return cost.cycles(self._config.lanes == 2)
        windows = self._window(step.writes, readers)
        slow = self._config.slow_exchange and is_everywhere(_makers(step, partition), windows, self._config.cores)
        return cost.cycles(step.residual is not None or slow)

    def cycles(self, choice: Choice) -> float:
        """Expected cycles of the whole network."""
        return sum(self.command_cycles(choice))

    def command_cycles(self, choice: Choice) -> list[float]:
        """Expected cycles of every command."""
        return [
            cycles
            for n, (step, option) in enumerate(zip(self._steps, choice, strict=True))
            for cycles in self._cycles(n, option, self._of_readers(step.writes, choice))
        ]

    def _words_of(self, tensor: str, options: tuple[int, ...]) -> int:
        """Words of the largest window of a tensor that any core keeps."""
        return window_words(self._window(tensor, options), self.maps[tensor].shape, self._config)

    def requests(self, choice: Choice) -> list[Request]:
        """What every place needs of the activation memory; it has the name of the first tensor there."""
        return self._requests(tuple(self._words(name, self._of_readers(name, choice)) for name in self._stored))

    def places(self, found: Mapping[str, Placement]) -> dict[str, Placement]:
        """The place of every stored tensor, given those found for :meth:`requests`."""
        return {name: found[first] for name, (first, *_) in self._together.items() if first in found}

    def _of_readers(self, tensor: str, choice: Choice) -> tuple[int, ...]:
        """The options of the steps that read what lies in a tensor's place."""
        return tuple(choice[n] for n in self._readers[tensor])

    def _requests(self, words: tuple[int, ...]) -> list[Request]:
        return [
            Request(name=name, words=size, first=first, last=max(self._readers[name], default=first), apart=apart)
            for size, (name, (first, apart)) in zip(words, self._stored.items(), strict=True)
        ]

    def _short_of(self, words: tuple[int, ...]) -> int:
        """Words by which activation memory is too small for tensors of these sizes, summed over tensors and steps."""
        requests, capacity = self._requests(words), self._config.activation_words
        missing = excess(requests, capacity)
        if not missing:
            try:
                plan(requests, self._config)
            except ShortageError:
                missing = capacity // 16  # Each by itself fits: smaller tensors are easier to arrange.
        return missing

    def _excess(self, choice: Choice, list_words: int) -> int:
        """Words by which the memories are too small; of lists and channels, summed over the cores."""
        lists = np.sum([held.lists for held in self._held_by(choice)], axis=0).max(axis=1)
        return int((lists - list_words).clip(0).sum()) + self._other_excess(choice)

    def _other_excess(self, choice: Choice) -> int:
        """Words by which channel and activation memories are too small."""
        channels = np.sum([held.channels for held in self._held_by(choice)], axis=0)
        words = tuple(self._words(name, self._of_readers(name, choice)) for name in self._stored)
        return int((channels - self._config.channel_words).clip(0).sum()) + self._short(words)

    def _held_by(self, choice: Choice) -> list["_Held"]:
        return [held[choice[group[0]]] for held, group in zip(self._held, self._groups, strict=True)]

    def _rows_of(self, choice: Choice) -> list[tuple[int, int]]:
        """List words and rows of every command; :meth:`hw.estimate.Estimate.rows`."""
        return [rows for n, option in enumerate(choice) for rows in self._rows[n][option]]

    def _streamed_excess(self, choice: Choice) -> int:
        """Words by which the memories are too small, if they hold one command's lists at a time."""
        lists = sum(max(0, words - self._config.list_words) for words, _ in self._rows_of(choice))
        return lists * self._config.cores + self._other_excess(choice)

    def streamed_cycles(self, choice: Choice) -> float:
        """Expected cycles of the whole network if lists are read as soon as those before leave room for them."""
        capacity, beats = self._config.list_words, self._config.row_beats
        rows, ends, loaded = self._rows_of(choice), [0.0], 0.0
        oldest = held = 0
        for (words, count), cycles in zip(rows, self.command_cycles(choice), strict=True):
            held += words
            while held > capacity and oldest < len(ends) - 1:
                held -= rows[oldest][0]
                oldest += 1
            loaded = max(loaded, ends[oldest]) + count * beats
            ends.append(max(ends[-1], loaded) + cycles)
        return ends[-1]

    def choose(self, list_words: int) -> tuple[Choice, bool]:
        """The cheapest choice found whose estimate fits the memories, and whether it does fit.

        Descends from the cheapest option of each step, with a price on every missing word that rises until none is.

        Parameters
        ----------
        list_words : int
            Words that may be planned with in each list memory.
        """
        return self._search(self.cycles, lambda choice: self._excess(choice, list_words))

    def choose_streamed(self) -> Choice:
        """The cheapest choice found if lists are read while the layers before are at work."""
        return self._search(self.streamed_cycles, self._streamed_excess)[0]

    def _search(self, cycles: Callable[[Choice], float], excess: Callable[[Choice], int]) -> tuple[Choice, bool]:
        """The cheapest choice found that has no excess, and whether it has none."""
        choice = self._descend(tuple(0 for _ in self._steps), cycles)
        for price in _PRICES:
            if not excess(choice):
                return choice, True
            choice = self._descend(choice, partial(_priced, cycles, excess, price))
        if self._in_place and excess(choice):
            # Maps that lie in one place take less of it only when all their readers are cut in bands: no single change
            # leads there, but single changes lead away from there, to groups and wider lists where these save most.
            narrow = [[(part.bands, not part.merged) for part, _ in options] for options in self._options]
            bands = tuple(max(range(len(keys)), key=keys.__getitem__) for keys in narrow)
            cost = partial(_priced, cycles, excess, _PRICES[-1])
            choice = self._descend(self._fall(bands, cost), cost)
        return choice, not excess(choice)

    def _fall(self, choice: Choice, cost: Callable[[Choice], float]) -> Choice:
        """Change one step at a time, the one that lowers the cost most, as long as one does."""
        while True:
            best = min((_changed(choice, changes) for changes in self._single), key=cost)
            if cost(best) >= cost(choice):
                return choice
            choice = best

    def _descend(self, choice: Choice, cost: Callable[[Choice], float]) -> Choice:
        """Change one step or two that share a tensor, as long as that lowers the cost."""
        least = cost(choice)
        for moves in (self._single, self._pairs) * _ROUNDS:
            improved = True
            while improved:
                improved = False
                for changes in moves:
                    other = _changed(choice, changes)
                    found = cost(other)
                    if found < least:
                        choice, least, improved = other, found, True
        return choice


def _changed(choice: Choice, changes: tuple[tuple[int, int], ...]) -> Choice:
    """A choice with other options of some steps."""
    other = list(choice)
    for step, option in changes:
        other[step] = option
    return tuple(other)


def _priced(cycles: Callable[[Choice], float], excess: Callable[[Choice], int], price: float, choice: Choice) -> float:
    """Cycles of a choice, with a price on every missing word."""
    return cycles(choice) + price * excess(choice)


def _together(steps: Sequence[Step], readers: Mapping[str, list[int]]) -> dict[str, tuple[str, ...]]:
    """For every tensor, those in its place: a sum is written over the residual operand that nothing reads after it.

    Each core reads its words of the operand in the order in which it makes the same words of the sum, and before it
    makes them. The image has its place for itself: the next one may already arrive there.
    """
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in readers}
    for number, step in enumerate(steps):
        operand = step.residual
        if operand is not None and operand != INPUT and readers[operand][-1] == number:
            names = (*found[operand], step.writes)
            found.update(dict.fromkeys(names, names))
    return found


def _makers(step: Step, partition: Partition) -> list[Part]:
    """Who makes which rows, whatever the words."""
    return parts_of(bands_of(step, partition.bands), (0, partition.groups), partition.groups)
