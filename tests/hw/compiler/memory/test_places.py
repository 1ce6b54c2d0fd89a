"""What a place needs at least is no more than it needs in any partition."""

import pytest

from hw.compiler.lower import lower
from hw.compiler.memory.places import Places
from hw.config import AcceleratorConfig
from tests.hw.compiler.passes import planner
from tests.random_networks import random_network, two_blocks

CONFIG = AcceleratorConfig(cores=4, list_words=8192, accumulators=1024, accumulator_bits=32)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", ["blocks", 0, 3, 6])
def test_no_partition_needs_fewer_words(name, in_place):
    network = two_blocks(6, 8) if name == "blocks" else random_network(name)
    steps = lower(network).steps
    found = planner(network, CONFIG, in_place=in_place)
    least = Places(steps, in_place=in_place).least(found._maps, CONFIG)
    counts = [len(options) for options in found._options]
    # All steps under the same number of option, and each step alone under each of its own.
    choices = [tuple(min(n, count - 1) for count in counts) for n in range(max(counts))]
    choices += [
        tuple(option if n == step else 0 for n in range(len(steps)))
        for step, count in enumerate(counts)
        for option in range(count)
    ]
    for choice in choices:
        for request, bound in zip(found.requests(choice), least, strict=True):
            assert (request.name, request.first, request.last, request.apart) == (
                bound.name,
                bound.first,
                bound.last,
                bound.apart,
            )
            assert bound.words <= request.words
