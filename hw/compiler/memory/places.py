"""Which tensors lie in one place of the activation memories, when, and how many words they need at least."""

from collections.abc import Mapping, Sequence

from hw.compiler.memory.memory_plan import Request
from hw.compiler.steps.partition import most_tiles, read_rows, window_words
from hw.compiler.steps.step import Step, makers_of, readers_of
from hw.config import AcceleratorConfig
from hw.network.network import INPUT, Tensor

__all__ = ["Places"]


class Places:
    """The places of the maps that steps write.

    Parameters
    ----------
    in_place : bool
        Whether a sum is written over the residual operand that nothing reads after it.

    Attributes
    ----------
    together : dict of str to tuple of str
        For every map, those in its place, one after the other; the place has the name of the first.
    readers : dict of str to tuple of int
        For every map, the steps that read what lies in its place.
    names : tuple of str
        Places.
    """

    def __init__(self, steps: Sequence[Step], *, in_place: bool):
        self._steps = steps
        readers, made = readers_of(steps), makers_of(steps)
        self.together = _together(steps if in_place else [], readers)
        self.readers = {
            name: tuple(sorted({n for other in names for n in readers[other]})) for name, names in self.together.items()
        }
        apart = [(self.together[s.residual][0], self.together[s.reads][0]) for s in steps if s.residual]
        self._stored = {
            name: (first, frozenset(reads for residual, reads in apart if residual == name))
            for name, first in made.items()
            if self.together[name][0] == name
        }
        self.names = tuple(self._stored)

    def requests(self, words: Sequence[int]) -> list[Request]:
        """What every place needs of the activation memory, if it has so many words."""
        return [
            Request(name=name, words=size, first=first, last=max(self.readers[name], default=first), apart=apart)
            for size, (name, (first, apart)) in zip(words, self._stored.items(), strict=True)
        ]

    def least(self, maps: Mapping[str, Tensor], config: AcceleratorConfig) -> list[Request]:
        """What every place needs in any partition: what the reader of most rows reads, in as many bands as it can."""
        return self.requests(
            [
                max(
                    (self._read(tensor, n, maps, config) for tensor in self.together[name] for n in self.readers[name]),
                    default=0,
                )
                for name in self.names
            ]
        )

    def _read(self, tensor: str, number: int, maps: Mapping[str, Tensor], config: AcceleratorConfig) -> int:
        """Words of a map that some core keeps for one of its readers."""
        step = self._steps[number]
        rows = read_rows(step, tensor, most_tiles(step, config.cores), config.cores)
        return window_words(rows, maps[tensor].shape, config)


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
