import re
from dataclasses import replace

import numpy as np
import pytest

from hw.compiler import attempts
from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.network.network import INPUT, Network
from hw.rules import MisfitError, ShortageError, StructureError
from tests.hw.changes import Changes
from tests.hw.compiler.test_compile import ROOMY, conv_network, refused
from tests.hw.equality import assert_equals_golden
from tests.random_networks import NetworkMaker, random_codes, two_blocks, wide_network, with_selects


def test_too_many_classes_are_refused():
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 1))
    maker.head(INPUT, 2049)
    refused(maker.network("net"), ROOMY, r"net: classes must be from 2 to 2048, not 2049", StructureError)
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 1))
    maker.head(INPUT, 129)
    message = r"net: exit unit keeps 128 logits; this network has 129 classes, 1 too many"
    refused(maker.network("net"), ROOMY, message, MisfitError)
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 1))
    maker.head(INPUT, 64)
    network = maker.network("net")
    assert_equals_golden(compile_network(network, ROOMY), random_codes(network, 2, 0))


@pytest.mark.parametrize(("size", "field"), [((256, 1), "rows"), ((1, 256), "columns")])
def test_maps_of_too_many_rows_or_columns_are_refused_by_layer(size, field):
    big = AcceleratorConfig(layer_words=4096)
    maker = NetworkMaker(np.random.default_rng(0), (*size, 1))
    maker.head(maker.pool(INPUT), 3)
    refused(
        maker.network("net"),
        big,
        rf"layer0: LayerDescription\.source\.{field} must be in 0\.\.255, not 256: "
        r"the layer is too large for the instruction format",
    )
    maker = NetworkMaker(np.random.default_rng(0), (*(n - (n > 1) for n in size), 1))
    maker.head(maker.pool(INPUT), 3)
    network = maker.network("net")
    assert_equals_golden(compile_network(network, big), random_codes(network, 1, 0))


@pytest.mark.parametrize(("cores", "size", "words"), [(1, 8, 128), pytest.param(4, 16, 256, marks=pytest.mark.slow)])
def test_sums_take_the_places_of_their_operands_where_maps_are_too_large_for_more(cores, size, words):
    network = two_blocks(size, 16)
    sums = [layer.name for layer in network.layers if layer.kind == "add"]
    places = {}
    for bank in (words, 2048):
        program = compile_network(network, ROOMY.replace(cores=cores, activation_words=bank))
        assert_equals_golden(program, random_codes(network, 1, 0))
        changes = Changes(program)
        windows = {command.tensor: changes.layers[n].cores for n, command in enumerate(program.commands)}
        places[bank] = [[core.window for core in windows[name]] for name in ("layer0", *sums)]
    first, *others = places[words]
    assert others == [first, first]
    assert places[2048][1] not in (places[2048][0], places[2048][2])


def tall(kernel: int, pads: tuple[int, int]) -> Network:
    """One convolution with a kernel of that many rows."""
    maker = NetworkMaker(np.random.default_rng(0), (32, 1, 1))
    maker.conv(INPUT, 2, (kernel, 1), pads=(*pads, 0, 0))
    maker.head("layer0", 3)
    return maker.network("net")


def test_kernels_of_too_many_rows_are_refused_by_layer():
    assert compile_network(tall(15, (7, 7)), ROOMY)
    # 16 lists of a kernel row each are too many, one list of 16 kernel rows is not; and the last column of a
    # column-major walk would complete too many positions.
    network = tall(16, (0, 15))
    assert_equals_golden(compile_network(network, ROOMY), random_codes(network, 2, 0))
    refused(
        tall(17, (0, 16)),
        ROOMY,
        r"layer0: a kernel reaches 16 rows beyond the map, 1 more than the 15 that a description can count",
    )


def head(shape: tuple[int, int, int]) -> Network:
    """A linear layer alone."""
    maker = NetworkMaker(np.random.default_rng(0), shape)
    maker.head(INPUT, 2)
    return maker.network("net")


@pytest.mark.parametrize(
    ("shape", "passes"), [((1, 1, 2040), 1), ((2, 2, 1024), 1), ((1, 1, 2048), 2), ((1, 1, 4088), 3)]
)
def test_linear_layers_of_many_inputs(shape, passes):
    """In so many passes as 255 words a position need."""
    network = head(shape)
    program = compile_network(network, ROOMY.replace(list_words=8192))
    assert len(program.commands) == passes
    assert_equals_golden(program, random_codes(network, 2, 0))


