"""Fifth pass: a place in the activation memories for every map."""

from collections.abc import Mapping
from dataclasses import dataclass

from hw.compiler.choose import Chosen
from hw.compiler.memory.memory_plan import Placement, plan_with_next
from hw.network.network import INPUT

__all__ = ["Placed", "place"]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A choice whose maps have places.

    Attributes
    ----------
    chosen : Chosen
    places : mapping of str to Placement
        Where every map lies.
    image_free : int
        The first step from which on the next image may arrive; as many as there are steps if that is the end.
    """

    chosen: Chosen
    places: Mapping[str, Placement]
    image_free: int


def place(chosen: Chosen) -> Placed:
    """Place the maps, so that the image's place is free as early as possible.

    Raises
    ------
    ShortageError
        When the banks don't hold them.
    """
    proven = chosen.expanded.proven
    found, free = plan_with_next(list(chosen.requests), INPUT, len(proven.steps), proven.config)
    places = {name: found[first] for name, (first, *_) in chosen.together.items() if first in found}
    return Placed(chosen=chosen, places=places, image_free=free)
