"""What selections are in a program: uses, masks, cycles."""

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.selection import Select
from hw.program.isa import SelectKind, SelectUse

__all__ = ["USES", "masks_of", "selection_cycles"]

#: What a layer relies on, by the kind of its selection.
USES = {"mask": SelectUse.CHANNELS, "elements": SelectUse.ELEMENTS, "channels": SelectUse.CHANNELS}


def masks_of(select: Select, words: int) -> tuple[int, ...]:
    """The masks of the channels that a selection names, one for each word of a position."""
    kept = np.zeros((words, WORD_CHANNELS), dtype=np.int64)
    kept.reshape(-1)[list(select.channels)] = 1
    return tuple(int(mask) for mask in kept @ (1 << np.arange(WORD_CHANNELS)))


def selection_cycles(kind: SelectKind, length: int, pitch: int, config: AcceleratorConfig) -> int:
    """Cycles of a SELECT (fields of :class:`hw.program.isa_select.Selection`) from its start to its end, whatever the
    activations.
    """
    if kind is SelectKind.MASK:
        return pitch + 5
    tally = (config.cores - 1).bit_length()
    if kind is SelectKind.CHANNELS:
        return pitch * (length + tally + 28 + WORD_CHANNELS * pitch)
    scans = 8 // config.selector
    return (scans + 1) * (length + 6 + tally) + scans * (3 + (1 << config.selector)) + config.cores + 15