def test_layers_of_too_many_inputs_are_refused():
    refused(
        head((3, 3, 1024)),
        ROOMY.replace(list_words=8192),
        r"layer0: lists are numbered up to 6144, 2049 more than the 4095 that a table entry can hold",
    )


def short(size: int, needed: int, how: str = "at least ") -> str:
    return f"{size} words; this network needs {how}{needed}, {needed - size} too many"


def chain(layers: int) -> Network:
    """So many 1x1 convolutions and a head."""
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 2))
    here = INPUT
    for _ in range(layers):
        here = maker.conv(here, 3, (1, 1))
    maker.head(here, 3)
    return maker.network("net")


#: Of 40 layers and a head: header, instructions and decision; window and descriptions.
INSTRUCTIONS, DESCRIPTIONS = 5 + 41 + 4, 2 + 41 * 16


@pytest.mark.parametrize(
    ("memory", "field", "size", "least"),
    [("layer", "layer_words", 512, DESCRIPTIONS), ("program", "program_words", 32, INSTRUCTIONS)],
)
def test_too_long_programs_are_refused(memory, field, size, least):
    network = chain(40)
    used = compile_network(network, ROOMY).images["program" if memory == "program" else "layers"].shape[-1]
    assert size < least <= used
    refused(network, ROOMY.replace(**{field: size}), f"{memory} memory holds {short(size, least)}")


def test_all_that_is_short_whatever_the_partition_is_said_at_once():
    small = ROOMY.replace(program_words=32, layer_words=512, channel_words=256)
    refused(
        chain(40),
        small,
        f"program memory holds {short(32, INSTRUCTIONS)}; layer memory holds {short(512, DESCRIPTIONS)}; "
        f"channel memory holds {short(256, 41 * 8)}",
    )


def nothing_searched(monkeypatch) -> None:
    """Let no search begin."""

    def searched(*arguments, **options):
        raise AssertionError("a search began")

    monkeypatch.setattr(attempts, "choose", searched)


def test_what_cannot_fit_in_any_partition_is_refused_before_a_search(monkeypatch):
    nothing_searched(monkeypatch)
    refused(chain(40), ROOMY.replace(program_words=32), f"program memory holds {short(32, INSTRUCTIONS)}")
    refused(
        conv_network(16, (8, 8)),
        ROOMY.replace(activation_words=64),
        r"activation memory has banks of 64 words; layer0 alone needs 128, 64 too many",
    )
    # Each of 100 channels has lists for the left, the middle and the right columns, whatever the kernel rows.
    refused(
        conv_network(8, (4, 4), depth=100, density=0.1),
        ROOMY.replace(list_words=256),
        r"list memory holds 256 words a PE; this network needs at least \d+ \(\d+ pointers, and \d+ weights of "
        r"layer0\), \d+ too many",
    )


def test_layers_that_fit_in_no_partition_are_refused_together(monkeypatch):
    nothing_searched(monkeypatch)
    maker = NetworkMaker(np.random.default_rng(0), (12, 12, 2))
    here = maker.conv(INPUT, 16, (3, 3), pads=(1, 1, 1, 1))
    here = maker.conv(here, 16, (3, 3), pads=(1, 1, 1, 1))
    maker.head(maker.pool(here), 3)
    rule = "accumulator memory holds 64 a PE; 72 are needed, 8 too many"
    refused(maker.network("net"), ROOMY.replace(accumulators=64), f"layer0: {rule}; layer1: {rule}")


def test_selections_without_a_selector_are_refused_before_a_search(monkeypatch):
    nothing_searched(monkeypatch)
    network = with_selects(chain(1), np.random.default_rng(0), share=1.1)
    refused(network, ROOMY.replace(selector=0), r"layer0: a selection of input needs a selector; this config has none")


def test_too_many_channels_are_refused():
    network = conv_network(30, (4, 4))
    # 30 channels are stored as 32, 3 classes as 8.
    refused(network, ROOMY.replace(channel_words=32), f"channel memory holds {short(32, 40)}")


