"""What is refused whatever the partition; overflows of other networks by hand are in test_compile.py."""

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.lower import lower
from hw.compiler.prove import prove
from hw.network.network import INPUT
from hw.rules import MisfitError, StructureError
from tests.hw.compiler.test_compile import ROOMY, conv_network
from tests.random_networks import NetworkMaker, with_selects


def test_what_is_proven_is_what_was_lowered():
    lowered = lower(conv_network(4, (5, 5)))
    proven = prove(lowered, ROOMY)
    assert (proven.network, proven.config) == (lowered.network, ROOMY)
    assert proven.steps is lowered.steps
    assert proven.zero_points[INPUT] == lowered.network.input.zero_point


@pytest.mark.parametrize("sign", [1, -1])
def test_logits_may_reach_the_ends_of_the_accumulators_range(sign):
    """One weight of each logit, and the bias with which the largest code makes the last number that there is."""
    network, narrow = conv_network(4, (5, 5)), ROOMY.replace(accumulator_bits=24)
    source, head = network.layers
    weight = np.zeros_like(head.weight)
    weight[:, 0, 0, 0] = sign
    end = (1 << 23) - 1 if sign > 0 else -(1 << 23)
    bias = end - sign * (source.clamp[1] - source.output.zero_point)
    for beyond in (0, sign):
        changed = replace(head, weight=weight, bias=np.full_like(head.bias, bias + beyond))
        lowered = lower(replace(network, layers=(source, changed)))
        if not beyond:
            assert prove(lowered, narrow).steps
            continue
        with pytest.raises(MisfitError, match=r"^layer1: accumulators can reach .*, beyond the 24 bits of this config"):
            prove(lowered, narrow)


@pytest.mark.parametrize("sign", [1, -1])
def test_products_of_logits_must_fit_without_their_bias(sign):
    network, narrow = conv_network(4, (5, 5)), ROOMY.replace(accumulator_bits=20)
    source, head = network.layers
    source = replace(source, output=replace(source.output, zero_point=-128), clamp=(-128, 127))
    weight = np.zeros_like(head.weight)
    weight.reshape(3, -1)[:, :18] = sign * 127
    half = 18 * 127 * 255 // 2
    assert half < 1 << 19 <= 2 * half
    changed = replace(head, weight=weight, bias=np.full_like(head.bias, -sign * half))
    with pytest.raises(MisfitError, match=r"^layer1: accumulators can reach .*, beyond the 20 bits of this config"):
        prove(lower(replace(network, layers=(source, changed))), narrow)


@pytest.mark.parametrize("sign", [1, -1])
def test_biased_sums_of_other_layers_may_reach_the_ends_of_int32(sign):
    network, narrow = conv_network(4, (3, 3)), ROOMY.replace(accumulator_bits=20)
    network = replace(network, input=replace(network.input, zero_point=0))
    conv, head = network.layers
    end = (1 << 31) - 1 if sign > 0 else -(1 << 31)
    weight, bias = np.zeros_like(conv.weight), np.full(4, end - sign * 127, np.int32)
    for beyond in (0, 1):
        weight[:, 1, 1, 0] = sign * (1 + beyond)
        changed = replace(conv, weight=weight.copy(), bias=bias)
        lowered = lower(replace(network, layers=(changed, head)))
        if not beyond:
            assert prove(lowered, narrow).steps
            continue
        with pytest.raises(StructureError, match=r"^layer0: sums with their bias must stay within int32, not reach "):
            prove(lowered, narrow)


def test_selections_of_too_many_channels_are_refused():
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 2056))
    maker.head(maker.conv(INPUT, 3, (1, 1)), 3)
    network = with_selects(maker.network("net"), np.random.default_rng(1), share=1.1)
    assert network.layers[0].select.kind != "elements"
    with pytest.raises(StructureError, match=r"^layer0: input must have at most \d+ channels to select of, not 2056$"):
        prove(lower(network), ROOMY.replace(selector=1))


@pytest.mark.parametrize(("size", "refused"), [((32, 64), False), ((3, 683), True)])
def test_averages_of_too_many_positions_are_refused(size, refused):
    maker = NetworkMaker(np.random.default_rng(0), (*size, 1))
    maker.head(maker.pool(INPUT), 3)
    lowered = lower(maker.network("net"))
    if not refused:
        assert prove(lowered, ROOMY).steps
        return
    with pytest.raises(StructureError, match=r"^layer0: an average pool must cover at most 2048 positions, not 2049$"):
        prove(lowered, ROOMY)


def test_average_pools_with_too_large_a_window_are_refused():
    maker = NetworkMaker(np.random.default_rng(0), (60, 60, 1))
    maker.head(maker.average_pool(INPUT, (50, 50), (10, 10)), 3)
    with pytest.raises(StructureError, match=r"^layer0: an average pool must cover at most 2048 positions, not 2500$"):
        prove(lower(maker.network("net")), ROOMY)
