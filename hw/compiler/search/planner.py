"""What choices of options cost together, and the cheapest with which the memories suffice."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations

from hw.compiler.memory.memory_plan import Request, excess, plan
from hw.compiler.memory.places import Places
from hw.compiler.search.partition_options import Option
from hw.compiler.search.search import Choice, Costs, Held, Search
from hw.compiler.steps.partition import Rows, is_everywhere, join, read_rows, window_words
from hw.compiler.steps.step import Step, makers_of, readers_of
from hw.config import AcceleratorConfig
from hw.network.network import Tensor
from hw.program.tiles import slices
from hw.rules import ShortageError

__all__ = ["Planner"]

#: Cycles that a missing word counts for, one search after the other.
_PRICES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


class Planner:
    """Knows the options of all steps of a network and what they cost together.

    Parameters
    ----------
    maps : mapping of str to Tensor
        The tensor that each map is of, or of whose rows it holds some.
    options : sequence of sequence of Option
        Of each step.
    groups : sequence of sequence of int
        The steps of each layer, strip by strip: they take the same option.
    in_place : bool
        Whether a sum is written over the residual operand that nothing reads after it. That saves memory, and may cost
        cycles: of maps in one place, each core keeps the same rows.
    """

    def __init__(
        self,
        maps: Mapping[str, Tensor],
        steps: Sequence[Step],
        options: Sequence[Sequence[Option]],
        groups: Sequence[Sequence[int]],
        config: AcceleratorConfig,
        *,
        in_place: bool = False,
    ):
        self._steps = steps
        self._config = config
        self._in_place = in_place
        self._maps = maps
        self._options = options
        self._places = Places(self._steps, in_place=in_place)
        self._readers = self._places.readers
        #: Tensors of which winners are chosen: every core keeps the rows that it scans.
        self._scanned = {step.reads for step in steps if step.select is not None and step.select.kind != "mask"}
        self._window = lru_cache(maxsize=None)(self._window_of)
        self._reads = lru_cache(maxsize=None)(self._reads_of)
        self._short = lru_cache(maxsize=None)(self._short_of)
        self._words = lru_cache(maxsize=None)(self._words_of)
        self._cycles = lru_cache(maxsize=None)(self._cycles_of)
        group_of = {n: number for number, group in enumerate(groups) for n in group} | {-1: -1}
        readers = readers_of(steps)
        neighbours = {
            pair
            for name, first in makers_of(steps).items()
            for pair in combinations(sorted({group_of[n] for n in (first, *readers[name])} - {-1}), 2)
        }
        self._costs = self._costs_of(groups, sorted(neighbours))

    def _costs_of(self, groups: Sequence[Sequence[int]], neighbours: list[tuple[int, int]]) -> Costs:
        """What choices are compared by."""
        costs = [[option.cost for option in options] for options in self._options]
        names = self._places.names
        return Costs(
            groups=[list(group) for group in groups],
            neighbours=neighbours,
            held=[[Held.of(each) for each in zip(*(costs[n] for n in group), strict=True)] for group in groups],
            rows=[[cost.rows() for cost in each] for each in costs],
            cycles=self._cycles,
            readers=[self._readers[step.writes] for step in self._steps],
            words=lambda place, options: self._words(names[place], options),
            places=[self._readers[name] for name in names],
            short=self._short,
        )

    def _reads_of(self, tensor: str, step: int, option: int) -> list[Rows]:
        return read_rows(self._steps[step], tensor, self._options[step][option].expansion.tiles, self._config.cores)

    def _window_of(self, tensor: str, options: tuple[int, ...]) -> list[Rows]:
        """Rows of a tensor that each core keeps, given the options of those that read what lies in its place."""
        found = [
            self._reads(name, n, option)
            for name in self._places.together[tensor]
            for n, option in zip(self._readers[tensor], options, strict=True)
        ]
        if self._scanned.intersection(self._places.together[tensor]):
            scanned = slices(self._maps[tensor].shape[0], self._config.cores)
            found.append([rows if rows[0] < rows[1] else None for rows in scanned])
        return [join(rows[core] for rows in found) for core in range(self._config.cores)]

    def windows(self, choice: Choice) -> dict[str, list[Rows]]:
        """Rows of every tensor that each core keeps."""
        return {name: self._window(name, self._of_readers(name, choice)) for name in self._readers}

    def _cycles_of(self, number: int, option: int, readers: tuple[int, ...]) -> tuple[float, ...]:
        step, found = self._steps[number], self._options[number][option]
        if step.raw:
            return found.cost.cycles(self._config.lanes == 2)
        windows = self._window(step.writes, readers)
        slow = self._config.slow_exchange and is_everywhere(found.expansion.tiles, windows, self._config)
        return found.cost.cycles(slow or (step.residual is not None and not self._config.fast_sums))

    def command_cycles(self, choice: Choice) -> list[float]:
        """Expected cycles of every command."""
        return [
            cycles
            for n, (step, option) in enumerate(zip(self._steps, choice, strict=True))
            for cycles in self._cycles(n, option, self._of_readers(step.writes, choice))
        ]

    def _words_of(self, tensor: str, options: tuple[int, ...]) -> int:
        """Words of the largest window of a tensor that any core keeps."""
        return window_words(self._window(tensor, options), self._maps[tensor].shape, self._config)

    def requests(self, choice: Choice) -> list[Request]:
        """What every place needs of the activation memory; it has the name of the first tensor there."""
        return self._places.requests([self._words(name, self._of_readers(name, choice)) for name in self._places.names])

    @property
    def together(self) -> Mapping[str, tuple[str, ...]]:
        """For every map, those in its place, one after the other."""
        return self._places.together

    def _of_readers(self, tensor: str, choice: Choice) -> tuple[int, ...]:
        """The options of the steps that read what lies in a tensor's place."""
        return tuple(choice[n] for n in self._readers[tensor])

    def _short_of(self, words: tuple[int, ...]) -> int:
        """Words by which activation memory is too small for tensors of these sizes, summed over tensors and steps."""
        requests = self._places.requests(words)
        missing = excess(requests, self._config)
        if not missing:
            try:
                plan(requests, self._config)
            except ShortageError:
                # Each by itself fits: smaller tensors are easier to arrange.
                missing = self._config.activation_words // 16
        return missing

    def compared(
        self, choice: Choice, list_words: int, *, streamed: bool
    ) -> tuple[float, list[tuple[int, float] | None]]:
        """Expected cycles of a choice, and :meth:`hw.compiler.search.search.Search.runners_up`."""
        search = Search(self._costs, choice, list_words, streamed, self._config)
        return search.cost(0), search.runners_up()

    def cheapest(self, list_words: int, *, streamed: bool = False) -> tuple[Choice, bool]:
        """The cheapest choice found whose estimate fits the memories, and whether it does fit.

        Descends from the cheapest option of each step, with a price on every missing word that rises until none is.

        Parameters
        ----------
        list_words : int
            Words that may be planned with in each list memory.
        streamed : bool
            Whether lists are read while the layers before are at work; else all are kept.
        """
        search = Search(self._costs, tuple(0 for _ in self._steps), list_words, streamed, self._config)
        search.descend(0)
        for price in _PRICES:
            if not search.excess():
                return search.choice, True
            search.descend(price)
        if self._in_place and search.excess():
            # Maps that lie in one place take less of it only when all their readers are cut in bands: no single change
            # leads there, but single changes lead away from there, to groups and wider lists where these save most.
            narrow = [
                [(option.partition.bands, not option.partition.merged) for option in options]
                for options in self._options
            ]
            bands = tuple(max(range(len(keys)), key=keys.__getitem__) for keys in narrow)
            search = Search(self._costs, bands, list_words, streamed, self._config)
            search.fall(_PRICES[-1])
            search.descend(_PRICES[-1])
        return search.choice, not search.excess()
