"""What one core does in a LAYER stays in its memories, and takes out of the accumulators all that it puts there."""

from collections.abc import Iterator
from functools import cache
from itertools import combinations, product

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.numerics import Rounding, clamp, requantize
from hw.program.check.memory_state import Memories, walk_order
from hw.program.instructions import CoreLayer, SourceFields, TargetFields
from hw.program.isa import NUMBERS, PARTS, Row
from hw.program.list_memory import marks_of, unpack_entries, unpack_parts, unpack_pointers, unpack_split_entries
from hw.rules import require

__all__ = ["ListContents", "check_core", "numbers_of"]

#: Lists that a kernel row can begin with.
_LISTS = 1 << Row.fields["list"].bits
#: Lists that are looked at together.
_AT_ONCE = 1 << 14
#: Parts of a split list that are neighbours, one bit each.
_NEIGHBOURS = {(1 << last) - (1 << first) for first, last in combinations(range(PARTS + 1), 2)}
#: Words of each PE of a core, and which of them are certain, as :class:`hw.program.list_memory.ListMemory` says it.
ListContents = tuple[np.ndarray, np.ndarray]
#: PEs, and the numbers of lists that they look up.
ListNumbers = tuple[np.ndarray, np.ndarray]
#: Number of a list; of split ones the parts that are met, and the marks of entries without a product.
ListName = tuple[int, int, int]


