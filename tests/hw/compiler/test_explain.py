import json

import pytest

from hw.compiler.compile import compilation
from hw.compiler.explain import explanation
from hw.config import AcceleratorConfig, preset
from tests.hw.compiler.test_compile import ROOMY, conv_network
from tests.random_networks import random_network, two_blocks, wide_network

LOADED = AcceleratorConfig(
    cores=2, list_words=256, activation_words=128, accumulators=1024, accumulator_bits=32, loader=1, program_words=1024
)


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (two_blocks(6, 8), ROOMY.replace(cores=4)),
        (random_network(4), LOADED),
        (wide_network(105), preset("tiny")),
    ],
    ids=["whole", "read", "strips"],
)
def test_what_is_said_is_what_was_compiled(network, config):
    found = compilation(network, config)
    said = json.loads(json.dumps(explanation(found)))
    commands, chosen = found.program().commands, found.told.chosen
    assert (said["network"], said["refusal"]) == (network.name, None)
    assert said["attempts"][-1]["expected_cycles"] == said["expected_cycles"] == chosen.compared[0]
    for layer in said["layers"]:
        own = [command for command in commands if command.layer == layer["layer"]]
        assert {(c.bands, c.groups, c.column_major) for c in own} == {
            (layer["bands"], layer["groups"], layer["column_major"]),
        }
        assert {command.tensor for command in own} == {layer["tensor"]}
        assert len(own) == layer["commands"] * layer["passes"] * layer["strips"]
    cycles = sum(layer["expected_cycles"] for layer in said["layers"])
    assert cycles == pytest.approx(sum(chosen.cycles))
    # Where lists are kept a run is its layers; where they are read it may wait for them.
    assert said["expected_cycles"] >= cycles * (1 - 1e-9)
    assert {use["memory"] for use in said["memories"]} >= {"lists", "activations", "channels", "program", "layers"}


def test_a_runner_up_is_dearer_or_as_cheap():
    said = explanation(compilation(two_blocks(6, 8), ROOMY.replace(cores=4)))
    others = [layer["runner_up"] for layer in said["layers"] if layer["runner_up"] is not None]
    assert others
    assert all(other["expected_cycles"] >= said["expected_cycles"] * (1 - 1e-9) for other in others)


def test_refusals_are_explained_as_far_as_the_compiler_came():
    said = explanation(compilation(random_network(13), LOADED))
    assert said["refusal"].endswith("414 too many")
    assert said["refusal"] == said["attempts"][-1]["refusal"]
    assert [attempt["expected_cycles"] is None for attempt in said["attempts"]] == [True, False, False]
    assert said["layers"]
    assert said["memories"]
    # No option: nothing was tried.
    said = explanation(compilation(conv_network(16, (12, 12)), ROOMY.replace(accumulators=64)))
    assert said["refusal"] == "layer0: accumulator memory holds 64 a PE; 72 are needed, 8 too many"
    assert (said["attempts"], said["layers"], said["expected_cycles"]) == ([], [], None)
    assert said["memories"]
    # Not even proven: there is nothing that memories could hold.
    wide = conv_network(16, (12, 12), depth=64, density=1.0)
    said = explanation(compilation(wide, ROOMY.replace(accumulator_bits=20)))
    assert said["refusal"].startswith("layer0: accumulators can reach ")
    assert said["steps"] == 2
    assert said["memories"] == []
