"""Blocks: kernel rows whose entries stand in one list."""

from functools import lru_cache

from hw.compiler.steps.geometry import Axis, row_schedule
from hw.compiler.steps.step import Kernel

__all__ = ["Block", "block_of", "blocks_of"]

#: Walks whose blocks are kept.
_KEPT = 4096
#: Kernel rows whose entries stand in one list, by rising kernel row: (kernel row, output rows from the block's first).
Block = tuple[tuple[int, int], ...]


def blocks_of(kernel: Kernel, rows: tuple[int, int], merged: bool) -> tuple[Block, ...]:
    """The blocks that a walk for some output rows uses: kernel row by kernel row, or those that meet a row together."""
    if kernel.global_pool:
        return (((0, 0),),)
    if not merged:
        return tuple(((row, 0),) for row in range(kernel.rows.kernel))
    return _merged_blocks(kernel.rows.band(*rows)[1])


@lru_cache(maxsize=_KEPT)
def _merged_blocks(axis: Axis) -> tuple[Block, ...]:
    """The kernel rows that meet each row of a walk together."""
    return tuple(dict.fromkeys(block_of(taps, axis)[0] for taps, _ in row_schedule(axis)[0] if taps))


def block_of(taps: tuple[tuple[int, int], ...], axis: Axis) -> tuple[Block, int]:
    """The kernel rows that meet an input row as a block, and the output row that its distances count from.

    That is the one of the last kernel row of the same phase, also where a row at the top of a map doesn't reach it (it
    may then be negative): lists of rows at the edges are so parts of those of the rows between.
    """
    kernel, output = taps[0]
    lowest = output - (axis.kernel - 1 - kernel) // axis.stride
    return tuple((kernel, output - lowest) for kernel, output in taps), lowest
