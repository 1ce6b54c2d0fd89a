"""How many entries of a layer's lists a PE stores at least, whatever else stands in its list memory."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from hw.compiler.memory.kernel_lists import list_cells
from hw.compiler.memory.sparse import entry_text
from hw.compiler.steps.expansion import Expansion
from hw.config import AcceleratorConfig

__all__ = ["least_entries"]


def least_entries(expansion: Expansion, pe: int, config: AcceleratorConfig) -> int:
    """Words that the entries of core 0, which has a task in every command, take at least in one of its PEs.

    Entries that stand somewhere already aren't stored again (:mod:`hw.compiler.memory.sparse`): a list may be part of
    another, or of two that meet. Here every list is cut before each entry that has the offset of the list's first one;
    there are several such only in split lists of a layer with a stride. A piece has the offset of its first entry in no
    other, so of pieces with the same first offset no one begins inside another: they begin at the same place, and one
    is the beginning of the other, or have no word in common.
    """
    pieces: dict[int, set[str]] = defaultdict(set)
    for (task, *_), inputs in expansion.layers():
        for cells in list_cells(task, inputs, config):
            weights = cells.weights[:, pe]
            offsets = np.broadcast_to(cells.offsets[:, 0], weights.shape)
            used = weights != 0
            chosen, text = offsets[used], entry_text(weights[used], offsets[used])
            lengths = used.sum(axis=1)
            firsts = np.repeat(chosen[(np.cumsum(lengths) - lengths)[lengths > 0]], lengths[lengths > 0])
            for start, end in pairwise([*np.flatnonzero(chosen == firsts).tolist(), len(chosen)]):
                pieces[int(chosen[start])].add(text[start:end])
    return max(map(_apart, pieces.values()), default=0)


def _apart(texts: Iterable[str]) -> int:
    """Characters of all texts but those that are the beginning of another."""
    return sum(len(text) for text, after in pairwise([*sorted(texts), ""]) if not after.startswith(text))
