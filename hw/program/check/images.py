"""Refuses program images that could hang the hardware, leave its memories or disturb a later program.

A program is replayed in all cores on what is *known* of its state whatever the image: which words are written, which
of their channels may be nonzero, which accumulators may hold something.
"""

from itertools import pairwise

import numpy as np

from hw.config import EXCHANGE_ROUND, LIST_WORD_BITS, WORD_CHANNELS, AcceleratorConfig
from hw.program.check.core_layer import ListContents, check_core, numbers_of
from hw.program.check.memory_state import Memories
from hw.program.check.select import Selections
from hw.program.chunks import ListChunk
from hw.program.decode import Decoded, decode_images
from hw.program.instructions import Instruction
from hw.program.isa import NUMBERS, Chunk, Opcode
from hw.program.list_memory import ListMemory
from hw.rules import require

__all__ = ["check_images"]

#: Words of external memory that a chunk's address can say.
_EXTERNAL = 1 << Chunk.fields["address"].bits


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
    filled = [0] * config.cores
    if decoded.header.image_free == 0:
        memories.give(decoded.windows)
    selections, index = Selections(config), 0
    for instruction, following in pairwise(decoded.instructions):
        if instruction.op is Opcode.SELECT:
            selections.select(instruction, following, memories)
        elif instruction.op is Opcode.LAYER:
            contents = lists.at(instruction.chunks), lists.lacking(index)
            _check_layer(instruction, index, images, contents, memories, selections, filled, config)
            index += 1
            if index == decoded.header.image_free:
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
    lists: ListContents,
    memories: Memories,
    selections: Selections,
    filled: list[int],
    config: AcceleratorConfig,
) -> None:
    """Check a LAYER and replay it: all cores read, then all write.

    ``filled`` is which accumulators may hold something, by core as :func:`check_core` has it; updated.
    """
    where = f"layer {instruction.index} at {instruction.address}"
    require(instruction.index == number, f"{where}: layers must be numbered in order, this one {number}")
    working = instruction.working
    heads = [k for k, core in working.items() if core.lane.raw]
    require(working, f"{where}: at least one core must take part")
    require(not heads or [*working] == [0], f"{where}: a head must be core 0's alone, not that of cores {[*working]}")
    reach = {core.target.everywhere for core in instruction.cores}
    everywhere = reach == {1}
    require(
        len({core.source.depthwise for core in working.values()}) == 1,
        f"{where}: depthwise must be the same in all cores that take part",
    )
    split = [k for k, core in working.items() if core.split]
    require(
        split in ([], [*working]),
        f"{where}: lists must be split in all cores that take part or in none, not in cores {split} of {[*working]}",
    )
    require(
        everywhere or (reach == {0} and config.neighbour_exchange),
        f"{where}: everywhere must be the same in all cores, and 1 with fewer than {EXCHANGE_ROUND}, "
        f"not {sorted(reach)}",
    )
    active = {}
    for k, core in working.items():
        selections.use(f"{where}, core {k}", core.source)
        contents = lists[0][k], lists[1][k]
        own = f"{where}, core {k}", k, core, images, contents, memories
        active[k], filled[k] = check_core(*own, filled[k], config)
    memories.open(where, [core.window for core in instruction.cores])
    made = np.zeros(NUMBERS, dtype=bool)
    for k, core in working.items() if not heads else ():
        numbers = numbers_of(f"{where}, core {k}", core)
        if core.source.partial:
            kept = memories.keeps(numbers)
            require(not kept, f"{where}, core {k}: words of a partial layer must not be kept, not even by core {kept}")
            continue
        if len(twice := numbers[made[numbers]]):
            raise ValueError(f"{where}, core {k}: word {twice[:1]} must be made by one core only")
        made[numbers] = True
        memories.deliver(where, k, everywhere, numbers, np.tile(active[k], (len(numbers) // len(active[k]), 1)))
    partial = any(core.source.partial for core in working.values())
    left = np.flatnonzero([bool(each) for each in filled])
    require(partial or not len(left), f"{where}: what a partial layer has left in cores {left} must be taken out here")
    memories.end()
