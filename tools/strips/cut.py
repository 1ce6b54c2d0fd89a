"""A network's layers, cut into strips: their walks and lists come from the compiler."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hw.compiler.lower import lower
from hw.compiler.memory.core_schedule import CoreSchedule, core_schedule
from hw.compiler.memory.kernel_lists import kernel_lists
from hw.compiler.steps.expansion import CoreTask, can_split, expand_step
from hw.compiler.steps.partition import Partition
from hw.compiler.steps.step import Step
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.network import Network

__all__ = ["Cut", "CutLayer", "LayerStrip", "cut_network", "words_of"]


@dataclass(frozen=True)
class Cut:
    """How a layer is cut: strips of rows times groups of output channels."""

    strips: int = 1
    groups: int = 1


@dataclass(frozen=True, eq=False)
class LayerStrip:
    """A strip of a layer: what a core makes at a time.

    Attributes
    ----------
    layer : int
    group : int
        First channel word of its group; strips of a group have the same lists.
    rows, words : tuple of 2 int
        Rows and channel words that it makes, the last ones excluded.
    reads : tuple of 2 int
        Rows of the source.
    """

    layer: int
    group: int
    rows: tuple[int, int]
    words: tuple[int, int]
    reads: tuple[int, int]
    task: CoreTask = field(repr=False)
    schedule: CoreSchedule = field(repr=False)


@dataclass(frozen=True, eq=False)
class CutLayer:
    """A step, cut into strips.

    Attributes
    ----------
    step : Step
    strips : tuple of LayerStrip
    dealt : tuple of int64 arrays (output channels,)
        The channel at each place: for all columns of the output, or for even and for odd ones.
    list_words : int64 array (groups, PEs)
    made : tuple of (str, int)
        The map that each channel word is of, and its number there.
    branch, exit : int
        Exits that are decided before it; the one that it decides, or -1.
    """

    step: Step
    strips: tuple[LayerStrip, ...]
    dealt: tuple[np.ndarray, ...]
    list_words: np.ndarray
    made: tuple[tuple[str, int], ...]
    branch: int
    exit: int

    @property
    def accumulators(self) -> int:
        """Accumulators of a PE that a strip holds, with one row of outputs on its way out."""
        if self.step.kernel.global_pool:
            return self.strips[0].schedule.dump_length
        return max(strip.schedule.width * (strip.task.kernel.rows.live + 1) for strip in self.strips)


def words_of(channels: int) -> int:
    """Channel words of a position."""
    return -(-channels // WORD_CHANNELS)


def cut_network(
    network: Network,
    cuts: Sequence[Cut | Partition],
    config: AcceleratorConfig,
    activity: dict[str, np.ndarray] | None = None,
    *,
    dealt_channels: int = 0,
    fuse: bool = False,
) -> tuple[CutLayer, ...]:
    """A network's steps, cut.

    Parameters
    ----------
    cuts : sequence of Cut or Partition
        Of every step; strips are walked column by column, with split lists where the kernel is larger than 1x1. With a
        partition of the compiler, the walk is that one.
    activity : dict of str to float array, optional
        Share of activations that are multiplied, by tensor and channel.
    dealt_channels : int
        Layers of up to so many output channels are dealt differently to even and odd columns.
    fuse : bool
        Whether shortcuts are made by the convolutions of the same input; their own cuts then mean nothing.
    """
    found: list[CutLayer] = []
    heads = [head.logits for head in network.exits]
    branch = 0
    steps = lower(network).steps
    shortcuts = _shortcuts(steps) if fuse else {}
    for at, (whole, cut) in enumerate(zip(steps, cuts, strict=True)):
        if at in shortcuts.values():
            continue
        step = whole
        made = tuple((step.result.name, word) for word in range(words_of(step.result.output.shape[2])))
        if at in shortcuts:
            step, made = _with_shortcut(step, steps[shortcuts[at]], cut.groups)
        partition = cut if isinstance(cut, Partition) else _partition(step, cut)
        strips = _strips(len(found), step, partition, config)
        channels = step.result.output.shape[2]
        dealt: tuple[np.ndarray, ...] = (np.arange(channels),)
        if activity is not None and strips[0].task.split is not None and config.pes < channels <= dealt_channels:
            dealt = (dealt[0], _other_deal(step, activity[step.layer.inputs[0]], config.pes))
        list_words = np.array([_list_words(strip, dealt, config) for strip in strips[: partition.groups]])
        ends = heads.index(step.layer.name) if step.layer.name in heads else -1
        found.append(CutLayer(step, strips, dealt, list_words, made, branch, ends))
        branch = max(branch, ends + 1)
    return tuple(found)


def _partition(step: Step, cut: Cut) -> Partition:
    column_major = not step.kernel.global_pool and not step.raw
    split = column_major and can_split(step, cut.strips, column_major=True)
    return Partition(cut.strips, cut.groups, merged=True, column_major=column_major, split=split)


def _strips(number: int, step: Step, partition: Partition, config: AcceleratorConfig) -> tuple[LayerStrip, ...]:
    inputs = (0, step.source.shape[2])
    strips = []
    for task in expand_step(step, partition, config).commands[0]:
        rows, words = task.tile.rows, task.tile.words
        reads = (0, step.source.shape[0]) if step.kernel.global_pool else step.kernel.reads(*rows)
        schedule = core_schedule(step, task, inputs, partition.column_major, kernel_lists(task, inputs, config), config)
        strips.append(LayerStrip(number, words[0], rows, words, reads, task, schedule))
    return tuple(strips)


def _shortcuts(steps: Sequence[Step]) -> dict[int, int]:
    """Of each step that can make a shortcut's channels, too: the number of that 1x1 convolution of the same input."""
    found = {}
    for a, small in enumerate(steps):
        for b, step in enumerate(steps):
            alike = small.reads == step.reads and small.result.output.shape[:2] == step.result.output.shape[:2]
            plain = not (small.add or step.add or small.raw or step.raw or step.kernel.depthwise)
            tiny = small.kernel.weight.shape[1:3] == (1, 1) and step.kernel.weight.shape[1:3] != (1, 1)
            whole = not (step.result.output.shape[2] % WORD_CHANNELS or small.result.output.shape[2] % WORD_CHANNELS)
            if alike and plain and tiny and whole and small.threshold == step.threshold:
                found[b] = a
    return found


