"""What is said of a program's memories is what its compilation used of them."""

import pytest

from hw.compiler.compile import compilation
from hw.compiler.use import memory_use
from hw.config import BANKS, AcceleratorConfig, preset
from hw.program import program as program_file
from offramp.files.memories import memories_dict
from tests.hw.partitions import only
from tests.random_networks import random_network, two_blocks, wide_network

ROOMY = AcceleratorConfig(cores=4, list_words=8192, accumulators=1024, accumulator_bits=32, layer_words=4096)
STREAMED = ROOMY.replace(cores=2, list_words=256, activation_words=128, loader=1, program_words=1024)
CASES = {
    "all lists stay": lambda: (random_network(0), ROOMY),
    "a smaller bank": lambda: (random_network(9), ROOMY.replace(cores=8, second_bank_words=1024)),
    "lists are read": lambda: (random_network(4), STREAMED),
    "layers in passes": lambda: (two_blocks(8, 16), STREAMED),
    "sums in place": lambda: (two_blocks(8, 16), preset("tiny").replace(activation_words=128, list_words=4096)),
    "strips": lambda: (wide_network(105), preset("tiny")),
}


@pytest.mark.parametrize("name", CASES)
def test_words_are_those_that_the_compilation_used(name, monkeypatch, tmp_path):
    if name == "layers in passes":
        only(monkeypatch, passes=2)
    network, config = CASES[name]()
    made = compilation(network, config)
    made.program().save(tmp_path / "program.off")
    program = program_file.load(tmp_path / "program.off")
    found, uses = memories_dict(program), {use.memory: use for use in memory_use(made.proven, made.expanded, made.told)}
    assert found.keys() == {
        *("program", "layers", "lists", "bias", "multiplier", "shift"),
        *("first bank", "second bank", "accumulators"),
    }
    assert found["accumulators"] == {"used": uses["accumulators"].used, "available": config.accumulators}
    sizes = config.bank_words
    assert [found[bank]["available"] for bank in ("first bank", "second bank")] == list(sizes)
    banks = [found[bank]["used"] for bank in ("first bank", "second bank")]
    assert all(used <= size for used, size in zip(banks, sizes, strict=True))
    words = {request.name: request.words for request in made.told.chosen.requests}
    places = [(place.bank, place.base + words.get(name, 0)) for name, place in made.told.placed.places.items()]
    ends = [max((end for bank, end in places if bank == number), default=0) for number in range(BANKS)]
    assert banks == ends
    if "lists read" in uses:
        resident, read = program.size_words()["lists"][0], uses["lists read"].used
        assert resident + read <= found["lists"]["used"] <= config.list_words
    else:
        assert found["lists"]["used"] == uses["lists"].used
