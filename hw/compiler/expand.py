"""Third pass: every step under every partition that PEs and tables can hold, expanded into what each core does."""

from dataclasses import dataclass
from functools import cached_property

from hw.compiler.prove import Proven
from hw.compiler.search.partition_options import Option, Options
from hw.compiler.search.planner import Planner
from hw.compiler.steps.step import maps_of
from hw.rules import MisfitError

__all__ = ["Expanded", "expand"]


@dataclass(frozen=True, kw_only=True)
class Expanded:
    """Steps, whole or in strips, and their options.

    Attributes
    ----------
    proven : Proven
        The steps.
    groups : tuple of tuple of int
        The steps of each layer, strip by strip: they take the same option.
    options : tuple of tuple of Option
        Of each step, as many as of every other of its layer.
    """

    proven: Proven
    groups: tuple[tuple[int, ...], ...]
    options: tuple[tuple[Option, ...], ...]

    @cached_property
    def _planners(self) -> dict[bool, Planner]:
        return {}

    def planner(self, *, in_place: bool) -> Planner:
        """What the options cost together; every choice is made from the same one."""
        if in_place not in self._planners:
            network, steps = self.proven.network, self.proven.steps
            self._planners[in_place] = Planner(
                maps_of(network, steps), steps, self.options, self.groups, self.proven.config, in_place=in_place
            )
        return self._planners[in_place]


def expand(proven: Proven, all_options: Options) -> Expanded:
    """Expand every step, strips as whole ones.

    Parameters
    ----------
    all_options : Options
        What is expanded once for all attempts to compile the network.

    Raises
    ------
    MisfitError
        When layers fit accumulators, list pointers and tables in no partition; the message names them and the rules.
    """
    steps = proven.steps
    layers = dict.fromkeys(step.layer.name for step in steps)
    groups = tuple(tuple(n for n, step in enumerate(steps) if step.layer.name == layer) for layer in layers)
    options: dict[int, tuple[Option, ...]] = {}
    misfits = []
    for group in groups:
        try:
            partitions = all_options.of([steps[n] for n in group])
        except MisfitError as error:
            misfits.append(str(error))
            continue
        for n in group:
            options[n] = tuple(all_options.option(steps[n], each) for each in partitions)
    if misfits:
        raise MisfitError("; ".join(misfits))
    return Expanded(proven=proven, groups=groups, options=tuple(options[n] for n in range(len(steps))))
