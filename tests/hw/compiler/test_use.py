"""Use of memories, layer by layer, is what the program fills; of what is refused, what is too much."""

import numpy as np
import pytest

from hw.compiler.compile import Compilation, compilation
from hw.compiler.use import MemoryUse, memory_use
from hw.config import AcceleratorConfig, preset
from hw.network.layers import select_of
from hw.network.network import INPUT, Network
from tests.hw.compiler.test_compile import conv_network
from tests.hw.partitions import only
from tests.random_networks import NetworkMaker, random_network, two_blocks, wide_network, with_selects

ROOMY = AcceleratorConfig(
    cores=4, list_words=8192, accumulators=1024, accumulator_bits=32, layer_words=4096, selector=1
)
#: Lists are read during the run.
STREAMED = ROOMY.replace(cores=2, list_words=256, activation_words=128, loader=1, program_words=1024)
#: Image of a program, by the memory that it is of.
IMAGES = {"lists": "lists", "program": "program", "layers": "layers", "channels": "bias"}


def uses_of(found: Compilation) -> dict[str, MemoryUse]:
    assert found.proven is not None
    return {use.memory: use for use in memory_use(found.proven, found.expanded, found.told)}


def selecting() -> Network:
    """Winners among elements and channels, and masks."""
    network = with_selects(random_network(0), np.random.default_rng(0), share=1.1)
    kinds = {select.kind for layer in network.layers if (select := select_of(layer)) is not None}
    assert kinds == {"elements", "channels", "mask"}
    return network


CASES = {
    "kept": lambda: (random_network(0), ROOMY),
    "kept of eight cores": lambda: (random_network(9), ROOMY.replace(cores=8)),
    "read": lambda: (random_network(4), STREAMED),
    "some read": lambda: (random_network(9), STREAMED),
    "in place": lambda: (two_blocks(8, 16), preset("tiny").replace(activation_words=128, list_words=4096)),
    "strips": lambda: (wide_network(105), preset("tiny")),
    "selections": lambda: (selecting(), ROOMY),
}


@pytest.mark.parametrize("name", CASES)
def test_words_by_layer_add_up_to_those_of_the_program(name):
    network, config = CASES[name]()
    found = compilation(network, config)
    sizes, uses = found.program().size_words(), uses_of(found)
    for memory, image in IMAGES.items():
        use = uses[memory]
        assert (use.used, use.words, use.certainty) == (*sizes[image], "exact")
        assert use.common + sum(use.layers.values()) == use.used
    layers = [step.layer.name for step in found.lowered.steps]
    assert all(list(use.layers) == layers for memory, use in uses.items() if memory != "lists read")
    assert ("lists read" in uses) == name.endswith("read")


def test_a_word_before_pointers_at_an_even_address_is_no_layers(monkeypatch):
    """Three pointers of the first layer; those of split lists take two words."""
    maker = NetworkMaker(np.random.default_rng(0), (8, 8, 3))
    maker.conv(maker.conv(INPUT, 8, (1, 1)), 8, (3, 3), pads=(1, 1, 1, 1))
    maker.head(maker.pool("layer1"), 3)
    only(monkeypatch, split=True)
    found = compilation(maker.network("net"), ROOMY.replace(cores=1, accumulators=64))
    use = uses_of(found)["lists"]
    assert (use.common, use.used) == (1, found.program().size_words()["lists"][0])


def test_lists_that_are_read_use_what_the_others_leave():
    found = compilation(*CASES["some read"]())
    uses, plan = uses_of(found), found.told.scheduled.lists
    read = uses["lists read"]
    assert read.words == STREAMED.list_words - uses["lists"].used
    assert 0 < read.used == max(read.layers.values()) == max(plan.read) <= read.words
    # A layer's lists stay or are read.
    assert not set(read.layers) & {layer for layer, words in uses["lists"].layers.items() if words}


def test_activations_are_the_maps_that_are_kept_together():
    """The image of 8 x 8 words and the layer's map; then that map and the logits, which lie nowhere."""
    uses = uses_of(compilation(conv_network(16, (8, 8)), ROOMY.replace(cores=1)))
    assert uses["activations"].layers == {"layer0": 8 * 8 * (1 + 2), "layer1": 8 * 8 * 2}
    assert (uses["activations"].used, uses["activations"].words) == (192, 2 * ROOMY.activation_words)


def test_accumulators_are_those_of_the_largest_layer():
    """Of 16 channels over 8 PEs: two for each of 8 columns, in the three rows that a 3x3 kernel keeps."""
    uses = uses_of(compilation(conv_network(16, (8, 8)), ROOMY.replace(cores=1)))
    found = uses["accumulators"]
    assert (found.used, found.words, found.certainty) == (3 * 8 * 2, ROOMY.accumulators, "exact")


def test_a_choice_that_was_refused_is_estimated():
    found = compilation(random_network(13), preset("tiny"))
    assert found.refusal is not None
    uses = uses_of(found)
    assert {use.certainty for memory, use in uses.items() if memory != "lists"} <= {"exact", "least"}
    lists = uses["lists"]
    assert lists.certainty == "expected"
    assert lists.used == sum(lists.layers.values()) > lists.words == 2048


def test_where_nothing_was_chosen_it_is_the_least():
    """Here: pointers alone are too many; the refusal counts weights, too."""
    network, config = random_network(13), ROOMY.replace(cores=1, list_words=512)
    found = compilation(network, config)
    assert found.told is None
    uses = uses_of(found)
    assert {use.certainty for use in uses.values()} == {"least"}
    assert f"({uses['lists'].used} pointers, and " in str(found.refusal)
    program = compilation(network, config.replace(list_words=8192)).program()
    for memory, image in IMAGES.items():
        assert 0 < uses[memory].used <= program.size_words()[image][0]


def test_what_has_no_options_has_no_lists():
    found = compilation(conv_network(16, (12, 12)), preset("tiny").replace(accumulators=64))
    assert found.expanded is None
    assert list(uses_of(found)) == ["activations", "channels", "program", "layers"]
