"""Refuses program images that could hang the hardware, leave its memories or disturb a later program.

A program is replayed on what is *known* of its state whatever the image: which activations are written, which of them
may be nonzero, which accumulators may hold something.
"""

from typing import Any

import numpy as np

from hw.config import LIST_WORD_BITS, AcceleratorConfig
from hw.decode import Instruction, decode_header, decode_images
from hw.isa import MAX_CLASSES, Branch, Entry, Layer, Opcode, bits_of, words_of
from hw.known import Memories, require
from hw.numerics import Rounding, clamp, requantize

__all__ = ["check_images"]

_SIZES = {Opcode.LAYER: 1 + words_of(Layer), Opcode.BRANCH: 1 + words_of(Branch), Opcode.STOP: 1}


def check_images(images: dict[str, np.ndarray], config: AcceleratorConfig) -> None:
    """Refuse images that aren't those of a runnable program.

    Raises
    ------
    ValueError
        Naming the image or instruction, the rule and the value.
    """
    _check_arrays(images, config)
    instructions = decode_images(images)
    _check_flow(instructions)
    header = decode_header(images)
    count, pixels = header["image_bytes"], header["image"]
    require(
        header["image_words"] == -(-count // 4) and count and pixels["channels"] and not count % pixels["channels"],
        f"header: {header['image_words']} words must hold {count} codes of an image of {pixels['channels']} channels",
    )
    memories = Memories(config)
    memories.write("header: image", pixels, count // pixels["channels"], np.ones(pixels["channels"], dtype=bool))
    layers = [instruction for instruction in instructions if instruction.layer is not None]
    for number, layer in enumerate(layers):
        _check_layer(layer, number, images, memories, config)


def _check_arrays(images: dict[str, np.ndarray], config: AcceleratorConfig) -> None:
    depths = {"program": config.program_words, "lists": config.list_words}
    depths |= dict.fromkeys(("bias", "multiplier", "shift"), config.channel_words)
    require(images.keys() == depths.keys(), f"images must be {', '.join(depths)}, not {', '.join(images)}")
    for name, depth in depths.items():
        image = images[name]
        leading = (config.multipliers,) if name == "lists" else ()
        require(
            image.dtype == np.uint32 and image.shape[:-1] == leading and image.ndim == len(leading) + 1,
            f"{name} image must be uint32 of shape {(*leading, 'words')}, not {image.dtype} {image.shape}",
        )
        require(image.shape[-1] <= depth, f"{name} image has {image.shape[-1]} words, the memory {depth}")
    for name, bits in (("lists", LIST_WORD_BITS), ("multiplier", 31), ("shift", 5)):
        require(not (images[name] >> bits).any(), f"{name} image must hold {bits}-bit words")


def _check_flow(instructions: list[Instruction]) -> None:
    """Layers and branches one behind the other, a STOP, and the STOPs that the branches lead to."""
    by_address = {instruction.address: instruction for instruction in instructions}
    head = False
    end = 0
    for instruction in instructions:
        where = f"{instruction.op.name} at {instruction.address}"
        require(instruction.address >= end, f"{where}: it must not begin inside the instruction before it")
        end = instruction.address + _SIZES[instruction.op]
        head |= instruction.layer is not None and bool(instruction.layer["lane"]["raw"])
        require(instruction.op is Opcode.LAYER or head, f"{where}: a decision must follow a head")
        if instruction.op is Opcode.BRANCH:
            target = instruction.target
            require(
                target > instruction.address and by_address[target].op is Opcode.STOP,
                f"{where}: a branch must lead forward to a STOP, not to {target}",
            )


def _check_layer(
    instruction: Instruction,
    number: int,
    images: dict[str, np.ndarray],
    memories: Memories,
    config: AcceleratorConfig,
) -> None:
    """Check a LAYER and replay it."""
    assert instruction.layer is not None
    where = f"layer {instruction.index} at {instruction.address}"
    source, lane, residual, target = (instruction.layer[n] for n in ("source", "lane", "residual", "target"))
    require(instruction.index == number, f"{where}: layers must be numbered in order, this one {number}")
    require(
        instruction.rows and instruction.columns and source["mask_words"],
        f"{where}: it must have rows, columns and mask words",
    )
    _check_rows(where, instruction, config)
    step, outputs, channels = source["accumulator_step"], lane["outputs"], lane["channels"]
    dumps = sum(row["dumps"] for row in instruction.rows)
    require(
        outputs and dumps * step * config.multipliers == outputs,
        f"{where}: {dumps} rows of {step} accumulators on {config.multipliers} PEs don't make {outputs} outputs",
    )
    require(
        channels and not channels % config.pes and not outputs % channels,
        f"{where}: channels must be a multiple of {config.pes} that divides the outputs, not {channels}",
    )
    size = min(len(images[name]) for name in ("bias", "multiplier", "shift"))
    last = lane["channel_base"] + channels
    require(last <= size, f"{where}: channel parameters reach to {last}, beyond the {size} words of their images")
    depth, taken = memories.read(where, source)
    fed = _fed(where, instruction, depth, images["lists"], config)
    if lane["raw"]:
        require(
            2 <= lane["classes"] <= min(MAX_CLASSES, channels),
            f"{where}: a head must have 2 to {MAX_CLASSES} classes, not {lane['classes']}",
        )
        require(
            outputs == channels and not residual["enable"], f"{where}: a head must be one position without residual"
        )
        return
    kept = {source["bank"]: taken}
    active = fed | (_unfed(instruction, images) != 0)
    if residual["enable"]:
        require(residual["bank"] != source["bank"], f"{where}: input and residual must lie in different banks")
        steps = np.arange(outputs // channels)[:, None]
        kept[residual["bank"]] = residual["base"] + steps * residual["pitch"] + np.arange(channels)
        active |= memories.take(where, residual["bank"], kept[residual["bank"]]).any(axis=0)
    require(target["channels"] == channels, f"{where}: it must write {channels} channels, not {target['channels']}")
    places = memories.write(where, target, outputs // channels, active)
    require(
        target["bank"] not in kept or not np.isin(places, kept[target["bank"]]).any(),
        f"{where}: it must not write over what it reads",
    )


def _unfed(instruction: Instruction, images: dict[str, np.ndarray]) -> np.ndarray:
    """Activations that channels without any product (and without residual operand) get."""
    assert instruction.layer is not None
    lane, residual, target = (instruction.layer[n] for n in ("lane", "residual", "target"))
    part = slice(lane["channel_base"], lane["channel_base"] + lane["channels"])
    bias, multiplier, shift = (images[n][part].astype(np.int64) for n in ("bias", "multiplier", "shift"))
    rounding = Rounding.DOUBLE if lane["double"] else Rounding.SINGLE
    codes = requantize(_signed(bias, 32), multiplier, shift, rounding) + _signed(lane["offset"])
    codes = clamp(codes, _signed(lane["clamp_low"]), _signed(lane["clamp_high"]))
    if not residual["enable"]:
        return codes - _signed(target["zero_point"])
    # A sum of two zeros is zero; of anything else nothing is claimed.
    total = clamp(_signed(residual["offset"]), _signed(residual["clamp_low"]), _signed(residual["clamp_high"]))
    return (codes != _signed(residual["zero_point"])) | (total != _signed(target["zero_point"]))


def _signed(value: Any, bits: int = 8) -> Any:
    """Two's complement, as an integer."""
    return (value ^ (1 << (bits - 1))) - (1 << (bits - 1))


def _check_rows(where: str, instruction: Instruction, config: AcceleratorConfig) -> None:
    """Every accumulator row that may hold something is taken out, in the order of the ring."""
    assert instruction.layer is not None
    step, wrap = (instruction.layer["source"][name] for name in ("accumulator_step", "accumulator_wrap"))
    require(
        0 < step <= wrap <= config.accumulators and not wrap % step,
        f"{where}: accumulators of all live rows must be at most {config.accumulators} and a multiple of those of one, "
        f"not {wrap} and {step}",
    )
    live, leaving = wrap // step, 0
    used: set[int] = set()
    for y, row in enumerate(instruction.rows):
        start, count = row["accumulator"], row["count"]
        require(0 < count <= live, f"{where}: row {y} must meet 1 to {live} kernel rows, not {count}")
        require(
            start < wrap and not start % step,
            f"{where}: row {y} must begin at a multiple of {step} below {wrap}, not at {start}",
        )
        used |= {(start // step - k) % live for k in range(count)}
        for _ in range(row["dumps"]):
            used.discard(leaving)
            leaving = (leaving + 1) % live
    require(not used, f"{where}: {len(used)} rows of accumulators are filled but never taken out")


def _fed(where: str, instruction: Instruction, depth: int, image: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Output channels that products reach; every list looked up must exist, every product stay in its row."""
    assert instruction.layer is not None
    source, channels = instruction.layer["source"], instruction.layer["lane"]["channels"]
    step = source["accumulator_step"]
    rows = np.array(
        sorted({row["list"] + k * source["list_step"] for row in instruction.rows for k in range(row["count"])})
    )
    starts: dict[int, set[int]] = {}
    for column in instruction.columns:
        starts.setdefault(column["list"], set()).add(column["accumulator"])
    slots = channels // config.pes
    require(not step % slots, f"{where}: {step} accumulators of a row must be whole positions of {slots}")
    fed = np.zeros((slots, config.pes), dtype=bool)
    for column_list, columns in starts.items():
        lists = (rows[:, None] + column_list + np.arange(depth)).reshape(-1)
        last = int(lists.max(initial=0))
        require(last < image.shape[1], f"{where}: list {last} is beyond the {image.shape[1]} words of the lists image")
        for pe in range(config.pes):
            offsets = _offsets(where, image[pe].astype(np.int64), lists, config)
            places = (np.unique(offsets)[:, None] + np.array(sorted(columns))) % config.accumulators
            require(
                places.max(initial=0) < step,
                f"{where}: a product for accumulator {places.max(initial=0)} leaves the {step} of its row",
            )
            fed[places % slots, pe] = True
    return fed.reshape(-1)


def _offsets(where: str, image: np.ndarray, lists: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Accumulator offsets of all entries of some lists of a PE."""
    starts, counts = image[lists] & ((1 << config.start_bits) - 1), image[lists] >> config.start_bits
    wrong = lists[(counts > 0) & (starts + counts > len(image))]
    require(not len(wrong), f"{where}: list {wrong[:1]} points beyond the {len(image)} words of the lists image")
    before = np.cumsum(counts) - counts
    entries = np.repeat(starts - before, counts) + np.arange(counts.sum())
    return image[entries] >> bits_of(Entry.as_shape()["weight"].shape)
