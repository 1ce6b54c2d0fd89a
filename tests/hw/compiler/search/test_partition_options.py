from functools import partial

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.lower import lower
from hw.compiler.search import partition_options as module
from hw.compiler.search.partition_options import Options
from hw.config import AcceleratorConfig
from hw.network.network import INPUT
from hw.rules import MisfitError
from tests.hw.compiler.test_compile import ROOMY
from tests.random_networks import NetworkMaker, heavy_network, two_blocks


def test_a_step_is_expanded_once_for_all_attempts(monkeypatch):
    """Here: lists at hand and read during the run, sums in places of their own and over their operands."""
    calls: dict[str, list] = {"expand_step": [], "requirements": [], "estimate": []}

    def counted(name, do, *arguments):
        first = arguments[0]
        # Expansions live as long as the options: no two have one identity.
        calls[name].append((first.layer.name, first.strip, arguments[1]) if name == "expand_step" else id(first))
        return do(*arguments)

    for name in calls:
        monkeypatch.setattr(module, name, partial(counted, name, getattr(module, name)))
    config = AcceleratorConfig(cores=2, list_words=128, activation_words=256, loader=1, program_words=1024)
    with pytest.raises(MisfitError):
        compile_network(two_blocks(12, 24), config)
    for made in calls.values():
        assert made
        assert len(made) == len(set(made))


def test_partitions_and_costs_are_those_found_before():
    network = two_blocks(8, 16)
    steps, options = lower(network).steps, Options(network, ROOMY)
    for step in steps:
        found = options.of([step])
        assert options.of([step]) is found
        assert all(options.option(step, each) is options.option(step, each) for each in found)


def test_layers_without_an_option_are_refused():
    maker = NetworkMaker(np.random.default_rng(0), (12, 12, 2))
    maker.head(maker.conv(INPUT, 16, (3, 3), pads=(1, 1, 1, 1)), 3)
    network = maker.network("net")
    with pytest.raises(MisfitError, match=r"^layer0: accumulator memory holds 64 a PE; 72 are needed, 8 too many$"):
        Options(network, ROOMY.replace(accumulators=64)).of(lower(network).steps[:1])


#: Few list words, so that lists are read in passes and in further commands; one config with groups and several bands.
TIGHT = [
    ROOMY.replace(list_words=64, loader=1, accumulator_bits=32, cores=cores, accumulators=accumulators)
    for cores, accumulators in ((1, 1024), (4, 256), (8, 64))
]


@pytest.mark.parametrize("config", TIGHT, ids=lambda config: f"{config.cores} cores")
@pytest.mark.parametrize("make", [partial(two_blocks, 8, 24), heavy_network, partial(two_blocks, 4, 40)])
def test_parts_are_found_without_an_estimate_of_those_that_cannot_do(make, config, monkeypatch):
    def found():
        network, made = make(), []
        options = Options(network, config)
        for step in lower(network).steps:
            try:
                made.append(options.of([step]))
            except MisfitError as error:
                made.append(str(error))
        return made, len(options._options)

    partitions, estimated = found()
    monkeypatch.setattr(module, "_least_words", lambda option, *, deeper: lambda count: 0)
    every, all_estimated = found()
    assert partitions == every
    assert estimated <= all_estimated
    assert any(each.passes > 1 or each.commands > 1 for some in partitions if isinstance(some, list) for each in some)
