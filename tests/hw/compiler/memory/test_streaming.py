"""Programs whose lists are read during the run, and what is refused of them."""

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.memory.core_schedule import CoreSchedule
from hw.compiler.memory.kernel_lists import Lists
from hw.compiler.memory.streaming import CommandLists, streamed
from hw.config import AcceleratorConfig
from hw.program.bits import encode, words_of
from hw.program.check.images import check_images
from hw.program.chunks import ChunkRows, ListChunk, pack_chunk
from hw.program.isa import Chunk, Opcode, Operation
from hw.program.list_memory import ListMemory
from hw.program.program import Program, load
from hw.rules import ShortageError
from models.integer import golden
from tests.hw.changes import Changes, Images
from tests.hw.machine import Machine
from tests.random_networks import random_codes, random_network

CONFIG = AcceleratorConfig(cores=2, pes=4, list_words=128, accumulators=256, loader=1)


@cache
def streaming(seed: int, config: AcceleratorConfig = CONFIG) -> Program:
    """The first random program from a seed on that reads lists during the run."""
    while True:
        try:
            program = compile_network(random_network(seed), config)
        except ShortageError:
            pass
        else:
            if len(program.images["weights"]):
                return program
        seed += 1


@pytest.mark.parametrize(
    ("cores", "words"),
    [(1, 64), (2, 128), *(pytest.param(*c, marks=pytest.mark.slow) for c in ((1, 128), (2, 64), (4, 64), (4, 128)))],
)
def test_lists_are_there_when_they_are_needed_however_soon_the_others_come(cores, words):
    """Against golden, on a machine that writes every chunk as soon as it may."""
    for seed in range(3):
        program = streaming(40 * seed, CONFIG.replace(cores=cores, list_words=words))
        codes = random_codes(program.network, 2, seed)
        expected = golden.run(program.network, codes)
        for image, code in enumerate(codes):
            found = Machine(program.images, program.config).run(code)
            assert (found.exit, found.label) == (expected.exit_index[image], expected.classes[image])
            assert found.margin == expected.margins[image, found.exit]


def test_what_fits_stays():
    network = random_network(2)
    one, other = (compile_network(network, CONFIG.replace(list_words=2048, loader=loader)) for loader in (0, 1))
    for name, image in one.images.items():
        np.testing.assert_array_equal(image, other.images[name])
    assert not len(one.images["weights"])


def test_equal_lists_are_read_once():
    """Bands of rows have the same lists, kernel row by kernel row: a segment writes them to both cores."""
    found = {segment.cores for chunk in streaming(30).decoded.chunks for segment in chunk.segments}
    assert found == {(0,), (1,), (0, 1)}


def test_a_layer_alone_may_be_too_large():
    messages = []
    for seed in (4, 7):
        try:
            compile_network(random_network(seed), CONFIG.replace(list_words=64))
        except ShortageError as refused:
            messages.append(str(refused))
    pattern = r"layer\d+: list memory holds 64 words a PE; this layer alone needs (\d+), (\d+) too many"
    found = [re.fullmatch(pattern, message) for message in messages]
    assert found
    assert all(match and int(match[1]) - 64 == int(match[2]) for match in found)
    network = streaming(6).network
    with pytest.raises(ShortageError, match=r"^list memory holds 128 words a PE; this network needs \d+"):
        compile_network(network, CONFIG.replace(loader=0))


def command(entries: int, weight: int, *, split: bool = False) -> CommandLists:
    """A layer of core 0 alone with one list, of so many entries in each PE; those of a split one are its first part."""
    part = np.stack([np.full(entries, weight), np.arange(entries)], axis=1)
    shape = {
        "top": 0,
        "column_major": False,
        "words": (0, 1),
        "steps": (1, 1),
        "block_step": 0,
        "dump_length": 1,
        "width": 1,
    }
    lists = Lists([[part] * CONFIG.pes], np.full((1, CONFIG.pes, 2), entries) if split else None)
    tables = {"rows": (), "blank_rows": 0, "columns": (), "blocks": 1, "channels": 1}
    return {0: CoreSchedule(name="layer", **shape, **tables, lists=lists)}


