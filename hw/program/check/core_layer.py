"""What one core does in a LAYER stays in its memories, and takes out of the accumulators all that it puts there."""

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.numerics import Rounding, clamp, requantize
from hw.program.check.memory_state import Memories, walk_order
from hw.program.instructions import CoreLayer, SourceFields, TargetFields
from hw.program.isa import MAX_CLASSES, NUMBERS, Row
from hw.program.list_memory import unpack_entries, unpack_pointers
from hw.rules import require

__all__ = ["ListContents", "check_core", "numbers_of"]

#: Lists that a kernel row can begin with.
_LISTS = 1 << Row.fields["list"].bits
#: More than any word of a list says of an accumulator.
_OFFSETS = 1 << 32
#: Words of each PE of a core, and which of them are certain, as :class:`hw.program.list_memory.ListMemory` says it.
ListContents = tuple[np.ndarray, np.ndarray]


def check_core(
    where: str,
    k: int,
    part: CoreLayer,
    images: dict[str, np.ndarray],
    lists: ListContents,
    memories: Memories,
    filled: np.ndarray,
    config: AcceleratorConfig,
) -> np.ndarray:
    """Check what one core does in a layer; returns which channels may be nonzero, by word of its positions."""
    source, lane, residual = part.source, part.lane, part.residual
    require(part.rows and part.columns and source.words, f"{where}: it must have rows, columns and words of a position")
    require(source.threshold, f"{where}: the threshold must be at least 1, not 0")
    slots, outputs, channels = source.slots, lane.outputs, lane.channels
    require(
        source.blank_rows < len(part.rows),
        f"{where}: blank rows must be fewer than all {len(part.rows)}, not {source.blank_rows}",
    )
    require(
        slots * config.pes == channels and slots <= config.accumulators,
        f"{where}: {slots} accumulators a position on {config.pes} PEs must make the {channels} channels",
    )
    dumps = sum(row.final for row in part.rows) * sum(column.dumps for column in part.columns)
    require(
        outputs and dumps * channels == outputs,
        f"{where}: {dumps} positions of {channels} channels don't make {outputs} outputs",
    )
    require(
        channels and not channels % WORD_CHANNELS and not outputs % channels,
        f"{where}: channels must be a multiple of {WORD_CHANNELS} that divides the outputs, not {channels}",
    )
    size = images["bias"].shape[1]
    last = lane.channel_base * WORD_CHANNELS + channels
    require(last <= size, f"{where}: channel parameters reach to {last}, beyond the {size} words of their images")
    _check_rate(where, part, config)
    used = memories.read(where, k, source)
    fed = _fed(where, part, _lists_of(used, source, config), lists, filled, config)
    if lane.raw:
        require(
            2 <= lane.classes <= min(MAX_CLASSES, channels),
            f"{where}: a head must have 2 to {min(MAX_CLASSES, channels)} classes, not {lane.classes}",
        )
        require(outputs == channels and not residual.enable, f"{where}: a head must be one position without residual")
    active = (fed | (_unfed(part, k, images) != 0)).reshape(-1, WORD_CHANNELS)
    if residual.enable:
        require(residual.bank != source.bank, f"{where}: input and residual must lie in different banks")
        target = part.target
        _check_columns(where, target, outputs // channels)
        active |= memories.operand(where, k, residual, target, outputs // channels, len(active))
    return active


def _check_rate(where: str, part: CoreLayer, config: AcceleratorConfig) -> None:
    """The lanes are slow where something behind them can't follow."""
    lane = part.lane
    reasons = {
        "a residual operand": part.residual.enable,
        "logits of two lanes": lane.raw and config.lanes == 2,
        "words for all cores": not lane.raw and part.target.everywhere and config.slow_exchange,
    }
    for reason, holds in reasons.items():
        require(lane.slow or not holds, f"{where}: lanes must be slow with {reason}")


def numbers_of(where: str, part: CoreLayer) -> np.ndarray:
    """Numbers of the words a core makes, in order."""
    lane, target = part.lane, part.target
    words, positions = lane.channels // WORD_CHANNELS, lane.outputs // lane.channels
    require(target.words == words, f"{where}: it must make {words} words a position, not {target.words}")
    _check_columns(where, target, positions)
    numbers = walk_order(target.first, target, positions, words).reshape(-1)
    last, different = int(numbers.max()), len(np.unique(numbers))
    require(last < NUMBERS, f"{where}: word {last} is beyond the {NUMBERS} of a map")
    require(different == len(numbers), f"{where}: {len(numbers)} words must not overlap, only {different} differ")
    return numbers


def _check_columns(where: str, target: TargetFields, positions: int) -> None:
    """Positions are made in whole rows of the walk."""
    columns = target.columns
    require(
        columns and not positions % columns,
        f"{where}: it must make {positions} positions in whole rows, not in rows of {columns}",
    )


def _unfed(part: CoreLayer, k: int, images: dict[str, np.ndarray]) -> np.ndarray:
    """Activations that channels without any product (and without residual operand) get."""
    lane, residual, target = part.lane, part.residual, part.target
    first = lane.channel_base * WORD_CHANNELS
    channels = slice(first, first + lane.channels)
    multiplier, shift = (images[name][k, channels].astype(np.int64) for name in ("multiplier", "shift"))
    bias = images["bias"][k, channels].view(np.int32).astype(np.int64)
    rounding = Rounding.DOUBLE if lane.double else Rounding.SINGLE
    codes = requantize(bias, multiplier, shift, rounding) + lane.offset
    codes = clamp(codes, lane.clamp_low, lane.clamp_high)
    if not residual.enable:
        return codes - target.zero_point
    # A sum of two zeros is zero; of anything else nothing is claimed.
    total = clamp(residual.offset, residual.clamp_low, residual.clamp_high)
    return (codes != residual.zero_point) | (total != target.zero_point)


def _lists_of(used: np.ndarray, source: SourceFields, config: AcceleratorConfig) -> list[np.ndarray]:
    """For each PE the lists that it may be given activations for, counted from those of a row and a column."""
    if source.depthwise:
        return [np.flatnonzero(used[pe :: config.pes]) for pe in range(config.pes)]
    return [np.flatnonzero(used)] * config.pes


def _fed(
    where: str,
    part: CoreLayer,
    used: list[np.ndarray],
    lists: ListContents,
    dirty: np.ndarray,
    config: AcceleratorConfig,
) -> np.ndarray:
    """Output channels that products reach, given the lists of :func:`_lists_of`.

    Every list looked up must exist, and every accumulator that may hold something must be taken out in the end.
    """
    source, slots = part.source, part.source.slots
    depth = config.accumulators
    filled = len(part.rows) - source.blank_rows
    fed = np.zeros((slots, config.pes), dtype=bool)
    reached: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    leaving = (source.first_dump + np.arange(slots)) % depth
    for y, row in enumerate(part.rows):
        require(row.count or y >= filled, f"{where}: row {y} must have at least one list for its activations, not 0")
        steps = np.arange(row.count if y < filled else 0)
        firsts, back = row.list + steps * source.list_step, steps * source.accumulator_step
        require(
            (firsts < _LISTS).all(),
            f"{where}: list {firsts.max(initial=0)} is beyond the {_LISTS} that a row can begin with",
        )
        for column in part.columns:
            for first, less in zip((firsts + column.list).tolist(), back.tolist(), strict=True):
                if first not in reached:
                    numbers = [source.first_list + first + each for each in used]
                    reached[first] = _reached(where, numbers, lists, bool(source.maximum), config)
                pes, offsets = reached[first]
                dirty[pes, (row.accumulator + column.accumulator - less + offsets) % depth] = True
            for _ in range(column.dumps if row.final else 0):
                fed |= dirty[:, leaving].T
                dirty[:, leaving] = False
                leaving = (leaving + slots) % depth
    require(source.partial or not dirty.any(), f"{where}: {dirty.sum()} accumulators are filled but never taken out")
    return fed.reshape(-1)


def _reached(
    where: str, numbers: list[np.ndarray], lists: ListContents, maximum: bool, config: AcceleratorConfig
) -> tuple[np.ndarray, np.ndarray]:
    """PE and accumulator offset of everything that some lists of each PE feed; for a ``maximum``, by weights of 1."""
    memory, lacking = lists
    size, named = memory.shape[1], np.unique(np.concatenate(numbers))
    inside = named.clip(0, size - 1)
    wrong = named[(named >= size) | (lacking[inside + 1] > lacking[inside])]
    require(not len(wrong), f"{where}: list {wrong[:1]} is not among the {size - lacking[-1]} words of lists then")
    pes, entries = _entries(where, memory, lacking, numbers, config)
    weights, offsets = unpack_entries(entries)
    require(not maximum or bool((weights == 1).all()), f"{where}: weights of a maximum must be 1")
    found = np.unique(pes * _OFFSETS + offsets)
    return found // _OFFSETS, found % _OFFSETS


def _entries(
    where: str, memory: np.ndarray, lacking: np.ndarray, numbers: list[np.ndarray], config: AcceleratorConfig
) -> tuple[np.ndarray, np.ndarray]:
    """PE of all entries of some lists of each PE, and the entries."""
    pes, named = np.repeat(np.arange(len(numbers)), [len(each) for each in numbers]), np.concatenate(numbers)
    starts, counts = unpack_pointers(memory[pes, named], config)
    size = memory.shape[1]
    ends = np.minimum(starts + counts, size)
    wrong = named[(counts > 0) & ((starts + counts > size) | (lacking[ends] > lacking[starts]))]
    require(not len(wrong), f"{where}: list {wrong[:1]} points beyond the {size - lacking[-1]} words of lists then")
    before = np.cumsum(counts) - counts
    of = np.repeat(pes, counts)
    return of, memory[of, np.repeat(starts - before, counts) + np.arange(counts.sum())]
