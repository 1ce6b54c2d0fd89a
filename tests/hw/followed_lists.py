"""The lists of a core's layer, followed in plain Python: which accumulators and channels they reach."""

import numpy as np

from hw.config import AcceleratorConfig
from hw.program.instructions import CoreLayer
from hw.program.list_memory import marks_of, unpack_entries, unpack_parts, unpack_pointers, unpack_split_entries

__all__ = ["follow"]


def entries_of(
    core: CoreLayer, memory: np.ndarray, pe: int, number: int, parts: int, skip: int, config: AcceleratorConfig
) -> list[int]:
    """Accumulator offsets of a list, in plain steps."""
    if not core.split:
        start, count = unpack_pointers(int(memory[pe, number]), config)
        return unpack_entries(memory[pe, start : start + count])[1].tolist()
    start, count = unpack_parts(int(memory[pe, 2 * number]), int(memory[pe, 2 * number + 1]), parts, config)
    words = memory[pe, start : start + count]
    return unpack_split_entries(words[marks_of(words) & skip == 0])[1].tolist()


def follow(
    core: CoreLayer, used: np.ndarray, memory: np.ndarray, filled: set[tuple[int, int]], config: AcceleratorConfig
) -> set[int]:
    """Channels that are fed.

    ``used`` says which channels of a position may be nonzero; ``filled`` becomes which accumulators (address, PE) stay
    filled.
    """
    source, fed, leaving = core.source, set[int](), core.source.first_dump
    for y, row in enumerate(core.rows):
        below = y >= len(core.rows) - source.blank_rows
        for column in core.columns:
            for channel in [] if below else np.flatnonzero(used).tolist():
                group, own = divmod(channel, config.pes)
                for pe in [own] if source.depthwise else range(config.pes):
                    for n in range(row.count):
                        number = source.first_list + row.list + column.list + n * source.list_step
                        number += group if source.depthwise else channel
                        start = row.accumulator + column.accumulator - n * source.accumulator_step
                        parts, skip = row.parts & column.parts, row.skip | column.skip
                        for offset in entries_of(core, memory, pe, number, parts, skip, config):
                            filled.add(((start + offset) % config.accumulators, pe))
            for _ in range(column.dumps * row.final):
                for place in range(source.dump_length):
                    for pe in range(config.pes):
                        one = ((leaving + place) % config.accumulators, pe)
                        if one in filled:
                            filled.remove(one)
                            fed.add(place * config.pes + pe)
                leaving += source.dump_length
    return fed
