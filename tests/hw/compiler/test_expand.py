from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.expand import expand
from hw.compiler.search.partition_options import Options
from hw.compiler.search.strips import cuts_in_strips
from hw.config import preset
from hw.network.network import INPUT
from hw.rules import MisfitError
from tests.hw.compiler.passes import expanded
from tests.hw.compiler.test_compile import ROOMY
from tests.random_networks import NetworkMaker, wide_network


def test_an_option_is_expanded_for_its_partition():
    found = expanded(wide_network(105), preset("tiny"))
    assert found.groups == tuple((number,) for number in range(len(found.proven.steps)))
    for step, options in zip(found.proven.steps, found.options, strict=True):
        assert options
        assert len({option.partition for option in options}) == len(options)
        assert {option.expansion.depth for option in options} == {step.source.shape[2]}
        assert all(len(option.cost.work) == len(list(option.expansion.layers())) for option in options)


def test_strips_of_a_layer_have_the_same_options():
    network, config = wide_network(105), preset("tiny")
    whole = expanded(network, config)
    in_strips = next(cuts_in_strips(network, whole.proven.steps, config))
    found = expand(replace(whole.proven, steps=tuple(in_strips)), Options(network, config))
    assert max(map(len, found.groups)) == 4
    assert sorted(n for group in found.groups for n in group) == list(range(len(in_strips)))
    for group in found.groups:
        assert len({in_strips[n].layer.name for n in group}) == 1
        assert len({tuple(option.partition for option in found.options[n]) for n in group}) == 1


def test_choices_are_made_from_one_planner():
    found = expanded(wide_network(105), preset("tiny"))
    assert found.planner(in_place=False) is found.planner(in_place=False)
    assert found.planner(in_place=True) is not found.planner(in_place=False)


def test_all_layers_without_options_are_named():
    maker = NetworkMaker(np.random.default_rng(0), (12, 12, 2))
    here = maker.conv(INPUT, 16, (3, 3), pads=(1, 1, 1, 1))
    maker.head(maker.pool(maker.conv(here, 16, (3, 3), pads=(1, 1, 1, 1))), 3)
    rule = "accumulator memory holds 64 a PE; 72 are needed, 8 too many"
    with pytest.raises(MisfitError, match=f"^layer0: {rule}; layer1: {rule}$"):
        expanded(maker.network("net"), ROOMY.replace(accumulators=64))
