"""Refuses program images that could hang the hardware, leave its memories or disturb a later program.

A program is replayed in all cores on what is *known* of its state whatever the image: which words are written, which
of their channels may be nonzero, which accumulators may hold something.
"""

from itertools import pairwise

import numpy as np

from hw.config import LIST_WORD_BITS, WORD_CHANNELS, AcceleratorConfig
from hw.numerics import Rounding, clamp, requantize
from hw.program.bits import bits_of
from hw.program.check_select import Selections
from hw.program.chunks import ListChunk
from hw.program.decode import Decoded, decode_images
from hw.program.instructions import CoreLayer, Instruction, SourceFields, TargetFields
from hw.program.isa import MAX_CLASSES, NUMBERS, Chunk, Opcode, Row
from hw.program.list_memory import ListMemory, unpack_entries, unpack_pointers
from hw.program.memory_state import Memories, walked
from hw.rules import require

__all__ = ["check_images"]

#: Lists that a kernel row can begin with.
_LISTS = 1 << bits_of(Row.as_shape()["list"].shape)
#: Words of external memory that a chunk's address can say.
_EXTERNAL = 1 << bits_of(Chunk.as_shape()["address"].shape)
#: Words of each PE of a core, and which of them are certain, as :class:`hw.program.list_memory.ListMemory` says it.
_Lists = tuple[np.ndarray, np.ndarray]


def check_images(images: dict[str, np.ndarray], config: AcceleratorConfig, number: int = 0) -> Decoded:
    """What images say, if they are those of a runnable program, of that number.

    Raises
    ------
    ValueError
        Naming the image or instruction, the rule and the value.
    """
    _check_arrays(images, config)
    decoded = decode_images(images, config, number)
    _check_flow(decoded.instructions)
    _check_chunks(decoded.chunks, decoded.layers, images["lists"].shape[1])
    memories = Memories(config)
    _check_image(decoded, memories)
    lists = ListMemory(images["lists"], decoded.chunks, config)
    filled = np.zeros((config.cores, config.pes, config.accumulators), dtype=bool)
    if decoded.header.image_free == 0:
        memories.give(decoded.windows)
    selections, place = Selections(config), 0
    for instruction, following in pairwise(decoded.instructions):
        if instruction.op is Opcode.SELECT:
            selections.select(instruction, following, memories)
        elif instruction.op is Opcode.LAYER:
            known = lists.at(instruction.chunks), lists.lacking(place)
            _check_layer(instruction, place, images, known, memories, selections, filled, config)
            place += 1
            if place == decoded.header.image_free:
                memories.give(decoded.windows)
    return decoded


def _check_arrays(images: dict[str, np.ndarray], config: AcceleratorConfig) -> None:
    shapes: dict[str, tuple[tuple[int, ...], int]] = {
        "program": ((), config.program_words),
        "layers": ((config.cores,), config.layer_words),
        "lists": ((config.multipliers,), config.list_words),
    }
    shapes |= dict.fromkeys(("bias", "multiplier", "shift"), ((config.cores,), config.channel_words))
    shapes["weights"] = ((), _EXTERNAL)
    require(images.keys() == shapes.keys(), f"images must be {', '.join(shapes)}, not {', '.join(images)}")
    for name, (leading, depth) in shapes.items():
        image = images[name]
        require(
            image.dtype == np.uint32 and image.shape[:-1] == leading and image.ndim == len(leading) + 1,
            f"{name} image must be uint32 of shape {(*leading, 'words')}, not {image.dtype} {image.shape}",
        )
        require(image.shape[-1] <= depth, f"{name} image has {image.shape[-1]} words, the memory {depth}")
    lengths = [images[name].shape[-1] for name in ("bias", "multiplier", "shift")]
    require(len(set(lengths)) == 1, f"bias, multiplier and shift images must be equally long, not {lengths} words")
    width = max(1, config.loader)
    words = len(images["weights"])
    require(not words % width, f"weights image must be whole beats of {width} words, not {words} words")
    for name, bits in (("lists", LIST_WORD_BITS), ("multiplier", 31), ("shift", 5)):
        require(not (images[name] >> bits).any(), f"{name} image must hold {bits}-bit words")


