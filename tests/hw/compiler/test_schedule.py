import pytest

from hw.compiler.choose import choose
from hw.compiler.place import place
from hw.compiler.schedule import Scheduled, schedule
from hw.config import AcceleratorConfig
from hw.network.network import Network
from hw.rules import ShortageError
from tests.hw.compiler.passes import expanded
from tests.hw.compiler.test_compile import ROOMY
from tests.hw.compiler.test_use import STREAMED
from tests.random_networks import random_network, two_blocks


def scheduled(network: Network, config: AcceleratorConfig, *, streamed: bool = False) -> Scheduled:
    chosen = choose(expanded(network, config), in_place=False, streamed=streamed, list_words=config.list_words)
    return schedule(place(chosen))


def test_every_share_of_every_command_is_scheduled():
    found = scheduled(two_blocks(6, 8), ROOMY.replace(cores=4))
    expansions = [option.expansion for option in found.placed.chosen.options]
    layers = [(expansion, *layer) for expansion in expansions for layer in expansion.layers()]
    assert [(each.expansion, each.shares, each.inputs) for each in found.work] == layers
    for each in found.work:
        assert [work.blocks for work in each.schedules] == [len(share.blocks) for share in each.shares]
        assert [len(work.lists) for work in each.schedules] == [
            share.list_count(each.inputs, found.placed.chosen.expanded.proven.config) for share in each.shares
        ]


def test_shares_with_the_same_lists_have_them_once():
    found = scheduled(two_blocks(8, 8), ROOMY.replace(cores=4))
    several = [each for each in found.work if len({share.same_lists for share in each.shares}) < len(each.shares)]
    assert several
    for each in several:
        lists = {share.same_lists: id(work.lists) for share, work in zip(each.shares, each.schedules, strict=True)}
        assert {id(work.lists) for work in each.schedules} == set(lists.values())


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