@pytest.mark.parametrize(("entries", "fits"), [(62, True), (63, True), (64, False)])
def test_a_layer_alone_may_fill_the_memory_to_the_last_word(entries, fits):
    """A pointer and its entries in 64 words, once for each of two layers."""
    config = CONFIG.replace(list_words=64)
    commands = [command(entries, weight) for weight in (1, 2)]
    if not fits:
        with pytest.raises(ShortageError, match=r"^layer: list memory holds 64 words a PE; this layer alone needs 65"):
            streamed(commands, [100.0, 100.0], 64, config)
        return
    plan = streamed(commands, [100.0, 100.0], 64, config)
    # The second is read when the first has ended; where they overlap by less than all, what is free comes before.
    assert (plan.waits[0], plan.chunks[0][1], plan.chunks[-1][1]) == (1, 0, 1)
    assert plan.lists.shape == (CONFIG.cores * CONFIG.pes, 0)
    assert [first[0] for first in plan.first] == ([0, 0] if entries == 63 else [0, 1])


@pytest.mark.parametrize("resident", [True, False])
def test_lists_that_stay_may_leave_just_enough(resident):
    """31 words and 33: both stay; 32 of the first and two layers of 32 that share the others."""
    config = CONFIG.replace(list_words=64)
    sizes = (31, 33) if resident else (32, 32, 32)
    commands = [command(size - 1, weight + 1) for weight, size in enumerate(sizes)]
    plan = streamed(commands, [10.0] * len(sizes), 64, config)
    assert plan.lists.shape[1] == (64 if resident else 32)
    assert (len(plan.chunks) == 0) == resident


@pytest.mark.parametrize(
    ("entries", "cycles", "resident", "first"),
    [(30, 100.0, 31, 16), (31, 100.0, 0, 15), (30, 1.0, 64, 1)],
    ids=["31 words stay", "none do", "all do"],
)
def test_split_lists_begin_at_even_addresses(entries, cycles, resident, first):
    """A list of 31 words, then a split one of 32 or 33, in a memory of 64; its number counts pairs of words."""
    commands = [command(30, 1), command(entries, 2, split=True)]
    plan = streamed(commands, [cycles] * 2, 64, CONFIG.replace(list_words=64))
    assert plan.lists.shape[1] == resident
    assert plan.first[1] == {0: first}


def test_the_file_keeps_external_memory(tmp_path):
    program = streaming(6)
    program.save(tmp_path / "p.off")
    found = load(tmp_path / "p.off", CONFIG)
    np.testing.assert_array_equal(found.images["weights"], program.images["weights"])


@cache
def good() -> Changes:
    return Changes(streaming(6))


def chunks() -> tuple[ListChunk, ...]:
    return streaming(6).decoded.chunks


def entry(number: int, **fields: int) -> Images:
    """Another entry of the chunk table, with which the program image ends."""
    chunk, behind = chunks()[number], len(chunks()) - number
    values = {"address": chunk.address, "beats": chunk.beats, "after": chunk.after} | fields
    return good().program(len(good().images["program"]) - behind * words_of(Chunk), encode(Chunk, **values))


def waits(number: int, count: int) -> Images:
    """A LAYER that waits for another number of chunks."""
    layer = good().layers[number]
    fields = {"op": Opcode.LAYER, "index": layer.index, "target": layer.target, "chunks": count}
    return good().program(layer.address, encode(Operation, **fields))


def moved(number: int, address: int) -> Images:
    """A chunk that is written elsewhere."""
    segments = [
        ChunkRows(cores=s.cores, address=address + s.address - chunks()[number].segments[0].address, words=s.words)
        for s in chunks()[number].segments
    ]
    beats, first = pack_chunk(segments, CONFIG), chunks()[number].address
    assert len(beats) == chunks()[number].beats
    weights = good().images["weights"].copy()
    weights[first : first + len(beats)] = beats
    return good().images | {"weights": weights}


def resident() -> int:
    """Words of lists that stay."""
    return good().images["lists"].shape[1]


def first() -> int:
    """The first layer with a chunk."""
    return next(n for n, layer in enumerate(good().layers) if layer.chunks)


def later() -> int:
    """The first chunk that overwrites another layer's lists."""
    return next(n for n, chunk in enumerate(chunks()) if chunk.after)


def last() -> int:
    """The last layer."""
    return len(good().layers) - 1


