"""What a partition needs is what the tables and lists hold that are made of it, and more than they can is refused."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest

from hw.compiler.lower import lower
from hw.compiler.memory.core_schedule import core_schedule
from hw.compiler.memory.kernel_lists import kernel_lists
from hw.compiler.search.requirements import Requirements, least_passes, refusal, requirements
from hw.compiler.steps.expansion import expand_step
from hw.compiler.steps.partition import Partition
from hw.compiler.steps.step import Step
from hw.config import AcceleratorConfig
from hw.network.network import INPUT
from tests.random_networks import NetworkMaker

CONFIG = AcceleratorConfig(cores=4, list_words=8192, accumulators=1024)
#: What half of an address counts.
CUT = (1 << CONFIG.start_bits // 2) - 1
MOST = Requirements(accumulators=1024, longest=31, cut=CUT, reach=4095, uses=15, completed=15, blank=15, words=255)


def first_step(maker: NetworkMaker) -> Step:
    maker.head("layer0", 3)
    return lower(maker.network("net")).steps[0]


def conv(shape: tuple[int, int, int], channels: int, kernel: tuple[int, int], **options: object) -> Step:
    maker = NetworkMaker(np.random.default_rng(0), shape)
    maker.conv(INPUT, channels, kernel, **options)
    return first_step(maker)


def needed(step: Step, partition: Partition) -> Requirements:
    return requirements(expand_step(step, partition, CONFIG), CONFIG)


def test_accumulators_of_a_3x3_kernel_by_hand():
    step = conv((6, 6, 2), 24, (3, 3), pads=(1, 1, 1, 1))
    # Three live rows of six positions with three channels each.
    assert needed(step, Partition(1, 1)).accumulators == 3 * 6 * 3
    assert needed(step, Partition(4, 1)).accumulators == 2 * 6 * 3
    assert needed(step, Partition(1, 2)).accumulators == 3 * 6 * 2
    assert needed(step, Partition(1, 1, 3)).accumulators == 3 * 6
    # A pass keeps all rows, and a position behind them.
    assert needed(step, Partition(1, 1, passes=2)).accumulators == (6 * 6 + 1) * 3


STEPS = {
    "3x3": conv((6, 6, 2), 24, (3, 3), pads=(1, 1, 1, 1)),
    "stride 2": conv((9, 7, 3), 10, (3, 3), stride=(2, 2), pads=(1, 0, 0, 1)),
    "10x4": conv((12, 8, 1), 8, (10, 4), stride=(2, 2), pads=(4, 5, 1, 1)),
    "beyond the map": conv((3, 3, 2), 8, (1, 5), pads=(0, 0, 2, 4)),
    "1x1": conv((5, 4, 9), 17, (1, 1), stride=(2, 2)),
}
PARTITIONS = [
    Partition(bands, groups, merged=merged, column_major=column_major)
    for bands, groups in ((1, 1), (2, 1))
    for merged in (False, True)
    for column_major in (False, True)
]


@pytest.mark.parametrize("partition", PARTITIONS, ids=str)
@pytest.mark.parametrize("name", STEPS)
def test_tables_and_lists_hold_what_was_said(name, partition):
    step = STEPS[name]
    longest, uses, completed, blank, lists, numbers = [], [], [], [], [], []
    expansion = expand_step(step, partition, CONFIG)
    for task in (task for command in expansion.commands for task in command):
        made = kernel_lists(task, expansion.passes[0], CONFIG)
        longest.append(max(len(entries) for parts in made.entries for entries in parts))
        lists.append(len(made.entries))
        plan = core_schedule(step, task, expansion.passes[0], partition.column_major, made, CONFIG)
        uses.append(max(row.count for row in plan.rows))
        completed.append(max(column.dumps for column in plan.columns))
        blank.append(plan.blank_rows)
        entries = [*plan.row_fields(CONFIG.accumulators), *plan.column_fields(CONFIG.accumulators)]
        numbers.append(max(entry["list"] for entry in entries))
    found = needed(step, partition)
    assert (found.longest, found.uses) == (max(longest), max(uses))
    assert (found.completed, found.blank) == (max(completed), max(blank))
    assert max(numbers) <= found.reach < max(lists)


@pytest.mark.parametrize("name", ["accumulators", "longest", "cut", "reach", "uses", "completed", "blank", "words"])
def test_the_most_fits_and_one_more_does_not(name):
    assert MOST.fits(CONFIG)
    assert not replace(MOST, **{name: getattr(MOST, name) + 1}).fits(CONFIG)


REFUSALS = [
    ({"accumulators": 1030}, "accumulator memory holds 1024 a PE; 1030 are needed, 6 too many"),
    ({"longest": 33}, "a weight list has 33 entries, 2 more than the 31 that a pointer of this config can count"),
    (
        {"cut": CUT + 2},
        f"two parts of a split list have {CUT + 2} entries, 2 more than the {CUT} that their word can count",
    ),
    ({"reach": 5000}, "lists are numbered up to 5000, 905 more than the 4095 that a table entry can hold"),
    ({"uses": 16}, "an activation meets 16 kernel rows, 1 more than the 15 that a table entry can count"),
    (
        {"completed": 17},
        "an input column completes 17 output positions, 2 more than the 15 that a table entry can count",
    ),
    ({"words": 256}, "a position has 256 words, 1 more than the 255 that a description can count"),
    ({"blank": 16}, "a kernel reaches 16 rows beyond the map, 1 more than the 15 that a description can count"),
]


@pytest.mark.parametrize(("change", "message"), REFUSALS)
def test_a_refusal_names_rule_and_value(change, message):
    assert refusal("layer7", [replace(MOST, **change)], CONFIG) == f"layer7: {message}"


def test_a_refusal_is_of_what_comes_nearest():
    """Of partitions that have enough accumulators, what else is wrong; of those that break the same rule, the least."""
    wanted = [
        Requirements(accumulators=2000),
        Requirements(longest=50),
        Requirements(longest=40, blank=99),
        Requirements(longest=60),
    ]
    assert refusal("a", wanted, CONFIG).startswith("a: a weight list has 40 entries")


@pytest.mark.parametrize(("depth", "passes"), [(8, 1), (2040, 1), (2041, 2), (4080, 2), (4096, 3)])
def test_a_position_of_many_words_is_scanned_in_passes(depth, passes):
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, depth))
    maker.head(INPUT, 2)
    step = lower(maker.network("net")).steps[0]
    assert least_passes(step) == passes
    assert needed(step, Partition(1, 1, passes=passes)).words == ceil(ceil(depth / 8) / passes)
    assert passes == 1 or not needed(step, Partition(1, 1, passes=passes - 1)).fits(CONFIG)
