"""What a search finds anew only in part is what all of it is."""

from itertools import product

import pytest

from hw.compiler.search.search import Costs, Search
from hw.config import AcceleratorConfig
from tests.hw.compiler.passes import planner
from tests.random_networks import random_network, two_blocks

#: With memories that are short of nearly everything.
CONFIG = AcceleratorConfig(
    cores=4, list_words=256, activation_words=128, channel_words=64, accumulators=1024, accumulator_bits=32, loader=1
)


def costs_of(network) -> Costs:
    return planner(network, CONFIG)._costs


def fresh(costs: Costs, choice, streamed: bool) -> Search:
    return Search(costs, choice, CONFIG.list_words, streamed, CONFIG)


@pytest.mark.parametrize("price", [0, 0.1, 100.0])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("seed", [0, 3, 5])
def test_costs_after_many_changes_are_those_of_the_choice(seed, streamed, price):
    costs = costs_of(random_network(seed))
    search = fresh(costs, (0,) * len(costs.readers), streamed)
    first = search.cost(price)
    search.descend(price)
    again = fresh(costs, search.choice, streamed)
    assert search.cost(price) == again.cost(price) <= first
    assert search.excess() == again.excess()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("seed", [0, 3])
def test_no_change_of_a_layer_or_two_neighbours_is_cheaper_in_the_end(seed, streamed):
    costs = costs_of(random_network(seed))
    search = fresh(costs, (0,) * len(costs.readers), streamed)
    search.descend(1.0)
    least = search.cost(1.0)
    for groups in [(n,) for n in range(len(costs.groups))] + costs.neighbours:
        for options in product(*(range(len(costs.held[group])) for group in groups)):
            choice = list(search.choice)
            for group, option in zip(groups, options, strict=True):
                for step in costs.groups[group]:
                    choice[step] = option
            assert fresh(costs, tuple(choice), streamed).cost(1.0) >= least


def test_a_fall_ends_where_no_single_change_is_cheaper():
    costs = costs_of(two_blocks(8, 16))
    search = fresh(costs, (0,) * len(costs.readers), False)
    first = search.cost(1000.0)
    search.fall(1000.0)
    least = search.cost(1000.0)
    assert least == fresh(costs, search.choice, False).cost(1000.0) <= first
    for group, held in enumerate(costs.held):
        for option in range(len(held)):
            choice = [option if n in costs.groups[group] else each for n, each in enumerate(search.choice)]
            assert fresh(costs, tuple(choice), False).cost(1000.0) >= least


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_runner_up_is_the_cheapest_other_option_with_which_memories_lack_no_more(seed, streamed):
    costs = costs_of(random_network(seed))
    search = fresh(costs, (0,) * len(costs.readers), streamed)
    search.descend(1.0)
    chosen = search.choice
    cycles, ties = search.cost(0), 0
    for group, found in enumerate(search.runners_up()):
        others = {}
        for option in range(len(costs.held[group])):
            choice = tuple(option if n in costs.groups[group] else each for n, each in enumerate(chosen))
            other = fresh(costs, choice, streamed)
            if choice != chosen and other.excess() <= search.excess():
                others[option] = other.cost(0)
        ties += len(others)
        others = {option: cost for option, cost in others.items() if abs(cost - cycles) >= 1}
        ties -= len(others)
        assert found == (min(others.items(), key=lambda each: each[1]) if others else None)
    assert search.choice == chosen
    assert ties > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_no_move_is_tried_again_where_nothing_else_has_changed(streamed, monkeypatch):
    costs, tried = costs_of(random_network(3)), []
    attempt = Search._try

    def noted(search, move, options, *arguments, **named):
        if not any(options):  # the first of a move
            tried.append((search.choice, move.groups))
        return attempt(search, move, options, *arguments, **named)

    monkeypatch.setattr(Search, "_try", noted)
    fresh(costs, (0,) * len(costs.readers), streamed).descend(1.0)
    assert len(tried) == len(set(tried)) > 0
