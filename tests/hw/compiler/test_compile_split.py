"""Programs with split lists, executed in plain Python, give what the golden model gives."""

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.network.network import INPUT
from hw.program.list_memory import pack_cuts, pack_pointers, unpack_pointers
from hw.rules import MisfitError
from models import zoo
from models.integer import golden
from sim import simulate
from tests.hw.changes import Changes
from tests.hw.equality import assert_equals_golden
from tests.hw.partitions import only
from tests.random_networks import NetworkMaker, random_codes, random_network

CONFIG = AcceleratorConfig(pes=4, list_words=8192, accumulators=64, layer_words=4096, accumulator_bits=32)
#: Kernel, strides, pads, size of the map.
SHAPES = (
    ((3, 3), (1, 1), (1, 1, 1, 1), (9, 7)),
    ((3, 3), (2, 2), (0, 1, 0, 1), (8, 8)),
    ((3, 3), (2, 2), (1, 1, 1, 1), (9, 6)),
    ((3, 3), (1, 2), (1, 1, 0, 1), (6, 8)),
    ((1, 3), (1, 1), (0, 0, 1, 1), (5, 8)),
    ((3, 1), (1, 1), (1, 1, 0, 0), (8, 3)),
    ((2, 2), (1, 1), (0, 1, 0, 1), (7, 7)),
    ((3, 2), (2, 1), (1, 0, 0, 1), (7, 5)),
)


def network(shape, channels=(5, 12)):
    kernel, stride, pads, size = shape
    maker = NetworkMaker(np.random.default_rng(sum(size)), (*size, channels[0]))
    here = maker.conv(INPUT, channels[1], kernel, stride, pads=pads, density=0.6)
    here = maker.conv(here, 8, (1, 1), density=0.8)
    maker.head(maker.pool(here), 3)
    return maker.network("net")


def split_layers(program):
    """Layers with split lists, and those whose walk skips entries."""
    rows = [[(*core.rows, *core.columns) for core in each.working.values()] for each in program.decoded.layers]
    return [any(entry.parts for entries in cores for entry in entries) for cores in rows], [
        any(entry.skip for entries in cores for entry in entries) for cores in rows
    ]


def products(network, codes):
    """Of nonzero weights and nonzero activations, from the simulator on a config without split lists."""
    plain = compile_network(network, CONFIG.replace(accumulators=1024))
    assert not any(split_layers(plain)[0])
    return simulate(plain, codes).products.sum(axis=1)


