import pytest

from hw.compiler.choose import Chosen, choose
from hw.compiler.place import place
from hw.config import AcceleratorConfig, preset
from hw.network.network import INPUT
from hw.rules import ShortageError
from tests.hw.compiler.passes import expanded
from tests.hw.compiler.test_compile import ROOMY
from tests.random_networks import two_blocks, wide_network


def chosen(config: AcceleratorConfig = ROOMY, *, in_place: bool = False) -> Chosen:
    network = two_blocks(6, 8)
    return choose(expanded(network, config), in_place=in_place, streamed=False, list_words=config.list_words)


@pytest.mark.parametrize("in_place", [False, True])
def test_every_map_has_a_place_within_a_bank(in_place):
    found = place(chosen(in_place=in_place))
    words = {request.name: request.words for request in found.chosen.requests}
    assert set(found.places) == {name for name, (first, *_) in found.chosen.together.items() if first in words}
    for name, placement in found.places.items():
        first = found.chosen.together[name][0]
        assert placement == found.places[first]
        assert placement.base + words[first] <= ROOMY.activation_words


def test_the_image_is_free_behind_its_last_reader():
    found = place(chosen())
    readers = [n for n, step in enumerate(found.chosen.expanded.proven.steps) if INPUT in (step.reads, step.residual)]
    assert readers[-1] < found.image_free < len(found.chosen.expanded.proven.steps)


def test_maps_that_are_too_large_are_refused():
    config = preset("tiny")
    short = choose(expanded(wide_network(105), config), in_place=False, streamed=False, list_words=config.list_words)
    with pytest.raises(ShortageError, match=r"^activation memory has banks of 512 words; "):
        place(short)
