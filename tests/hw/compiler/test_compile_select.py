"""Programs with selections, in the accelerator in plain Python."""

import re
from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.load_balance import balance
from hw.config import preset
from hw.network.layers import select_of
from hw.network.network import INPUT, Network, Select
from hw.program.isa import MAX_MASKS, Opcode
from hw.program.program import Program, load
from tests.hw.equality import assert_equals_golden
from tests.hw.networks import runnable
from tests.random_networks import NetworkMaker, random_codes, random_network, with_selects

TINY = preset("tiny").replace(accumulator_bits=32, accumulators=512)


def selecting(seed: int) -> Network:
    return with_selects(random_network(seed, size=6), np.random.default_rng(seed), 0.8)


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", range(8))
def test_random_selections_equal_the_golden_model(tmp_path, seed, cores):
    network = selecting(8 * cores + seed)
    program = compile_network(network, TINY.replace(cores=cores, activation_words=4096, list_words=8192))
    program.save(tmp_path / "program")
    again = load(tmp_path / "program")
    assert_equals_golden(again, random_codes(network, 3, seed))


@pytest.mark.parametrize("seed", range(6))
def test_balanced_selections_equal_the_golden_model(seed):
    network = selecting(seed)
    found = balance(network, TINY)
    assert_equals_golden(compile_network(found, TINY.replace(list_words=8192)), random_codes(network, 3, seed))


def selects(program: Program) -> list[tuple[str, int]]:
    return [(i.op.name, i.index) for i in program.decoded.instructions if i.op in (Opcode.SELECT, Opcode.LAYER)]


def test_a_selection_stands_before_the_first_command_of_its_layer():
    """A layer that takes several commands selects once."""
    maker = NetworkMaker(np.random.default_rng(0), (6, 6, 16))
    maker.head(maker.conv(INPUT, 64, (3, 3), pads=(1, 1, 1, 1), density=1.0), 3)
    net = maker.network("wide")
    layers = (replace(net.layers[0], select=Select(kind="channels", count=5)), net.layers[1])
    net = replace(net, layers=layers)
    program = compile_network(net, TINY.replace(accumulators=128, list_words=8192))
    commands = [command.layer for command in program.commands]
    assert commands.count("layer0") > 1
    assert selects(program) == [("SELECT", 0), *(("LAYER", number) for number in range(len(commands)))]
    assert_equals_golden(program, random_codes(net, 3, 0))


@pytest.mark.parametrize(
    "select", [Select(kind="elements", count=2), Select(kind="channels", count=1), Select(kind="mask", channels=(0,))]
)
def test_a_config_without_selector_is_refused_by_layer(select):
    network = runnable({"early": {"select": select}})
    assert select_of(network.layer("early")) == select
    compile_network(network, TINY)
    expected = "early: a selection of stem needs a selector; this config has none"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        compile_network(network, TINY.replace(selector=0))


def test_too_many_channels_are_refused_by_layer():
    most = 8 * MAX_MASKS

    def network(depth: int, kind: str) -> Network:
        maker = NetworkMaker(np.random.default_rng(0), (1, 1, depth))
        maker.head(maker.conv(INPUT, 3, (1, 1), density=0.3), 2)
        net = maker.network("deep")
        return replace(net, layers=(replace(net.layers[0], select=Select(kind=kind, count=2)), net.layers[1]))

    roomy = TINY.replace(list_words=8192, activation_words=512)
    assert_equals_golden(
        compile_network(network(most, "channels"), roomy), random_codes(network(most, "channels"), 2, 0)
    )
    expected = f"layer0: input must have at most {most} channels to select of, not {most + 1}"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        compile_network(network(most + 1, "channels"), roomy)
    compile_network(network(most + 1, "elements"), roomy)