@pytest.mark.parametrize("column_major", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("cores", [1, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_split_lists_of_every_shape_equal_the_golden_model(shape, cores, column_major, monkeypatch):
    net = network(shape)
    codes = random_codes(net, 3, 1)
    expected = products(net, codes)
    only(monkeypatch, split=True, column_major=column_major)
    program = compile_network(net, CONFIG.replace(cores=cores))
    assert split_layers(program)[0][0]
    assert_equals_golden(program, codes)
    found = simulate(program, codes)
    np.testing.assert_array_equal(found.products.sum(axis=1), expected)
    np.testing.assert_array_equal(sum(found.spent.values()), found.layer_cycles * program.config.multipliers)
    assert (found.spent["edges"].sum() > 0) == any(split_layers(program)[1])


@pytest.mark.parametrize("number", range(8))
def test_random_networks_equal_the_golden_model(number, monkeypatch):
    net = random_network(9000 + number)
    codes = random_codes(net, 2, number)
    only(monkeypatch, split=True)
    program = compile_network(net, CONFIG.replace(cores=(1, 2, 4, 8)[number % 4], pes=(4, 8)[number % 2]))
    assert any(split_layers(program)[0])
    assert_equals_golden(program, codes)
    assert simulate(program, codes).products.sum() > 0
    assert golden.run(net, codes).classes.shape == (2,)


def test_lists_are_split_where_memory_is_short():
    """Two words an input channel in place of one for each kernel row and class of columns."""
    maker = NetworkMaker(np.random.default_rng(3), (16, 16, 24))
    here = maker.conv(INPUT, 24, (3, 3), pads=(1, 1, 1, 1), density=0.1)
    for _ in range(8):
        here = maker.conv(here, 24, (3, 3), pads=(1, 1, 1, 1), density=0.1)
    maker.head(maker.pool(here), 3)
    net = maker.network("net")
    program = compile_network(net, CONFIG.replace(cores=4, pes=8, list_words=2048))
    assert any(split_layers(program)[0])
    with pytest.raises(ValueError, match="list memory holds 1024 words a PE"):
        compile_network(net, CONFIG.replace(cores=4, pes=8, list_words=1024))


def compiled(name, accumulators):
    """A network of the zoo on 64 multipliers."""
    found = zoo.entry(name)
    network, _ = zoo.part(found, zoo.load(found))
    sizes = f"list_words=2048,accumulators={accumulators},channel_words=256"
    return compile_network(network, preset(f"base-85f,{sizes}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet8-lean", "resnet8-sparse"])
def test_networks_of_the_zoo_fit_with_split_lists(name):
    assert any(split_layers(compiled(name, 32))[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet8-lean", r"^list memory holds 2048 words a PE; this network needs at least \d+"),
        ("resnet8-sparse", r"^activation memory has 2 banks of 1024 words; no arrangement"),
    ],
)
def test_networks_of_the_zoo_do_not_fit_without(name, message):
    """Configs with more accumulators have no split lists."""
    with pytest.raises(MisfitError, match=message):
        compiled(name, 128)


@pytest.mark.parametrize("seed", range(2))
def test_split_lists_are_read_during_the_run(seed, monkeypatch):
    """Those of layers with lists of either kind take turns in the same words, at addresses from 0 on and others."""
    maker = NetworkMaker(np.random.default_rng(seed), (6, 5, 9))
    here = maker.conv(INPUT, 24, (3, 3), pads=(1, 1, 1, 1), density=0.5)
    for _ in range(3):
        here = maker.conv(here, 24, (3, 3), pads=(1, 1, 1, 1), density=0.5)
        here = maker.conv(here, 24, (1, 1), density=0.5)
    maker.head(maker.pool(here), 3)
    net = maker.network("net")
    only(monkeypatch, split=True)
    program = compile_network(net, CONFIG.replace(list_words=2048, loader=1))
    read = [chunk.segments[0].address for chunk in program.decoded.chunks]
    layers = zip(split_layers(program)[0], program.decoded.layers, strict=True)
    assert {split for split, layer in layers if layer.cores[0].source.first_list >= min(read)} == {False, True}
    codes = random_codes(net, 2, seed)
    assert_equals_golden(program, codes)
    plain = compile_network(net, CONFIG.replace(list_words=8192))
    np.testing.assert_array_equal(simulate(program, codes).products, simulate(plain, codes).products)


@pytest.fixture(scope="module")
def split_program():
    with pytest.MonkeyPatch.context() as monkeypatch:
        only(monkeypatch, split=True, column_major=False)
        return compile_network(network(SHAPES[0]), CONFIG.replace(cores=8))


def changed_row(program, **fields):
    """Images whose first row of the first layer says something else."""
    source = program.decoded.layers[0].cores[0].source
    row = program.decoded.layers[0].cores[0].rows[0]
    return Changes(program).memory(0, source.row_table, replace(row, **fields).pack())


def changed_lists(program, change):
    """Images with another word, of the first list of a core's first PE that has some entries."""
    core = 4
    source, lists = program.decoded.layers[0].cores[core].source, program.images["lists"].copy()
    words = lists[core * CONFIG.pes]
    starts, counts = unpack_pointers(words[2 * source.first_list :: 2], CONFIG)
    number = int(np.flatnonzero(counts > 3)[0])
    change(words, 2 * (source.first_list + number), slice(starts[number], starts[number] + counts[number]))
    return program.images | {"lists": lists}


def swap_cuts(words, number, _):
    words[number + 1] = pack_cuts(9, 2, CONFIG)


def move_cuts(words, number, _):
    words[number + 1] = pack_cuts(0, 0, CONFIG)


def leave_memory(words, number, _):
    words[number] = pack_pointers(CONFIG.list_words - 1, 9, CONFIG)
    words[number + 1] = pack_cuts(9, 9, CONFIG)


def unsplit(program):
    """Images whose first core reads its lists of the first layer whole."""
    images, core = program.images, program.decoded.layers[0].cores[0]
    for table, entries in ((core.source.row_table, core.rows), (core.source.column_table, core.columns)):
        words = [word for entry in entries for word in replace(entry, parts=0, skip=0).pack()]
        images = Changes(program).memory(0, table, words, images)
    return images


def unmark(words, _, entries):
    words[entries] &= 0xFFFF


def mark(words, _, entries):
    words[entries] |= 3 << 16


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda p: changed_row(p, parts=0b101), "parts of lists must be 0 everywhere, or with split lists neighbours"),
        (lambda p: changed_row(p, parts=0), "parts of lists must be 0 everywhere, or with split lists neighbours"),
        (lambda p: changed_row(p, parts=0b111), "a product goes to an accumulator of no output|filled but never taken"),
        (lambda p: changed_row(p, skip=3), "its lists must hold the weights of the network, each once"),
        (lambda p: changed_lists(p, swap_cuts), "must follow one another"),
        (lambda p: changed_lists(p, leave_memory), r"list \[\d+\] points beyond the \d+ words of lists then"),
        (lambda p: Changes(p).row(1, 0, skip=2), r"skip must be 0 where lists aren't split, not \[2\]$"),
        (lambda p: Changes(p).column(1, 0, skip=1), r"skip must be 0 where lists aren't split, not \[1\]$"),
        (
            unsplit,
            r"lists must be split in all cores that take part or in none, not in cores \[1, 2, 3, 4, 5, 6, 7\] of ",
        ),
        (lambda p: changed_lists(p, move_cuts), "lists must hold the weights|a product goes to|filled but never taken"),
        (lambda p: changed_lists(p, unmark), "a product goes to an accumulator of no output|filled but never taken"),
        (lambda p: changed_lists(p, mark), "its lists must hold the weights of the network, each once"),
    ],
)
def test_other_split_lists_are_refused(split_program, images, message):
    with pytest.raises(ValueError, match=message):
        replace(split_program, images=images(split_program))


def test_a_config_without_split_lists_refuses_them(split_program):
    config = split_program.config.replace(accumulators=1024)
    with pytest.raises(ValueError, match="parts of lists must be 0 everywhere"):
        replace(split_program, config=config)
