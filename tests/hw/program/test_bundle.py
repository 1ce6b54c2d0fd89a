"""Programs loaded together do what they do alone; what doesn't fit is refused by the name of the memory."""

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.layers import select_of
from hw.network.network import INPUT
from hw.program.bits import words_of
from hw.program.bundle import MOST_PROGRAMS, Bundle, bundle_of
from hw.program.isa import Header
from hw.program.list_memory import unpack_pointers
from hw.program.program import image_sizes
from sim import simulate
from tests.hw.equality import assert_equals_golden
from tests.hw.machine import Machine
from tests.hw.partitions import only
from tests.random_networks import NetworkMaker, random_codes, random_network, with_selects

CONFIG = preset("tiny").replace(cores=2, list_words=4096, program_words=512, layer_words=1024)


@pytest.fixture(scope="module")
def programs():
    return [compile_network(random_network(seed), CONFIG) for seed in (6, 11)]


def test_a_program_alone_stays_as_it_is(programs):
    bundle = bundle_of(programs[:1])
    for name, image in programs[0].images.items():
        words = image.shape[-1]
        np.testing.assert_array_equal(bundle.images[name][..., :words], image)
        assert not bundle.images[name][..., words:].any()


def test_each_program_keeps_its_meaning(programs):
    """Every instruction, but for where things lie; and every list it uses."""
    bundle = bundle_of(programs)
    for number, program in enumerate(programs):
        own, moved = program.decoded.instructions, bundle.decoded[number].instructions
        assert [i.op for i in own] == [i.op for i in moved]
        assert [i.decision for i in own] == [i.decision for i in moved]
        alone, together = program.decoded.header, bundle.decoded[number].header
        for name in ("image_words", "image_bytes", "image_channels", "image_zero_point", "image_free", "timeout"):
            assert getattr(alone, name) == getattr(together, name)
        for one, other in zip(own, moved, strict=True):
            for core, (before, after) in enumerate(zip(one.cores, other.cores, strict=True)):
                assert (before.rows, before.columns) == (after.rows, after.columns)
                for part in ("residual", "target", "window"):
                    assert getattr(before, part) == getattr(after, part)
                if not before.enable:
                    continue
                first, base = before.source.first_list, after.source.first_list
                rows = slice(core * CONFIG.pes, (core + 1) * CONFIG.pes)
                old, new = program.images["lists"][rows].astype(int), bundle.images["lists"][rows].astype(int)
                offsets = {row.list + column.list for row in before.rows for column in before.columns}
                for offset in sorted(offsets):
                    for pe in range(CONFIG.pes):
                        entries = [
                            words[pe][start : start + count].tolist()
                            for words, pointer in ((old, old[pe][first + offset]), (new, new[pe][base + offset]))
                            for start, count in [unpack_pointers(pointer, CONFIG)]
                        ]
                        assert entries[0] == entries[1]


@pytest.fixture(scope="module")
def selecting():
    """Programs of which all but the first and the last select, in every kind."""
    networks = [
        random_network(6, size=6),
        *(with_selects(random_network(seed, size=6), np.random.default_rng(seed), 0.8) for seed in (3, 5, 8)),
        random_network(11, size=6),
    ]
    found = [compile_network(network, CONFIG) for network in networks]
    kinds = [{layer.select.kind for layer in program.network.layers if select_of(layer)} for program in found]
    assert not kinds[0] | kinds[-1]
    assert all(kinds[1:-1])
    assert set.union(*kinds) == {"elements", "channels", "mask"}
    return found


def alone(bundle: Bundle, number: int) -> dict[str, np.ndarray]:
    """The images of a bundle as they are for a machine that knows no program but that one: its Header comes first."""
    program = bundle.images["program"].copy()
    size = words_of(Header)
    program[:size] = program[number * size : (number + 1) * size]
    return bundle.images | {"program": program}


def test_programs_that_select_run_as_they_do_alone(selecting):
    """Values, exits and products of every layer, in the accelerator in plain Python."""
    bundle = bundle_of(selecting)
    for number, program in enumerate(selecting):
        own = Machine(program.images, CONFIG)
        moved = Machine(alone(bundle, number), CONFIG)
        for codes in random_codes(program.network, 2, number):
            before, after = own.run(codes), moved.run(codes)
            assert (before.exit, before.label, before.margin) == (after.exit, after.label, after.margin)
            assert [ran.products for ran in before.layers] == [ran.products for ran in after.layers]
            for one, other in zip(before.layers, after.layers, strict=True):
                np.testing.assert_array_equal(one.values, other.values)


