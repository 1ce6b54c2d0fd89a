"""Refuses SELECTs that leave the memories or differ from the network's, and layers that rely on none made before."""

from collections.abc import Sequence

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.base_layer import Layer, Tensor
from hw.network.layers import select_of
from hw.program.check.memory_state import Memories
from hw.program.instructions import Instruction, SourceFields, WindowFields
from hw.program.isa import MAX_MASKS, SelectKind, SelectUse
from hw.program.selection_encoding import USES, masks_of
from hw.program.tiles import slices
from hw.rules import require

__all__ = ["Selections", "check_selection", "check_use"]

#: What all cores must agree on.
_COMMON = ("kind", "pitch", "length", "count")


class Selections:
    """What the instructions so far have selected. The methods raise ValueError, naming the instruction."""

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._elements = False
        self._masks = 0

    def select(self, instruction: Instruction, following: Instruction, memories: Memories) -> None:
        """Check and replay a SELECT."""
        where = f"SELECT at {instruction.address}"
        require(self._config.selector, f"{where}: this config has no selector")
        require(
            following.cores and following.index == instruction.index,
            f"{where}: layer {instruction.index} must directly follow",
        )
        common = instruction.selections[0]
        for name in _COMMON:
            values = [getattr(core, name) for core in instruction.selections]
            require(len(set(values)) == 1, f"{where}: {name} must be the same in all cores, not {values}")
        kinds = [kind.value for kind in SelectKind]
        require(common.kind in kinds, f"{where}: kind must be in {kinds}, not {common.kind}")
        kind, pitch = SelectKind(common.kind), common.pitch
        if kind is SelectKind.ELEMENTS:
            require(pitch == 1, f"{where}: the words of elements must be scanned one by one, not at pitch {pitch}")
            self._elements = True
        else:
            require(
                1 <= pitch <= MAX_MASKS,
                f"{where}: a position must have 1 to {MAX_MASKS} words to select channels of, not {pitch}",
            )
            self._masks = pitch
        if kind is SelectKind.MASK:
            for number, selection in enumerate(instruction.selections):
                wrong = [mask for mask in selection.masks if mask > 0xFF]
                require(not wrong, f"{where}, core {number}: a mask must have 8 bits, not be {wrong[:1]}")
            return
        require(common.count, f"{where}: at least 1 must win, not 0")
        require(common.length, f"{where}: the longest slice must have a word, not 0")
        for number, core in enumerate(instruction.selections):
            require(
                core.words <= common.length,
                f"{where}, core {number}: {core.words} words must be at most the {common.length} of the longest slice",
            )
            memories.scan(f"{where}, core {number}", number, core, pitch)

    def use(self, where: str, source: SourceFields) -> None:
        """Check that what a layer relies on has been selected."""
        uses = [use.value for use in SelectUse]
        require(source.select in uses, f"{where}: select must be in {uses}, not {source.select}")
        use = SelectUse(source.select)
        require(use is not SelectUse.ELEMENTS or self._elements, f"{where}: no elements have been selected for it")
        last = source.first_mask + source.words
        require(
            use is not SelectUse.CHANNELS or last <= self._masks,
            f"{where}: its {last} masks must be at most the {self._masks} that have been selected",
        )


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
    rows = slices(height, config.cores)
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
