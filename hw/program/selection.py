"""A program selects what its network says."""

from collections.abc import Sequence

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.layers import Layer, Tensor, select_of
from hw.network.selection import Select
from hw.program.instructions import Instruction, SourceFields, WindowFields
from hw.program.isa import SelectKind, SelectUse
from hw.program.parts import shares

__all__ = ["USES", "check_selection", "check_use", "masks_of", "selection_cycles"]

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


def check_selection(
    where: str,
    layer: Layer,
    source: Tensor,
    instruction: Instruction | None,
    windows: Sequence[WindowFields],
    config: AcceleratorConfig,
) -> None:
    """Refuse the SELECT before a layer's first command, or that there is one or none.

    Parameters
    ----------
    source : Tensor
        What the layer reads.
    instruction : Instruction or None
        The SELECT, if there is one.
    windows : sequence of WindowFields
        What each core keeps of it.
    """
    select = select_of(layer)
    if (select is None) != (instruction is None):
        raise ValueError(f"{where}: a SELECT must stand before {layer.name} if that selects, and only then")
    if select is None or instruction is None:
        return
    height, width, channels = source.shape
    pitch = config.padded_channels(channels) // WORD_CHANNELS
    unit = 1 if select.kind == "elements" else pitch
    common = {"kind": SelectKind[select.kind.upper()].value, "pitch": unit, "count": select.count}
    rows = shares(height, config.cores)
    for number, (core, window) in enumerate(zip(instruction.selections, windows, strict=True)):
        wanted = dict(common)
        if select.kind == "mask":
            expected = masks_of(select, pitch)
            if core.masks != expected:
                raise ValueError(f"{where}: core {number}'s masks must be {expected}, not {core.masks}")
        else:
            first, last = (row * width * pitch for row in rows[number])
            wanted |= {"words": (last - first) // unit, "shift": window.base - window.low}
            if last > first:
                wanted |= {"bank": window.bank, "base": window.base + first - window.low}
                if first < window.low or last > window.low + window.count:
                    raise ValueError(f"{where}: core {number} scans words {first} to {last}, which it doesn't keep")
        found = {name: getattr(core, name) for name in wanted}
        if found != wanted:
            raise ValueError(f"{where}: core {number} must select by {wanted}, not {found}")


def check_use(where: str, layer: Layer, source: SourceFields, first: int) -> None:
    """Refuse a walk, from word ``first`` of a position on, that relies on another selection than the layer's."""
    select = select_of(layer)
    use = SelectUse.ALL if select is None else USES[select.kind]
    wanted = (use.value, first if use is SelectUse.CHANNELS else 0)
    found = (source.select, source.first_mask)
    if found != wanted:
        raise ValueError(f"{where}: selection and first mask must be {wanted}, not {found}")
