"""The lists of a layer: which weights each activation meets in every PE, and where their products go."""

import numpy as np

from hw.compiler.steps.expansion import Share
from hw.config import WORD_CHANNELS, AcceleratorConfig

__all__ = ["Lists", "kernel_lists"]

#: Lists of a layer: for each column class, block and input channel (flattened in this order) an array per PE. Where an
#: output channel reads only the input channel of its number: for each group of as many channels as there are PEs.
Lists = list[list[np.ndarray]]


def kernel_lists(share: Share, inputs: tuple[int, int], config: AcceleratorConfig) -> Lists:
    """Lists for the output channels of a core's share of a layer, and the input channels of a pass.

    Output channel ``first + n`` goes to PE ``n % pes``, offset ``n // pes``; offsets wrap around the accumulators.
    """
    kernel, (first, last), pes = share.kernel, share.channels, config.pes
    weight = kernel.weight[first:last].astype(np.int64)
    slots = share.words * WORD_CHANNELS // pes
    width = kernel.columns.outputs * slots
    padded = np.pad(weight, ((0, slots * pes - len(weight)), *[(0, 0)] * 3))
    by_pe = padded.reshape(slots, pes, *weight.shape[1:])
    lists = []
    for column_class in kernel.classes:
        for block in share.blocks:
            taps = [(row, column) for row, _ in block for column, _ in column_class.taps]
            starts = [down * width + right * slots for _, down in block for _, right in column_class.taps]
            offsets = (np.array(starts, dtype=np.int64)[:, None] + np.arange(slots)) % config.accumulators
            rows, columns = np.array(taps, dtype=np.int64).reshape(-1, 2).T
            if kernel.depthwise:
                values = by_pe[..., rows, columns, 0]  # (slots, PEs, taps)
                lists += [[_pairs(each, offsets[:, slot]) for each in values[slot]] for slot in range(slots)]
                continue
            for channel in range(*inputs):
                values = by_pe[..., channel]  # (slots, PEs, kernel rows, kernel columns)
                lists.append([_pairs(values[:, pe][:, rows, columns].T, offsets) for pe in range(pes)])
    return lists


def _pairs(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Nonzero weights with their offsets."""
    used = values != 0
    return np.stack([values[used], offsets[used]], axis=1)
