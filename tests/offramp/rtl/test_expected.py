"""The comparison that verification rests on: equal reports pass, and every single difference is found."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.zero_points import storage_zero_points
from models.integer.golden import run
from offramp.rtl.expected import compare, expected_outputs
from tests.offramp.rtl.conftest import FLAGS
from tests.random_networks import random_codes, two_blocks


def test_equal_reports_pass(case):
    program, golden, timing, outcomes = case
    result = compare(program, outcomes, golden, timing)
    assert (result["values_equal"], result["cycles_equal"], result["mismatches"]) == (True, True, [])
    assert result["images"] == 3
    assert result["layers"] == sum(len(outcome.layers) for outcome in outcomes)


@pytest.mark.parametrize("field", ["label", "exit", "margin", "cycles"])
def test_a_different_result_is_found(case, field):
    program, golden, timing, outcomes = case
    wrong = replace(outcomes[1], **{field: getattr(outcomes[1], field) + 1})
    result = compare(program, [outcomes[0], wrong, outcomes[2]], golden, timing)
    assert result["differing"] == [1]
    assert result["values_equal"] == (field == "cycles")
    assert result["cycles_equal"] == (field != "cycles")


@pytest.mark.parametrize("flag", FLAGS)
def test_a_different_flag_is_found(case, flag):
    program, golden, timing, outcomes = case
    wrong = replace(outcomes[0], flags=outcomes[0].flags | {flag: 1})
    result = compare(program, [wrong, *outcomes[1:]], golden, timing)
    assert (result["values_equal"], result["cycles_equal"], result["differing"]) == (False, True, [0])
    assert f"image 0: {flag}: RTL 1, expected 0" in result["mismatches"][0]


@pytest.mark.parametrize("counter", ["cycles", "products", "stalls", "waited"])
def test_a_different_counter_of_one_layer_is_found(case, counter):
    program, golden, timing, outcomes = case
    layers = [dict(record) for record in outcomes[2].layers]
    layers[-1][counter] += 1
    result = compare(program, [*outcomes[:2], replace(outcomes[2], layers=layers)], golden, timing)
    assert (result["values_equal"], result["cycles_equal"], result["differing"]) == (True, False, [2])
    assert counter in result["mismatches"][0]


def test_a_different_activation_is_found_in_every_layer_and_core(case):
    program, golden, timing, outcomes = case
    found = set()
    for number, parts in enumerate(outcomes[0].outputs):
        for core, part in enumerate(parts):
            if part.size == 0:
                continue
            outputs = [[array.copy() for array in arrays] for arrays in outcomes[0].outputs]
            outputs[number][core][..., -1] += 1
            result = compare(program, [replace(outcomes[0], outputs=outputs), *outcomes[1:]], golden, timing)
            assert (result["values_equal"], result["cycles_equal"]) == (False, True)
            name = program.commands[outcomes[0].layers[number]["index"]].name
            assert f"{name} in core {core}" in result["mismatches"][0]
            found.add(core)
    assert found == {0, 1}


def test_a_layer_that_did_not_run_is_found(case):
    program, golden, timing, outcomes = case
    short = replace(outcomes[0], layers=outcomes[0].layers[:-1], outputs=outcomes[0].outputs[:-1])
    result = compare(program, [short, *outcomes[1:]], golden, timing)
    assert not result["values_equal"]
    assert "layers run" in result["mismatches"][0]


@pytest.mark.parametrize("channels", [(0, 8), (8, 16)])
def test_an_instruction_makes_the_channels_of_its_command(channels):
    """Of a map of two words a position, one of them."""
    program = compile_network(two_blocks(4, 16), preset("tiny").replace(cores=2))
    golden, stored = run(program.network, random_codes(program.network, 1, 0)), storage_zero_points(program.network)
    number, layer = 1, program.decoded.layers[1]
    assert program.commands[number].channels == (0, 16)
    commands = list(program.commands)
    commands[number] = replace(commands[number], channels=channels)
    described = SimpleNamespace(commands=commands, network=program.network, config=program.config)
    whole = expected_outputs(program, layer, golden, 0, stored)
    found = expected_outputs(described, layer, golden, 0, stored)
    for core, (rows, words), (made, some) in zip(layer.cores, whole, found, strict=True):
        place = np.arange(core.window.low, core.window.end) % 2 * 8 == channels[0]
        np.testing.assert_array_equal(made, rows & place)
        np.testing.assert_array_equal(some, words[place[rows]])
