"""What a partition of a step needs of PEs and of table entries, and which rule it breaks where that is too much."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import ceil

import numpy as np

from hw.compiler.steps.expansion import CoreTask, Expansion
from hw.compiler.steps.geometry import column_dumps, row_schedule
from hw.compiler.steps.partition import Partition
from hw.compiler.steps.step import Kernel, Step
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.isa import Column, Row, Source

__all__ = ["Requirements", "accumulators", "least_passes", "refusal", "requirements"]


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a partition of a step needs.

    Attributes
    ----------
    accumulators : int
        Of a PE, for all rows that are live at the same time.
    longest : int
        Entries of a PE's longest list.
    cut : int
        Entries of the first two parts of a PE's longest split list.
    reach : int
        Largest number of a list, counted from a row's or a column's first.
    uses : int
        Lists for each activation of a row.
    completed : int
        Output positions that a column completes.
    blank : int
        Rows of the walk beyond the map.
    words : int
        Words of a position, scanned or made.
    """

    accumulators: int = 0
    longest: int = 0
    cut: int = 0
    reach: int = 0
    uses: int = 0
    completed: int = 0
    blank: int = 0
    words: int = 0

    def fits(self, config: AcceleratorConfig) -> bool:
        """Whether a config has it."""
        return all(rule.of(self) <= rule.most(config) for rule in _RULES)


@dataclass(frozen=True)
class _Rule:
    """A figure of a :class:`Requirements`, the most that is possible, and what to say of more."""

    of: Callable[[Requirements], int]
    most: Callable[[AcceleratorConfig], int]
    message: str


