from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.choose import choose
from hw.compiler.emit import emit
from hw.compiler.expand import expand
from hw.compiler.lower import lower
from hw.compiler.place import place
from hw.compiler.prove import prove
from hw.compiler.schedule import schedule
from hw.compiler.search.partition_options import Options
from hw.compiler.search.strips import cut
from hw.network.network import INPUT
from hw.rules import ShortageError
from tests.hw.compiler.passes import scheduled
from tests.hw.compiler.test_compile import ROOMY
from tests.hw.compiler.test_use import STREAMED
from tests.hw.equality import assert_equals_golden
from tests.random_networks import NetworkMaker, random_codes, random_network, two_blocks


def test_every_share_of_every_command_is_scheduled():
    found = scheduled(two_blocks(6, 8), ROOMY.replace(cores=4))
    chosen = found.placed.chosen
    pairs = zip(chosen.expanded.proven.steps, chosen.options, strict=True)
    layers = [(step, *layer) for step, option in pairs for layer in option.expansion.layers()]
    assert [(each.step, each.tasks, each.inputs) for each in found.commands] == layers
    for each in found.commands:
        assert [work.blocks for work in each.schedules] == [len(task.blocks) for task in each.tasks]
        assert [len(work.lists.entries) for work in each.schedules] == [
            task.list_count(each.inputs, found.placed.chosen.expanded.proven.config) for task in each.tasks
        ]


def test_shares_with_the_same_lists_have_them_once():
    found = scheduled(two_blocks(8, 8), ROOMY.replace(cores=4))
    several = [each for each in found.commands if len({task.same_lists for task in each.tasks}) < len(each.tasks)]
    assert several
    for each in several:
        lists = {task.same_lists: id(work.lists) for task, work in zip(each.tasks, each.schedules, strict=True)}
        assert {id(work.lists) for work in each.schedules} == set(lists.values())


def test_strips_of_one_cut_are_not_those_of_another():
    """Two cuts make the same rows of the second of three layers; its map is whole in one of them."""
    maker = NetworkMaker(np.random.default_rng(0), (8, 4, 8))
    here = maker.conv(maker.conv(maker.conv(INPUT, 8, (1, 1)), 8, (1, 1)), 8, (1, 1))
    maker.head(maker.pool(here), 3)
    network = maker.network("net")
    proven, known = prove(lower(network), ROOMY), Options(network, ROOMY)
    for last in (3, 2, 3):
        steps = cut(proven.steps, 0, last, 1, 2)
        in_strips = expand(replace(proven, steps=tuple(steps)), known)
        found = schedule(place(choose(in_strips, in_place=False, streamed=False, list_words=ROOMY.list_words)))
        assert [id(each.step) for each in found.commands] == [id(step) for step in steps]
        assert_equals_golden(emit(found), random_codes(network, 2, 0))


def test_lists_that_are_kept_are_written_before_the_run():
    plan = scheduled(two_blocks(6, 8), ROOMY).lists
    assert (plan.chunks, set(plan.waits), set(plan.read)) == ([], {0}, {0})


def test_commands_wait_for_the_lists_that_are_read():
    plan = scheduled(random_network(4), STREAMED, streamed=True).lists
    assert plan.waits == sorted(plan.waits)
    assert plan.waits[-1] == len(plan.chunks) > 0
    before = 0
    for wait, words in zip(plan.waits, plan.read, strict=True):
        assert (wait > before) == (words > 0)
        before = wait


def test_lists_that_are_too_many_are_refused():
    with pytest.raises(ShortageError, match=r"^list memory holds 64 words a PE; this network needs \d+ "):
        scheduled(two_blocks(6, 8), ROOMY.replace(list_words=64))