def test_programs_with_split_lists_run_as_they_do_alone(monkeypatch):
    """Values and cycles; list numbers count pairs of words, also behind a program that ends within a pair."""
    config = CONFIG.replace(accumulators=64)
    only(monkeypatch, split=True)
    found = [compile_network(random_network(seed), config) for seed in (9000, 9001, 9003)]
    assert found[0].images["lists"].shape[1] % 2
    bundle = bundle_of(found)
    for number, program in enumerate(found):
        cores = [core for layer in program.decoded.layers for core in layer.working.values()]
        assert {core.split for core in cores} == {False, True}
        moved = replace(program, images=alone(bundle, number))
        codes = random_codes(program.network, 2, number)
        assert_equals_golden(moved, codes)
        np.testing.assert_array_equal(simulate(moved, codes).layer_cycles, simulate(program, codes).layer_cycles)


def test_a_program_that_reads_lists_is_loaded_alone(programs):
    """Its lists image ends within a pair of words, and the first chunk begins there."""
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, 32))
    here = maker.conv(INPUT, 96, (1, 1), density=0.5)
    for _ in range(3):
        here = maker.conv(here, 96, (1, 1), density=0.6)
    maker.head(here, 3)
    config = CONFIG.replace(cores=1, accumulators=64, list_words=2048, channel_words=512, loader=1)
    program = compile_network(maker.network("net"), config)
    resident = program.images["lists"].shape[1]
    assert resident % 2
    assert resident == program.decoded.chunks[0].segments[0].address
    np.testing.assert_array_equal(bundle_of([program]).images["lists"], program.images["lists"])
    with pytest.raises(
        ValueError, match=r"^net reads lists during its runs: such a program must be loaded alone, not "
    ):
        bundle_of([program] * 2)


def test_masks_move_along_and_other_selections_stay(selecting):
    bundle, moved = bundle_of(selecting), 0
    for number, program in enumerate(selecting):
        pairs = zip(program.decoded.instructions, bundle.decoded[number].instructions, strict=True)
        for before, after in pairs:
            for one, other in zip(before.selections, after.selections, strict=True):
                assert one.masks == other.masks
                table = other.table - one.table
                assert bool(table) == bool(one.masks)
                assert replace(one, table=0) == replace(other, table=0)
                moved += bool(one.masks)
    assert moved


def test_headers_come_first(programs):
    bundle = bundle_of([*programs, programs[0]])
    assert bundle.decoded[0].header.entry == 3 * words_of(Header)
    assert len(bundle.writes()) == len(programs[0].writes())


def test_a_memory_that_is_short_is_named(programs):
    small = [compile_network(random_network(seed), preset("tiny").replace(cores=2)) for seed in (6, 11)]
    with pytest.raises(ValueError, match=r"^\w+ memory holds \d+ words; .* need \d+( \+ \d+)+ together, \d+ too many$"):
        bundle_of(small * 12)


def test_programs_of_different_configs_are_refused(programs):
    other = compile_network(random_network(6), CONFIG.replace(job_queue=4))
    with pytest.raises(ValueError, match=r"was compiled for config \w+, .* programs loaded together must have one"):
        bundle_of([programs[0], other])


@pytest.mark.parametrize("count", [0, MOST_PROGRAMS + 1])
def test_numbers_of_programs_that_are_refused(programs, count):
    with pytest.raises(
        ValueError, match=rf"^programs must be 1 to {MOST_PROGRAMS} to be loaded together, not {count}$"
    ):
        bundle_of(programs[:1] * count)


def test_programs_may_fill_a_memory(programs, monkeypatch):
    needed = {name: sum(program.images[name].shape[-1] for program in programs) for name in programs[0].images}
    sizes = image_sizes(CONFIG)
    for name in ("lists", "layers"):
        monkeypatch.setattr("hw.program.bundle.image_sizes", lambda config, name=name: sizes | {name: needed[name]})
        bundle_of(programs)
        monkeypatch.setattr("hw.program.bundle.image_sizes", lambda config, name=name: sizes | {name: needed[name] - 1})
        with pytest.raises(ValueError, match=rf"^{name} memory holds {needed[name] - 1} words; .*, 1 too many$"):
            bundle_of(programs)