def _check_chunks(chunks: tuple[ListChunk, ...], layers: tuple[Instruction, ...], resident: int) -> None:
    """Chunks come in their order, when a run can get them, and leave alone what the host has loaded."""
    afters = [chunk.after for chunk in chunks]
    require(afters == sorted(afters), f"chunks must be read in an order in which LAYERs end, not after {afters}")
    for number, chunk in enumerate(chunks):
        first = min(segment.address for segment in chunk.segments)
        require(first >= resident, f"chunk {number} must not be written over the {resident} words of the lists image")
    before = 0
    for number, layer in enumerate(layers):
        where = f"layer {layer.index} at {layer.address}"
        require(
            before <= layer.chunks <= len(chunks),
            f"{where}: it must wait for {before} to {len(chunks)} chunks, not {layer.chunks}",
        )
        before = layer.chunks
        last = max(afters[:before], default=0)
        require(
            last <= number, f"{where}: it waits for a chunk that is read after {last} layers, it is number {number}"
        )


def _check_flow(instructions: tuple[Instruction, ...]) -> None:
    """Every decision stands directly behind a head, and what is partial before another LAYER."""
    head = partial = False
    for instruction in instructions:
        require(
            instruction.op is Opcode.LAYER or not partial,
            f"{instruction.op.name} at {instruction.address}: a partial layer must come before another",
        )
        partial = any(core.enable and core.source.partial for core in instruction.cores)
        require(
            instruction.op in (Opcode.LAYER, Opcode.SELECT) or head,
            f"{instruction.op.name} at {instruction.address}: a decision must directly follow a head",
        )
        head = any(core.enable and core.lane.raw for core in instruction.cores)


