import numpy as np
import pytest

from hw.compile import compile_network
from hw.config import preset
from hw.network import INPUT
from models import golden
from tests.hw.machine import Machine
from tests.random_networks import NetworkMaker, random_codes, random_network

TINY = preset("tiny")


def assert_equals_golden(program, codes):
    """Every layer, every decision; returns the exits taken."""
    net = program.network
    expected = golden.run(net, codes)
    machine = Machine(program.images, program.config)
    for number, image in enumerate(codes):
        outcome = machine.run(image)
        for ran in outcome.layers:
            command = program.commands[ran.index]
            tensor = net.tensors()[command.tensor]
            first, last = command.channels
            wanted = expected.tensors[command.tensor][number, :, :, first:last].astype(np.int64)
            shape = (*tensor.shape[:2], -1)
            found = ran.values.reshape(shape)
            zero_point = 0 if program.network.layer(command.tensor).output.scale is None else tensor.zero_point
            np.testing.assert_array_equal(found[:, :, : last - first], wanted - zero_point, err_msg=command.name)
        assert (outcome.exit, outcome.label) == (expected.exit_index[number], expected.classes[number])
        assert outcome.margin == expected.margins[number, outcome.exit]
    return expected.exit_index


@pytest.mark.parametrize("seed", range(30))
def test_random_networks_equal_the_golden_model(seed):
    net = random_network(seed, size=7)
    codes = random_codes(net, 3, seed)
    config = TINY.replace(
        pes=(4, 8, 16)[seed % 3],
        list_words=4096,
        accumulators=1024,
        activation_bytes=16384,
        channel_words=512,
        program_words=2048,
        accumulator_bits=30,
    )
    assert_equals_golden(compile_network(net, config), codes)