def _with_shortcut(step: Step, shortcut: Step, groups: int) -> tuple[Step, tuple[tuple[str, int], ...]]:
    """A convolution that makes a shortcut's channels, too; of its groups each has some words of both."""
    kernel, small = step.kernel, shortcut.kernel
    weight = np.zeros((small.weight.shape[0], *kernel.weight.shape[1:]), dtype=kernel.weight.dtype)
    weight[:, kernel.rows.pad, kernel.columns.pad] = small.weight[:, 0, 0]
    both = (step, kernel.weight), (shortcut, weight)
    made, weights = [], []
    for group in range(groups):
        for one, values in both:
            count = words_of(one.result.output.shape[2])
            first, last = (n * count // groups for n in (group, group + 1))
            made += [(one.result.name, word) for word in range(first, last)]
            weights.append(values[first * WORD_CHANNELS : last * WORD_CHANNELS])
    joint = np.concatenate(weights)
    output = replace(step.result.output, shape=(*step.result.output.shape[:2], len(joint)))
    layer = replace(step.layer, output=output)
    return replace(step, layer=layer, kernel=replace(kernel, weight=joint)), tuple(made)


def _other_deal(step: Step, activity: np.ndarray, pes: int) -> np.ndarray:
    """Another order of a layer's channels, such that two columns together give all PEs equal work."""
    used = np.count_nonzero(step.kernel.weight, axis=(1, 2))
    work = used @ activity[: used.shape[1]]
    order = np.arange(len(work))
    first = np.array([work[pe::pes].sum() for pe in range(pes)])

    def cost(tried: np.ndarray) -> float:
        return float(((first + np.array([work[tried[pe::pes]].sum() for pe in range(pes)])) ** 2).sum())

    best, improved = cost(order), True
    while improved:
        improved = False
        for a in range(len(order)):
            for b in range(a):
                order[[a, b]] = order[[b, a]]
                found = cost(order)
                if found < best * (1 - 1e-9):
                    best, improved = found, True
                else:
                    order[[a, b]] = order[[b, a]]
    return order


def _list_words(strip: LayerStrip, dealt: Sequence[np.ndarray], config: AcceleratorConfig) -> np.ndarray:
    """Words of the lists of a strip in each PE: pointers and entries, of every deal."""
    lists = strip.schedule.lists
    pointers = len(lists.entries) * lists.pointer_words
    words = np.zeros(config.pes, dtype=np.int64)
    if len(dealt) > 1:
        nonzero = np.count_nonzero(strip.task.kernel.weight, axis=(1, 2, 3))
        for deal in dealt:
            for place in range(*strip.task.channels):
                words[place % config.pes] += nonzero[deal[place]]
        return words + pointers * len(dealt)
    # Of lists that aren't split, those that are equal in a PE are stored once.
    stored = {
        (pe, part.tobytes() if lists.cuts is None else number): len(part)
        for number, entries in enumerate(lists.entries)
        for pe, part in enumerate(entries)
    }
    for (pe, _), length in stored.items():
        words[pe] += length
    return words + pointers