def _check_image(decoded: Decoded, memories: Memories) -> None:
    """An image's words go through the program's windows."""
    header = decoded.header
    count, channels = header.image_bytes, header.image_channels
    require(
        header.image_words == -(-count // 4) and count and channels and not count % channels,
        f"header: {header.image_words} words must hold {count} codes of an image of {channels} channels",
    )
    positions, words = count // channels, -(-channels // WORD_CHANNELS)
    size = positions * words
    require(size <= NUMBERS, f"header: an image must have at most {NUMBERS} words, not {size}")
    active = (np.arange(words * WORD_CHANNELS) < channels).reshape(words, WORD_CHANNELS)
    memories.open("header", decoded.windows)
    memories.deliver("header", 0, True, np.arange(size), np.tile(active, (positions, 1)))


def _check_layer(
    instruction: Instruction,
    number: int,
    images: dict[str, np.ndarray],
    lists: _Lists,
    memories: Memories,
    selections: Selections,
    filled: np.ndarray,
    config: AcceleratorConfig,
) -> None:
    """Check a LAYER and replay it: all cores read, then all write.

    ``filled`` is which accumulators may hold something, of each core, PE and address; updated.
    """
    where = f"layer {instruction.index} at {instruction.address}"
    require(instruction.index == number, f"{where}: layers must be numbered in order, this one {number}")
    parts = instruction.parts
    heads = [k for k, core in parts.items() if core.lane.raw]
    require(parts, f"{where}: at least one core must take part")
    require(not heads or [*parts] == [0], f"{where}: a head must be core 0's alone, not that of cores {[*parts]}")
    reach = {core.target.everywhere for core in instruction.cores}
    everywhere = reach == {1}
    require(
        len({part.source.depthwise for part in parts.values()}) == 1,
        f"{where}: depthwise must be the same in all cores that take part",
    )
    require(
        everywhere or (reach == {0} and config.cores >= 4),
        f"{where}: everywhere must be the same in all cores, and 1 with fewer than 4, not {sorted(reach)}",
    )
    active = {}
    for k, part in parts.items():
        selections.use(f"{where}, core {k}", part.source)
        known = lists[0][k], lists[1][k]
        active[k] = _check_core(f"{where}, core {k}", k, part, images, known, memories, filled[k], config)
    memories.open(where, [core.window for core in instruction.cores])
    made = np.zeros(NUMBERS, dtype=bool)
    for k, part in parts.items() if not heads else ():
        numbers = _numbers(f"{where}, core {k}", part)
        if part.source.partial:
            kept = memories.keeps(numbers)
            require(not kept, f"{where}, core {k}: words of a partial layer must not be kept, not even by core {kept}")
            continue
        twice = numbers[made[numbers]]
        require(not len(twice), f"{where}, core {k}: word {twice[:1]} must be made by one core only")
        made[numbers] = True
        memories.deliver(where, k, everywhere, numbers, np.tile(active[k], (len(numbers) // len(active[k]), 1)))
    partial = any(part.source.partial for part in parts.values())
    left = np.flatnonzero(filled.any(axis=(1, 2)))
    require(partial or not len(left), f"{where}: what a partial layer has left in cores {left} must be taken out here")
    memories.end()


def _check_core(
    where: str,
    k: int,
    part: CoreLayer,
    images: dict[str, np.ndarray],
    lists: _Lists,
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


def _numbers(where: str, part: CoreLayer) -> np.ndarray:
    """Numbers of the words a core makes, in order."""
    lane, target = part.lane, part.target
    words, positions = lane.channels // WORD_CHANNELS, lane.outputs // lane.channels
    require(target.words == words, f"{where}: it must make {words} words a position, not {target.words}")
    _check_columns(where, target, positions)
    numbers = walked(target.first, target, positions, words).reshape(-1)
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
    where: str, part: CoreLayer, used: list[np.ndarray], lists: _Lists, dirty: np.ndarray, config: AcceleratorConfig
) -> np.ndarray:
    """Output channels that products reach, given the lists of :func:`_lists_of`.

    Every list looked up must exist, and every accumulator that may hold something must be taken out in the end.
    """
    source, slots = part.source, part.source.slots
    depth = config.accumulators
    filled = len(part.rows) - source.blank_rows
    fed = np.zeros((slots, config.pes), dtype=bool)
    reached: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
    leaving = (source.first_dump + np.arange(slots)) % depth
    for y, row in enumerate(part.rows):
        require(row.count or y >= filled, f"{where}: row {y} must have at least one list for its activations, not 0")
        for column in part.columns:
            for k in range(row.count if y < filled else 0):
                first = row.list + k * source.list_step
                require(first < _LISTS, f"{where}: list {first} is beyond the {_LISTS} that a row can begin with")
                key = (first, column.list)
                if key not in reached:
                    numbers = [source.first_list + sum(key) + each for each in used]
                    reached[key] = _reached(where, numbers, lists, bool(source.maximum), config)
                pes, offsets = reached[key]
                start = row.accumulator - k * source.accumulator_step + column.accumulator
                dirty[pes, (start + offsets) % depth] = True
            for _ in range(column.dumps if row.final else 0):
                fed |= dirty[:, leaving].T
                dirty[:, leaving] = False
                leaving = (leaving + slots) % depth
    require(source.partial or not dirty.any(), f"{where}: {dirty.sum()} accumulators are filled but never taken out")
    return fed.reshape(-1)


def _reached(
    where: str, numbers: list[np.ndarray], lists: _Lists, maximum: bool, config: AcceleratorConfig
) -> tuple[np.ndarray, np.ndarray]:
    """PE and accumulator offset of everything that some lists of each PE feed; for a ``maximum``, by weights of 1."""
    memory, lacking = lists
    size, named = memory.shape[1], np.unique(np.concatenate(numbers))
    inside = named.clip(0, size - 1)
    wrong = named[(named >= size) | (lacking[inside + 1] > lacking[inside])]
    require(not len(wrong), f"{where}: list {wrong[:1]} is not among the {size - lacking[-1]} words of lists then")
    entries = [_entries(where, words, lacking, some, config) for words, some in zip(memory, numbers, strict=True)]
    weights, _ = unpack_entries(np.concatenate(entries))
    require(not maximum or bool((weights == 1).all()), f"{where}: weights of a maximum must be 1")
    found = [np.unique(unpack_entries(words)[1]) for words in entries]
    return np.repeat(np.arange(config.pes), [len(offsets) for offsets in found]), np.concatenate(found)


def _entries(
    where: str, words: np.ndarray, lacking: np.ndarray, numbers: np.ndarray, config: AcceleratorConfig
) -> np.ndarray:
    """All entries of some lists of a PE."""
    starts, counts = unpack_pointers(words[numbers], config)
    size = len(words)
    ends = np.minimum(starts + counts, size)
    wrong = numbers[(counts > 0) & ((starts + counts > size) | (lacking[ends] > lacking[starts]))]
    require(not len(wrong), f"{where}: list {wrong[:1]} points beyond the {size - lacking[-1]} words of lists then")
    before = np.cumsum(counts) - counts
    entries = np.repeat(starts - before, counts) + np.arange(counts.sum())
    return words[entries]