def test_too_many_weights_are_refused():
    network = conv_network(16, (4, 4), depth=4, density=1.0)
    most = compile_network(network, ROOMY).images["lists"].shape[1]
    with pytest.raises(ValueError, match=r"^list memory holds 512 words a PE; ") as caught:
        compile_network(network, ROOMY.replace(list_words=512))
    pattern = r"this network needs (\d+) \((\d+) pointers, (\d+) weights\), (\d+) too many$"
    found = re.search(pattern, str(caught.value))
    assert found
    needed, pointers, weights, missing = map(int, found.groups())
    assert pointers + weights == needed == 512 + missing
    # What it needs at least: fewer than where nothing is short, and so many are enough.
    assert 512 < needed <= most
    enough = 1 << (needed - 1).bit_length()
    assert compile_network(network, ROOMY.replace(list_words=enough)).images["lists"].shape[1] <= enough
    refused(network, ROOMY.replace(list_words=enough // 2), rf"list memory holds {enough // 2} words a PE; .* too many")


def test_lists_beyond_the_numbers_of_a_table_are_a_matter_of_memory():
    network = conv_network(2, (2, 2), depth=1200, density=0.001)
    refused(network, ROOMY, r"list memory holds 4096 words a PE; this network needs at least \d+ .* too many")


def test_lists_longer_than_a_pointer_counts_are_refused():
    # 64 classes in 2 PEs: lists of 32 entries, of which pointers into 8192 words count 31.
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 1))
    maker.head(INPUT, 64)
    network = maker.network("net")
    head = replace(network.layers[0], weight=np.ones((64, 1, 1, 1), dtype=np.int8))
    refused(
        replace(network, layers=(head,)),
        ROOMY.replace(pes=2, list_words=8192),
        r"layer0: a weight list has 32 entries, 1 more than the 31 that a pointer of this config can count",
    )


def test_rows_and_columns_longer_than_the_accumulators_are_refused():
    # 3 rows of 12 positions with 2 channels in each of 4 PEs, after the split into commands of a word; or 3 columns.
    network = conv_network(16, (12, 12))
    refused(
        network,
        ROOMY.replace(accumulators=64),
        r"layer0: accumulator memory holds 64 a PE; 72 are needed, 8 too many",
    )
    assert compile_network(network, ROOMY.replace(accumulators=128, list_words=8192))


def test_maps_larger_than_the_activation_memory_are_refused():
    network = conv_network(16, (8, 8))
    refused(
        network,
        ROOMY.replace(activation_words=64),
        r"activation memory has banks of 64 words; layer0 alone needs 128, 64 too many",
    )


def test_a_map_larger_than_a_bank_lies_in_several_cores():
    maker = NetworkMaker(np.random.default_rng(0), (8, 8, 2))
    here = maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1))
    here = maker.conv(here, 8, (3, 3), (2, 2), pads=(1, 0, 1, 0))
    maker.head(maker.pool(here), 3)
    network = maker.network("net")
    small = ROOMY.replace(activation_words=32)
    refused(network, small, r"activation memory has banks of 32 words; input alone needs 64, 32 too many")
    program = compile_network(network, small.replace(cores=4))
    # Two rows of eight words, and one above and below that the kernel reaches.
    assert [window.count for window in program.decoded.windows] == [24, 32, 32, 24]
    assert [(c.bands, c.groups) for c in program.commands[:2]] == [(4, 1), (4, 1)]
    assert_equals_golden(program, random_codes(network, 2, 0))


def in_strips(monkeypatch, error: ValueError) -> list[bool]:
    """Let whole maps be short, and raise an error for those in strips; returns which were asked for, in turn."""
    asked: list[bool] = []

    def placed(chosen):
        asked.append(any(step.strip for step in chosen.expanded.proven.steps))
        raise error if asked[-1] else ShortageError("short", chosen.list_words)

    monkeypatch.setattr(attempts, "activations_lack", lambda *arguments, **options: None)
    monkeypatch.setattr(attempts, "channels_lack", lambda *arguments, **options: None)
    monkeypatch.setattr(attempts, "place", placed)
    return asked


def test_what_memories_lack_is_said_though_strips_break_another_rule(monkeypatch):
    asked = in_strips(monkeypatch, MisfitError("something else"))
    with pytest.raises(ShortageError, match=r"^short$"):
        compile_network(wide_network(105), preset("tiny"))
    assert asked[0] is False
    assert True in asked


def test_an_error_of_strips_that_is_no_misfit_is_no_shortage(monkeypatch):
    in_strips(monkeypatch, ValueError("a bug"))
    with pytest.raises(ValueError, match=r"^a bug$"):
        compile_network(wide_network(105), preset("tiny"))
