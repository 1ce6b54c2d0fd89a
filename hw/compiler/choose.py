"""Fourth pass: an option for every step, with the fewest expected cycles with which the memories suffice."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hw.compiler.expand import Expanded
from hw.compiler.memory.memory_plan import Request
from hw.compiler.search.partition_options import Option
from hw.compiler.search.search import Choice
from hw.compiler.steps.partition import Rows

__all__ = ["Chosen", "choose"]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A choice of options.

    Attributes
    ----------
    expanded : Expanded
        What there was to choose from.
    in_place : bool
        Whether sums are written over the residual operands that nothing reads after them.
    streamed : bool
        Whether lists are read during the run, where they don't all fit.
    list_words : int
        Words that were planned with in each list memory.
    choice : tuple of int
        Of each step: the number of its option.
    fits : bool
        Whether the memories suffice by the estimate.
    cycles : tuple of float
        Expected, of each command.
    windows : mapping of str to list of rows
        Which rows of every map each core keeps.
    requests : tuple of Request
        What every place in activation memory needs.
    together : mapping of str to tuple of str
        For every map, those in its place; the place has the name of the first.
    """

    expanded: Expanded
    in_place: bool
    streamed: bool
    list_words: int
    choice: Choice
    fits: bool
    cycles: tuple[float, ...]
    windows: Mapping[str, list[Rows]]
    requests: tuple[Request, ...]
    together: Mapping[str, tuple[str, ...]]

    @cached_property
    def compared(self) -> tuple[float, list[tuple[int, float] | None]]:
        """Expected cycles of a run to the end; and of each layer the number of the runner-up, the cheapest other option
        that takes other cycles and with which memories lack no more words, and the cycles of a run with it, if there is
        one.
        """
        planner = self.expanded.planner(in_place=self.in_place)
        return planner.compared(self.choice, self.list_words, streamed=self.streamed)

    @property
    def options(self) -> list[Option]:
        """The chosen one of every step."""
        return [options[number] for options, number in zip(self.expanded.options, self.choice, strict=True)]


def choose(expanded: Expanded, *, in_place: bool, streamed: bool, list_words: int) -> Chosen:
    """Choose; what is returned may still exceed the memories.

    Parameters
    ----------
    in_place, streamed, list_words
        As in :class:`Chosen`.
    """
    planner = expanded.planner(in_place=in_place)
    choice, fits = planner.cheapest(list_words, streamed=streamed)
    return Chosen(
        expanded=expanded,
        in_place=in_place,
        streamed=streamed,
        list_words=list_words,
        choice=choice,
        fits=fits,
        cycles=tuple(planner.command_cycles(choice)),
        windows=planner.windows(choice),
        requests=tuple(planner.requests(choice)),
        together=planner.together,
    )
