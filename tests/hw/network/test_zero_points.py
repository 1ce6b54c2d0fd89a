import pytest

from hw.network.network import INPUT
from hw.network.zero_points import code_ranges, storage_zero_points
from tests.hw.networks import pooled, with_zero_point


def test_codes_of_a_pool_lie_between_those_of_its_input():
    network = pooled(-20, -60, "average")
    *maps, head = (layer.name for layer in network.layers)
    logits = {head: network.layers[-1].clamp}
    assert code_ranges(network.layers) == {INPUT: (-128, 127)} | dict.fromkeys(maps, (-60, 127)) | logits
    conv, average, largest, last = maps
    narrow = with_zero_point(network, -20, {largest: (-100, 100)})
    wide = dict.fromkeys((INPUT, conv, average), (-128, 127))
    assert code_ranges(narrow.layers) == wide | dict.fromkeys((largest, last), (-100, 100)) | logits


@pytest.mark.parametrize(("low", "stored"), [(-128, -128), (-60, -60), (-20, -20)])
def test_what_only_max_pools_read_is_stored_against_its_lowest_code(low, stored):
    network = pooled(-20, low, "average")
    conv, average, largest, last, _ = (layer.name for layer in network.layers)
    found = storage_zero_points(network)
    assert (found[conv], found[average], found[largest], found[last]) == (-20, stored, stored, -20)
    assert found[INPUT] == network.input.zero_point


def test_what_others_read_too_is_stored_against_its_zero_point():
    network = pooled(-20, -128, early=True)
    conv, _, largest, last, _ = (layer.name for layer in network.layers)
    found = storage_zero_points(network)
    assert (found[conv], found[largest], found[last]) == (-20, -128, -20)