_MOST_WORDS: int = Source.fields["words"].high
_RULES = (
    _Rule(
        lambda need: need.accumulators,
        lambda config: config.accumulators,
        "accumulator memory holds {most} a PE; {value} are needed, {more} too many",
    ),
    _Rule(
        lambda need: need.longest,
        lambda config: config.max_list,
        "a weight list has {value} entries, {more} more than the {most} that a pointer of this config can count",
    ),
    _Rule(
        lambda need: need.cut,
        lambda config: (1 << config.start_bits // 2) - 1,
        "two parts of a split list have {value} entries, {more} more than the {most} that their word can count",
    ),
    _Rule(
        lambda need: need.reach,
        lambda config: Row.fields["list"].high,
        "lists are numbered up to {value}, {more} more than the {most} that a table entry can hold",
    ),
    _Rule(
        lambda need: need.uses,
        lambda config: Row.fields["count"].high,
        "an activation meets {value} kernel rows, {more} more than the {most} that a table entry can count",
    ),
    _Rule(
        lambda need: need.completed,
        lambda config: Column.fields["dumps"].high,
        "an input column completes {value} output positions, {more} more than the {most} that a table entry can count",
    ),
    _Rule(
        lambda need: need.blank,
        lambda config: Source.fields["blank_rows"].high,
        "a kernel reaches {value} rows beyond the map, {more} more than the {most} that a description can count",
    ),
    _Rule(
        lambda need: need.words,
        lambda config: _MOST_WORDS,
        "a position has {value} words, {more} more than the {most} that a description can count",
    ),
)


def least_passes(step: Step) -> int:
    """Passes that a step needs so that a description can count the words of a position."""
    if step.kernel.depthwise or step.select is not None:
        return 1
    return ceil(step.source.shape[2] / (WORD_CHANNELS * _MOST_WORDS))


def refusal(name: str, wanted: Sequence[Requirements], config: AcceleratorConfig) -> str:
    """Why none of these is possible: the first rule that all break that break none before, and the smallest figure."""
    for rule in _RULES:
        value, most = min(map(rule.of, wanted)), rule.most(config)
        if value > most:
            return f"{name}: " + rule.message.format(value=value, most=most, more=value - most)
        wanted = [each for each in wanted if rule.of(each) <= most]
    raise AssertionError(f"{name}: a partition breaks no rule")


def requirements(expansion: Expansion, config: AcceleratorConfig) -> Requirements:
    """What a step needs under a partition: the most of any of its tasks."""
    tasks = [task for command in expansion.commands for task in command]
    words = max(task.words for task in tasks)
    dump_length, passes = words * WORD_CHANNELS // config.pes, expansion.passes
    depth = max(end - start for start, end in passes)
    # Every command makes the same rows in the same cores.
    wanted = [
        _of_tables(task, dump_length, dump_length if task.kernel.depthwise else depth, expansion.partition)
        for task in expansion.commands[0]
    ]
    scanned = words if tasks[0].kernel.depthwise else max(-(-(end - start) // WORD_CHANNELS) for start, end in passes)
    longest, cut = _longest(tasks, config)
    wanted.append(Requirements(words=max(words, scanned), longest=longest, cut=cut))
    return Requirements(
        **{field.name: max(getattr(each, field.name) for each in wanted) for field in fields(Requirements)}
    )


def _longest(tasks: Sequence[CoreTask], config: AcceleratorConfig) -> tuple[int, int]:
    """Entries of the longest list, and of the first two parts of the longest split one."""
    longest, cut, counted = 0, 0, {}
    # Of tasks with equal lists, one is enough.
    for task in {task.same_lists: task for task in tasks}.values():
        kernel, (first, last) = task.kernel, task.channels
        # All bands that are walked column by column have the same turned weights.
        key = id(kernel.weight), first
        if key not in counted:
            counted[key] = _by_pe(kernel.weight[first:last] != 0, kernel.depthwise, config)
        counts = counted[key]
        if task.split is not None:
            for number in range(task.split.lists):
                parts = [
                    counts[:, [row for row, _, _ in taps], [column for _, column, _ in taps]].sum(axis=1)
                    for taps in task.split.taps(number)
                ]
                longest = max(longest, int(sum(parts).max()))
                cut = max(cut, int(sum(parts[:2]).max()))
            continue
        by_row = np.stack([counts[:, :, [column for column, _ in each.taps]].sum(axis=2) for each in kernel.classes])
        longest = max(
            longest, *(int(by_row[:, :, [row for row, _ in block]].sum(axis=2).max()) for block in task.blocks)
        )
    return longest, cut


def _of_tables(task: CoreTask, dump_length: int, depth: int, partition: Partition) -> Requirements:
    """What the tables of a walk need, for any weights.

    ``depth`` are the lists of a class of columns and a block.
    """
    kernel, blocks = task.kernel, task.blocks
    needed = accumulators(kernel, task.rows, dump_length, several=partition.passes > 1)
    reach = max((len(kernel.classes) - 1) * len(blocks), len(blocks) - 1) * depth
    if task.split is not None:
        reach = (task.split.lists - 1) * depth
    if kernel.global_pool:
        return Requirements(accumulators=needed, reach=reach, uses=1, completed=1)
    rows, blank = row_schedule(kernel.rows.band(*task.rows)[1])
    return Requirements(
        accumulators=needed,
        reach=reach,
        uses=max(1 if partition.merged else len(taps) for taps, _ in rows),
        completed=max(column_dumps(kernel.columns)),
        blank=blank,
    )


def accumulators(kernel: Kernel, rows: tuple[int, int], dump_length: int, *, several: bool) -> int:
    """Accumulators of a PE for all rows that are live at the same time in a walk.

    Parameters
    ----------
    kernel, rows
        Of the walk, as :class:`hw.compiler.steps.expansion.CoreTask` has them.
    dump_length : int
        Accumulators of a position.
    several : bool
        Whether it takes several passes; behind the rows lies the position that a pass takes out.
    """
    if kernel.global_pool:
        return dump_length * (1 + several)
    count = rows[1] - rows[0]
    live = count if several else min(kernel.rows.live, count)
    return (live * kernel.columns.outputs + several) * dump_length


def _by_pe(used: np.ndarray, depthwise: bool, config: AcceleratorConfig) -> np.ndarray:
    """Entries by PE, kernel row and column, and input channel (one, where each has its own list)."""
    if depthwise:
        return used.astype(np.int16)
    if len(used) % config.pes:
        used = np.pad(used, ((0, -len(used) % config.pes), *[(0, 0)] * 3))
    entries: np.ndarray = used.reshape(-1, config.pes, *used.shape[1:]).view(np.uint8).sum(axis=0, dtype=np.int16)
    return entries