def check_core(
    where: str,
    k: int,
    core: CoreLayer,
    images: dict[str, np.ndarray],
    lists: ListContents,
    memories: Memories,
    filled: int,
    config: AcceleratorConfig,
) -> tuple[np.ndarray, int]:
    """Check what one core does in a layer.

    ``filled`` is which accumulators may hold something before it: bit number address * PEs + PE.

    Returns
    -------
    bool array (words of a position, 8)
        Which channels may be nonzero.
    int
        Which accumulators may hold something afterwards.
    """
    source, lane, residual = core.source, core.lane, core.residual
    require(core.rows and core.columns and source.words, f"{where}: it must have rows, columns and words of a position")
    require(source.threshold, f"{where}: the threshold must be at least 1, not 0")
    dump_length, outputs, channels = source.dump_length, lane.outputs, lane.channels
    require(
        source.blank_rows < len(core.rows),
        f"{where}: blank rows must be fewer than all {len(core.rows)}, not {source.blank_rows}",
    )
    require(
        dump_length * config.pes == channels and dump_length <= config.accumulators,
        f"{where}: {dump_length} accumulators a position on {config.pes} PEs must make the {channels} channels",
    )
    dumps = sum(row.final for row in core.rows) * sum(column.dumps for column in core.columns)
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
    _check_rate(where, core, config)
    _check_parts(where, core, config)
    used = memories.read(where, k, source)
    fed, filled = _fed(where, core, _lists_of(used, source, config), lists, filled, config)
    if lane.raw:
        require(
            2 <= lane.classes <= min(config.classes, channels),
            f"{where}: a head must have 2 to {min(config.classes, channels)} classes, not {lane.classes}",
        )
        require(outputs == channels and not residual.enable, f"{where}: a head must be one position without residual")
    active = (fed | (_unfed(core, k, images) != 0)).reshape(-1, WORD_CHANNELS)
    if residual.enable:
        require(residual.bank != source.bank, f"{where}: input and residual must lie in different banks")
        target = core.target
        _check_columns(where, target, outputs // channels)
        active |= memories.operand(where, k, residual, target, outputs // channels, len(active))
    return active, filled


def _check_parts(where: str, core: CoreLayer, config: AcceleratorConfig) -> None:
    """Lists are split for all positions or for none; of split ones each position meets neighbouring parts, of others it
    skips nothing.
    """
    pairs = product({row.parts for row in core.rows}, {column.parts for column in core.columns})
    met = {parts for row, column in pairs for parts in (row & column, row, column)}
    require(
        met == {0} or (config.split_lists and not core.source.depthwise and met <= _NEIGHBOURS),
        f"{where}: parts of lists must be 0 everywhere, or with split lists neighbours, not {sorted(met)}",
    )
    skipped = ({row.skip for row in core.rows} | {column.skip for column in core.columns}) - {0}
    require(core.split or not skipped, f"{where}: skip must be 0 where lists aren't split, not {sorted(skipped)}")
    steps = {row.count for row in core.rows} - {0, 1}
    require(not core.split or not steps, f"{where}: an activation must have one split list, not {sorted(steps)}")


def _check_rate(where: str, core: CoreLayer, config: AcceleratorConfig) -> None:
    """The lanes are slow where something behind them can't follow."""
    lane = core.lane
    reasons = {
        "a residual operand and shared multipliers": core.residual.enable and not config.fast_sums,
        "logits of two lanes": lane.raw and config.lanes == 2,
        "words for all cores": not lane.raw and core.target.everywhere and config.slow_exchange,
    }
    for reason, holds in reasons.items():
        require(lane.slow or not holds, f"{where}: lanes must be slow with {reason}")


def numbers_of(where: str, core: CoreLayer) -> np.ndarray:
    """Numbers of the words a core makes, in order."""
    lane, target = core.lane, core.target
    words, positions = lane.channels // WORD_CHANNELS, lane.outputs // lane.channels
    require(target.words == words, f"{where}: it must make {words} words a position, not {target.words}")
    _check_columns(where, target, positions)
    numbers = walk_order(target.first, target, positions, words).reshape(-1)
    last = int(numbers.max())
    require(last < NUMBERS, f"{where}: word {last} is beyond the {NUMBERS} of a map")
    different = np.count_nonzero(np.bincount(numbers))
    require(different == len(numbers), f"{where}: {len(numbers)} words must not overlap, only {different} differ")
    return numbers


def _check_columns(where: str, target: TargetFields, positions: int) -> None:
    """Positions are made in whole rows of the walk."""
    columns = target.columns
    require(
        columns and not positions % columns,
        f"{where}: it must make {positions} positions in whole rows, not in rows of {columns}",
    )


def _unfed(core: CoreLayer, k: int, images: dict[str, np.ndarray]) -> np.ndarray:
    """Activations that channels without any product (and without residual operand) get."""
    lane, residual, target = core.lane, core.residual, core.target
    first = lane.channel_base * WORD_CHANNELS
    channels = slice(first, first + lane.channels)
    multiplier, shift = (images[name][k, channels].astype(np.int64) for name in ("multiplier", "shift"))
    bias = images["bias"][k, channels].view(np.int32).astype(np.int64)
    rounding = Rounding.DOUBLE if lane.double else Rounding.SINGLE
    codes: np.ndarray = requantize(bias, multiplier, shift, rounding) + lane.offset
    codes = clamp(codes, lane.clamp_low, lane.clamp_high)
    if not residual.enable:
        return codes - target.zero_point
    # A sum of two zeros is zero; of anything else nothing is claimed.
    total = clamp(residual.offset, residual.clamp_low, residual.clamp_high)
    claimed: np.ndarray = (codes != residual.zero_point) | (total != target.zero_point)
    return claimed


def _lists_of(used: np.ndarray, source: SourceFields, config: AcceleratorConfig) -> ListNumbers:
    """The lists that PEs may be given activations for, counted from the one that a row and a column begin with."""
    pes = config.pes
    numbers = [np.flatnonzero(used[pe::pes] if source.depthwise else used) for pe in range(pes)]
    return np.repeat(np.arange(pes), [len(each) for each in numbers]), np.concatenate(numbers)


def _fed(
    where: str, core: CoreLayer, used: ListNumbers, lists: ListContents, dirty: int, config: AcceleratorConfig
) -> tuple[np.ndarray, int]:
    """Output channels that products reach, given the lists of :func:`_lists_of`; which accumulators stay filled.

    Every list looked up must exist, and every accumulator that may hold something must be taken out in the end.
    """
    source, pes = core.source, config.pes
    size, dump_length = config.accumulators * pes, source.dump_length * pes
    filled = len(core.rows) - source.blank_rows
    counts = [row.count if y < filled else 0 for y, row in enumerate(core.rows)]
    for y, (row, count) in enumerate(zip(core.rows, counts, strict=True)):
        require(row.count or y >= filled, f"{where}: row {y} must have at least one list for its activations, not 0")
        last = row.list + (count - 1) * source.list_step if count else 0
        require(last < _LISTS, f"{where}: list {last} is beyond the {_LISTS} that a row can begin with")
    tops = dict.fromkeys((row.list, count, row.parts, row.skip) for row, count in zip(core.rows, counts, strict=True))
    lefts = dict.fromkeys((column.list, column.parts, column.skip) for column in core.columns)
    named = (
        (top + left + n * source.list_step, parts & met, skip | marks)
        for top, count, parts, skip in tops
        for left, met, marks in lefts
        for n in range(count)
    )
    which = [*dict.fromkeys(named)]
    each = max(1, _AT_ONCE // max(1, len(used[0])))
    batches = (which[start : start + each] for start in range(0, len(which), each))
    reached = dict(pair for batch in batches for pair in _reached(where, used, lists, source, config, batch))

    @cache
    def walked(first: int, count: int, parts: int, skip: int) -> list[int]:
        """What each column feeds in a row that begins with this list, counted from the row's accumulator."""
        made = []
        for column in core.columns:
            bits = 0
            for n in range(count):
                start = (column.accumulator - n * source.accumulator_step) * pes
                name = first + column.list + n * source.list_step, parts & column.parts, skip | column.skip
                bits |= _turned(reached[name], start, size)
            made.append(bits)
        return made

    fed, leaving = 0, source.first_dump * pes
    for row, count in zip(core.rows, counts, strict=True):
        start = row.accumulator * pes
        dirty = _turned(dirty, -start, size)
        for column, made in zip(core.columns, walked(row.list, count, row.parts, row.skip), strict=True):
            dirty |= made
            for _ in range(column.dumps if row.final else 0):
                taken = _turned(dirty, start - leaving, size) & ((1 << dump_length) - 1)
                fed |= taken
                dirty ^= _turned(taken, leaving - start, size)
                leaving += dump_length
        dirty = _turned(dirty, start, size)
    require(source.partial or not dirty, f"{where}: {dirty.bit_count()} accumulators are filled but never taken out")
    bits = np.frombuffer(fed.to_bytes(-(-dump_length // 8), "little"), dtype=np.uint8)
    return np.unpackbits(bits, count=dump_length, bitorder="little").astype(bool), dirty


def _turned(bits: int, steps: int, size: int) -> int:
    """Bits of a ring of that many, each moved up by so many."""
    steps %= size
    return (bits << steps | bits >> size - steps) & ((1 << size) - 1)


def _reached(
    where: str,
    used: ListNumbers,
    lists: ListContents,
    source: SourceFields,
    config: AcceleratorConfig,
    which: list[ListName],
) -> Iterator[tuple[ListName, int]]:
    """These lists, each with the accumulators that those of all PEs from it on feed; a maximum by weights of 1."""
    (pes, offsets), (memory, lacking) = used, lists
    firsts, parts, skip = np.array(which, dtype=np.int64).reshape(-1, 3).T
    words, size = 2 if parts.any() else 1, memory.shape[1]  # words of a pointer
    numbers = words * np.add.outer(firsts, offsets + source.first_list)
    inside = numbers.clip(0, size - words)
    if (wrong := (numbers > size - words) | (lacking[inside + words] > lacking[inside])).any():
        row = wrong.any(axis=1).argmax()
        missing = numbers[row, wrong[row]].min(keepdims=True)
        raise ValueError(f"{where}: list {missing} is not among the {size - lacking[-1]} words of lists then")
    starts, counts = unpack_pointers(memory[pes, numbers], config)
    if words == 2:
        starts, counts = unpack_parts(memory[pes, numbers], memory[pes, numbers + 1], parts[:, None], config)
        require(bool((counts >= 0).all()), f"{where}: the parts of a list must follow one another")
    ends = np.minimum(starts + counts, size)
    lack = lacking[ends] > lacking[starts.clip(0, size)]
    if (wrong := (counts > 0) & ((starts + counts > size) | lack)).any():
        beyond = numbers[wrong][:1]
        raise ValueError(f"{where}: list {beyond} points beyond the {size - lacking[-1]} words of lists then")
    starts, counts = starts.reshape(-1), counts.reshape(-1)
    before, list_of = counts.cumsum() - counts, np.repeat(np.arange(len(counts)), counts)
    first, of = list_of // len(pes), pes[list_of % len(pes)]
    entries = memory[of, (starts - before)[list_of] + np.arange(len(list_of))]
    if words == 2:
        kept = marks_of(entries) & skip[first] == 0
        first, of, (weights, targets) = first[kept], of[kept], unpack_split_entries(entries[kept])
    else:
        weights, targets = unpack_entries(entries)
    require(not source.max_pool or bool((weights == 1).all()), f"{where}: weights of a max pool must be 1")
    fed = np.zeros((len(which), config.accumulators, config.pes), dtype=bool)
    fed[first, targets % config.accumulators, of] = True
    packed = np.packbits(fed.reshape(len(which), -1), axis=1, bitorder="little")
    return zip(which, (int.from_bytes(bits.tobytes(), "little") for bits in packed), strict=True)
