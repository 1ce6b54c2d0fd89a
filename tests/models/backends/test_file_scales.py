"""Scales of single precision are found where they say what a network computes, and layers named where none do."""

from dataclasses import replace

import numpy as np

from hw.network.network import INPUT, Network
from hw.numerics import Rounding
from models.backends.file_scales import FileRounding, file_scales
from models.frontends.requantization import weighted_fields
from tests.models.backends.exportable import changed
from tests.random_networks import NetworkMaker


def network_of(seed: int) -> Network:
    """A block and a head; its maps' scales are of double precision."""
    maker = NetworkMaker(np.random.default_rng(seed), (4, 4, 3))
    maker.head(maker.block(maker.conv(INPUT, 4, (1, 1)), density=0.5), 3)
    return maker.network("made")


def test_a_file_s_own_scales_are_found():
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.001, 0.003, 4).astype(np.float32)
    network = network_of(0)
    first = network.layers[0]
    image = replace(network.input, scale=float(np.float32(network.input.scale)))
    output = replace(first.output, scale=float(np.float32(first.output.scale)))
    factors = image.scale * scales.astype(np.float64) / output.scale
    weight = rng.integers(-127, 128, first.weight.shape).astype(np.int8)
    fields = weighted_fields("", weight, first.bias, factors, Rounding.DOUBLE)
    network = changed(replace(network, input=image), first.name, output=output, **fields)
    found = file_scales(network, lambda layer: FileRounding.DOUBLE)
    np.testing.assert_array_equal(found.weights[first.name], scales)
    assert found.tensors[first.name] == output


def test_scales_are_of_single_precision_and_near_the_network_s():
    network = network_of(1)
    found = file_scales(network, lambda layer: FileRounding.DOUBLE)
    assert not found.missed
    for name, tensor in network.tensors().items():
        scale = found.tensors[name].scale
        assert abs(scale / tensor.scale - 1) < 1e-4
        assert scale == np.float32(scale) or name == network.exits[-1].logits


def test_what_no_scales_say_is_named():
    found = file_scales(network_of(1), lambda layer: FileRounding.SINGLE)
    assert found.missed["layer1"]
    assert set(found.missed["layer1"]) <= set(range(4))
    assert found.missed.keys() <= {"layer0", "layer1", "layer2", "layer3"}
