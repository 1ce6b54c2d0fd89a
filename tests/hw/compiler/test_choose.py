import pytest

from hw.compiler.choose import Chosen, choose
from tests.hw.compiler.passes import expanded
from tests.hw.compiler.test_compile import ROOMY
from tests.hw.compiler.test_use import STREAMED
from tests.random_networks import random_network, two_blocks


def chosen(*, in_place: bool = False) -> Chosen:
    return choose(expanded(two_blocks(6, 8), ROOMY), in_place=in_place, streamed=False, list_words=ROOMY.list_words)


def test_every_step_has_an_option_and_every_command_its_cycles():
    found = chosen()
    assert found.fits
    for option, options, number in zip(found.options, found.expanded.options, found.choice, strict=True):
        assert option is options[number]
    assert len(found.cycles) == sum(len(option.cost.work) for option in found.options)
    assert found.compared[0] == pytest.approx(sum(found.cycles))


def test_maps_of_one_place_are_requested_once():
    apart, together = chosen(), chosen(in_place=True)
    assert all(places == (name,) for name, places in apart.together.items())
    assert {request.name for request in apart.requests} > {request.name for request in together.requests}
    assert {places[0] for places in together.together.values()} >= {request.name for request in together.requests}


def test_what_cannot_fit_is_chosen_all_the_same():
    found = choose(expanded(two_blocks(6, 8), ROOMY), in_place=False, streamed=False, list_words=10)
    assert not found.fits
    assert len(found.choice) == len(found.expanded.proven.steps)


def test_a_run_waits_for_lists_that_are_read():
    found = choose(expanded(random_network(4), STREAMED), in_place=False, streamed=True, list_words=256)
    assert found.compared[0] > sum(found.cycles)