REFUSALS: dict[str, Callable[[], tuple[Images, str]]] = {
    "sooner than its memory is free": lambda: (
        entry(later(), after=0),
        r"chunks must be read in an order .*|layer \d+ at .*",
    ),
    "later than it is needed": lambda: (
        entry(len(chunks()) - 1, after=last() + 1),
        rf"layer {last()} at \d+: it waits for a chunk that is read after {last() + 1} layers, it is number {last()}",
    ),
    "order": lambda: (
        entry(0, after=200),
        r"chunks must be read in an order in which LAYERs end, not after \[200, .*\]",
    ),
    "over what stays": lambda: (
        moved(0, 0),
        rf"chunk 0 must not be written over the {resident()} words of the lists image",
    ),
    "not waited for": lambda: (
        waits(first(), 0),
        rf"layer {first()} at \d+, core 0: list \[\d*\] (is not among|points beyond) .*",
    ),
    "more than there are": lambda: (
        waits(last(), len(chunks()) + 1),
        rf"layer {last()} at \d+: it must wait for \d+ to {len(chunks())} chunks, not {len(chunks()) + 1}",
    ),
    "fewer than the layer before": lambda: (
        waits(last(), 0),
        rf"layer {last()} at \d+: it must wait for \d+ to {len(chunks())} chunks, not 0",
    ),
    "beyond external memory": lambda: (entry(0, address=1 << 30), r"chunk 0 must be at least one beat within .*"),
    "external memory of another kind": lambda: (
        good().images | {"weights": good().images["weights"].astype(np.int32)},
        r"weights image must be uint32 of shape .*",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_programs_that_would_do_harm_are_refused(name):
    images, message = REFUSALS[name]()
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_images(images, CONFIG)


def test_chunks_need_a_loader():
    message = f"chunks need a config with a loader; this program has {len(chunks())}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_images(good().images, CONFIG.replace(loader=0))


def test_what_a_list_memory_holds():
    """Two chunks over the same words: while the second may come, they are uncertain."""
    lists = np.full((8, 10), 7, dtype=np.uint32)
    rows = np.arange(8, dtype=np.uint32).reshape(2, 4)
    first = ChunkRows(cores=(1,), address=20, words=rows)
    second = ChunkRows(cores=(0, 1), address=21, words=rows + 100)
    chunks = [ListChunk(address=n, beats=1, after=2 * n, segments=(s,)) for n, s in enumerate((first, second))]
    memory = ListMemory(lists, chunks, CONFIG)

    def certain(lacking: np.ndarray) -> list[list[int]]:
        return [np.flatnonzero(np.diff(each) == 0).tolist() for each in lacking]

    stays = list(range(10))
    memory.at(0)
    assert certain(memory.lacking(0)) == [stays, stays]
    words = memory.at(1)
    assert certain(memory.lacking(1)) == [stays, [*stays, 20, 21]]
    np.testing.assert_array_equal(words[1, :, 20:22], rows.T)
    assert certain(memory.lacking(2)) == [stays, [*stays, 20]]
    words = memory.at(2)
    assert certain(memory.lacking(3)) == [[*stays, 21, 22], [*stays, 20, 21, 22]]
    np.testing.assert_array_equal(words[1, :, 20:23], np.stack([rows[0], *(rows + 100)]).T)


def test_lists_too_large_at_a_time_come_in_passes():
    """On a machine that writes every chunk as soon as it may."""
    found = 0
    config = CONFIG.replace(cores=1, list_words=64, layer_words=1024)
    for seed in (14, 18, 24, 25):
        program = compile_network(random_network(seed), config)
        partial = [command.partial for command in program.commands]
        found += sum(partial)
        codes = random_codes(program.network, 2, seed)
        expected = golden.run(program.network, codes)
        for image, code in enumerate(codes):
            ran = Machine(program.images, config).run(code)
            assert (ran.exit, ran.label) == (expected.exit_index[image], expected.classes[image])
            assert ran.margin == expected.margins[image, ran.exit]
    assert found > 3


def test_what_a_partial_layer_leaves_must_be_taken_out():
    config = CONFIG.replace(cores=1, list_words=64, layer_words=1024)
    program = compile_network(random_network(18), config)
    changes = Changes(program)
    number = next(n for n, command in enumerate(program.commands) if command.partial)
    core = next(k for k, part in enumerate(changes.layers[number].cores) if part.enable)
    whole = changes.layer(number, "source", (core,), partial=0)
    with pytest.raises(
        ValueError, match=rf"^layer {number} at \d+, core {core}: \d+ accumulators are filled but never"
    ):
        check_images(whole, config)
    kept = changes.layer(number, "target", (core,), first=changes.layers[number].cores[core].window.low)
    message = (
        rf"^layer {number} at \d+, core {core}: words of a partial layer must not be kept, not even by core \[.*\]$"
    )
    with pytest.raises(ValueError, match=message):
        check_images(kept, config)
