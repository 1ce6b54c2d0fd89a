"""The lists of a layer: which weights each activation meets in every PE, and where their products go."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hw.compiler.steps.expansion import CoreTask
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.list_memory import marked_offsets

__all__ = ["Lists", "SameCells", "kernel_lists", "list_cells"]


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists of a layer.

    Attributes
    ----------
    entries : list of lists of int arrays (n, 2)
        Weight and accumulator offset, of split lists with the marks above: for each column class, block and input
        channel (flattened in this order) an array per PE. Where an output channel reads only the input channel of its
        number: for each group of as many channels as there are PEs.
    cuts : int array (lists, PEs, 2) or None
        Of split lists: entries before the second and before the third part.
    """

    entries: list[list[np.ndarray]]
    cuts: np.ndarray | None = None

    @property
    def pointer_words(self) -> int:
        """Words of a list's pointer: its address is a multiple of so many, and its list's number that multiple."""
        return 1 if self.cuts is None else 2


@dataclass(frozen=True)
class SameCells:
    """Lists of a column class and a block, zeros included: all have the same cells, and entries where they aren't zero.

    Attributes
    ----------
    weights : int array (lists, PEs, cells)
    offsets : int array (lists or 1, 1, cells)
        Accumulators, wrapped around, of split lists with the marks above. Those of a list are all different, but for
        split lists of a layer with a stride: there the kernel rows that meet different input rows may share some.
    parts : int
        Of split lists: cells of each part.
    """

    weights: np.ndarray
    offsets: np.ndarray
    parts: int = 0


def list_cells(task: CoreTask, inputs: tuple[int, int], config: AcceleratorConfig) -> Iterator[SameCells]:
    """The cells of a task's lists, of one column class and block after the other; see :func:`kernel_lists`."""
    kernel, (first, last), pes = task.kernel, task.channels, config.pes
    weight = kernel.weight[first:last].astype(np.int64)
    dump_length = task.words * WORD_CHANNELS // pes
    width = kernel.columns.outputs * dump_length
    padded = np.pad(weight, ((0, dump_length * pes - len(weight)), *[(0, 0)] * 3))
    by_pe = padded.reshape(dump_length, pes, *weight.shape[1:])
    if task.split is not None:
        yield from _split_cells(task, by_pe[..., slice(*inputs)], config)
        return
    for column_class in kernel.classes:
        for block in task.blocks:
            taps = [(row, column) for row, _ in block for column, _ in column_class.taps]
            starts = [down * width + right * dump_length for _, down in block for _, right in column_class.taps]
            offsets = (np.array(starts, dtype=np.int64)[:, None] + np.arange(dump_length)) % config.accumulators
            rows, columns = np.array(taps, dtype=np.int64).reshape(-1, 2).T
            if kernel.depthwise:
                yield SameCells(by_pe[..., rows, columns, 0], offsets.T[:, None])  # (channels of a PE, PEs, taps)
                continue
            values = by_pe[..., rows, columns, slice(*inputs)]  # (channels of a PE, PEs, taps, input channels)
            yield SameCells(values.transpose(3, 1, 2, 0).reshape(values.shape[3], pes, -1), offsets.reshape(1, 1, -1))


def _split_cells(task: CoreTask, by_pe: np.ndarray, config: AcceleratorConfig) -> Iterator[SameCells]:
    """The cells of split lists.

    ``by_pe`` is an int array (channels of a PE, PEs, kernel rows, kernel columns, input channels).
    """
    kernel, split, (dump_length, pes, *_, depth) = task.kernel, task.split, by_pe.shape
    assert split is not None
    width = kernel.columns.outputs * dump_length
    for number in range(split.lists):
        taps = split.taps(number)
        rows, columns, marks = np.array(taps, dtype=np.int64).reshape(-1, 3).T
        down, right = (
            (axis.kernel - 1 - taps) // axis.stride for axis, taps in ((kernel.rows, rows), (kernel.columns, columns))
        )
        starts = down * width + right * dump_length
        offsets = marked_offsets((starts[:, None] + np.arange(dump_length)) % config.accumulators, marks[:, None])
        weights = by_pe[:, :, rows, columns].transpose(3, 1, 2, 0).reshape(depth, pes, -1)
        yield SameCells(weights, offsets.reshape(1, 1, -1), len(taps[0]) * dump_length)


def kernel_lists(task: CoreTask, inputs: tuple[int, int], config: AcceleratorConfig) -> Lists:
    """Lists for the output channels of a core's task in a layer, and the input channels of a pass.

    Output channel ``first + n`` goes to PE ``n % pes``, offset ``n // pes``; offsets wrap around the accumulators.
    """
    lists, cuts = list[list[np.ndarray]](), list[np.ndarray]()
    for cells in list_cells(task, inputs, config):
        used, offsets = cells.weights != 0, np.broadcast_to(cells.offsets, cells.weights.shape)
        # Nonzero weights with their offsets, list by list and PE by PE.
        entries = np.stack([cells.weights[used], offsets[used]], axis=1)
        parts = np.split(entries, np.cumsum(used.sum(axis=2).ravel())[:-1])
        lists += [parts[n : n + config.pes] for n in range(0, len(parts), config.pes)]
        if task.split is not None:
            cuts.append(np.stack([used[..., : n * cells.parts].sum(axis=2) for n in (1, 2)], axis=2))
    return Lists(lists, np.concatenate(cuts) if cuts else None)
