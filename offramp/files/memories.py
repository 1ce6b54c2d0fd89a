"""What a program uses of every memory of its config, in the core and PE that uses most."""

from hw.compiler.lower import lower
from hw.compiler.search.requirements import accumulators
from hw.config import BANKS
from hw.program.program import Program

__all__ = ["memories_dict"]

#: The banks of activations, by their number.
_BANKS = ("first bank", "second bank")


def memories_dict(program: Program) -> dict[str, dict[str, int]]:
    """Words that are used of every memory, and words there.

    A bank is used up to the end of the last map that is kept in it, list memories as far as lists are loaded or read
    during the run, accumulators by all rows of outputs that are unfinished at the same time.
    """
    sizes, config = program.size_words(), program.config
    found = {name: {"used": used, "available": size} for name, (used, size) in sizes.items()}
    found["lists"]["used"] = max(found["lists"]["used"], _lists_read(program))
    for name, used, size in zip(_BANKS, _banks(program), config.bank_words, strict=True):
        found[name] = {"used": used, "available": size}
    return found | {"accumulators": {"used": _accumulators(program), "available": config.accumulators}}


def _lists_read(program: Program) -> int:
    """The end of all lists that are read during the run."""
    segments = [segment for chunk in program.decoded.chunks for segment in chunk.segments]
    return max((segment.address + len(segment.words) for segment in segments), default=0)


def _banks(program: Program) -> list[int]:
    """Of each bank, the end of all maps in it."""
    decoded, ends = program.decoded, [0] * BANKS
    layers = [core.window for layer in decoded.layers for core in layer.cores]
    for window in (*decoded.windows, *layers):
        if window.count:
            ends[window.bank] = max(ends[window.bank], window.base + window.count)
    return ends


def _accumulators(program: Program) -> int:
    """Of a PE, by the layer that needs most."""
    kernels = {step.layer.name: step.kernel for step in lower(program.network).steps}
    most, partial = 0, False
    for command, layer in zip(program.commands, program.decoded.layers, strict=True):
        several = command.partial or partial
        for tile in command.tiles():
            walk = kernels[command.layer].walk(tile.rows, command.column_major)
            most = max(most, accumulators(*walk, layer.cores[tile.core].source.dump_length, several=several))
        partial = command.partial
    return most
