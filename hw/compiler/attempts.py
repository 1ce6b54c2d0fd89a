"""What is tried in turn to compile a network, and why each attempt failed; what costs fewest cycles comes first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hw.compiler.choose import Chosen, choose
from hw.compiler.emit import emit
from hw.compiler.expand import Expanded, expand
from hw.compiler.place import Placed, place
from hw.compiler.prove import Proven
from hw.compiler.schedule import Scheduled, schedule
from hw.compiler.search.least import activations_lack, lists_lack
from hw.compiler.search.partition_options import Options
from hw.compiler.search.propagate import channels_lack
from hw.compiler.search.strips import cuts_in_strips
from hw.program.program import Program
from hw.rules import MisfitError, ShortageError

__all__ = ["Attempt", "Way", "attempts"]


@dataclass(frozen=True)
class Way:
    """A way to compile.

    Attributes
    ----------
    proven : Proven
        The steps, whole or in strips.
    in_place : bool
        Whether sums are written over the residual operands that nothing reads after them.
    streamed : bool
        Whether lists are read during the run, where they don't all fit.
    """

    proven: Proven
    in_place: bool = False
    streamed: bool = False

    @property
    def strips(self) -> int:
        """In how many strips its layers are cut; 1 if all are whole."""
        return max(1 if step.strip is None else step.strip.number + 1 for step in self.proven.steps)

    @property
    def described(self) -> str:
        """In words."""
        maps = "whole maps" if self.strips == 1 else f"maps in {self.strips} strips"
        sums = ", sums over their operands" if self.in_place else ""
        return f"{maps}{sums}{', lists read during the run' if self.streamed else ''}"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A way that was tried, and how far it came.

    Attributes
    ----------
    way : Way
    chosen : Chosen or None
        None where it was refused before anything was chosen.
    placed : Placed or None
    scheduled : Scheduled or None
    program : Program or None
    refusal : MisfitError or None
        Why there is no program.
    """

    way: Way
    chosen: Chosen | None = None
    placed: Placed | None = None
    scheduled: Scheduled | None = None
    program: Program | None = None
    refusal: MisfitError | None = None


def attempts(whole: Expanded, options: Options, report: Callable[[str], None] = lambda text: None) -> Iterator[Attempt]:
    """Every attempt, up to the first that makes a program.

    Whole maps are tried before strips, all lists at hand before lists read during the run, and sums with places of
    their own before sums written over their operands. Of whole maps, only what memories lack is a reason to go on.

    Parameters
    ----------
    report : function
        Called with what is tried.
    """
    proven = whole.proven
    config = proven.config
    lists = _lists_lack(whole)
    ways = [(False, False), (True, False), (True, True)] if config.loader else [(False, False), (False, True)]
    for streamed, in_place in ways:
        way = Way(proven, in_place, streamed)
        lacks = [
            activations_lack(proven.network, proven.steps, config, in_place=in_place),
            None if streamed else lists,
        ]
        certain = [lack for lack in lacks if lack is not None]
        together = (
            None if certain else channels_lack(proven.network, proven.steps, whole.options, config, in_place=in_place)
        )
        if together is not None:
            certain.append(together)
        if certain:
            reason = ShortageError("; ".join(map(str, certain)), max(lack.words for lack in certain))
            yield Attempt(way=way, refusal=reason)
            continue
        report(way.described)
        for attempt in _with_less(way, whole):
            yield attempt
        if not isinstance(attempt.refusal, ShortageError):
            return
    for in_strips in cuts_in_strips(proven.network, proven.steps, config):
        cut = replace(proven, steps=tuple(in_strips))
        try:
            strips = expand(cut, options)
        except MisfitError as refusal:  # Strips may also break what the whole layers keep to: bands, tables.
            yield Attempt(way=Way(cut), refusal=refusal)
            continue
        lists = _lists_lack(strips)
        for streamed in (False, True) if config.loader else (False,):
            way = Way(cut, streamed=streamed)
            if lists is not None and not streamed:
                yield Attempt(way=way, refusal=lists)
                continue
            report(way.described)
            for attempt in _with_less(way, strips):
                yield attempt
            if attempt.program is not None:
                return


def _lists_lack(expanded: Expanded) -> ShortageError | None:
    """What list memories lack whatever is chosen; strips of a layer share lists, so that one of them counts."""
    steps, first = expanded.proven.steps, [group[0] for group in expanded.groups]
    return lists_lack([steps[n] for n in first], [expanded.options[n] for n in first], expanded.proven.config)


def _with_less(way: Way, expanded: Expanded) -> Iterator[Attempt]:
    """Attempts in a way, with fewer list words each time that the estimate was too low."""
    list_words = way.proven.config.list_words
    while True:
        attempt = _attempt(way, expanded, list_words)
        yield attempt
        refusal, chosen = attempt.refusal, attempt.chosen
        if way.streamed or chosen is None or not chosen.fits or not isinstance(refusal, ShortageError):
            return
        list_words -= refusal.words


def _attempt(way: Way, expanded: Expanded, list_words: int) -> Attempt:
    """The passes behind the expansion, as far as they come."""
    chosen = choose(expanded, in_place=way.in_place, streamed=way.streamed, list_words=list_words)
    placed = scheduled = program = refusal = None
    try:
        placed = place(chosen)
        scheduled = schedule(placed)
        program = emit(scheduled)
    except MisfitError as error:
        refusal = error
    return Attempt(way=way, chosen=chosen, placed=placed, scheduled=scheduled, program=program, refusal=refusal)
