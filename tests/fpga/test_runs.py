from dataclasses import replace

import numpy as np
import pytest

from fpga.driver import (
    ReplyError,
    Transaction,
    command,
)
from fpga.runs import image_words, patience, run_batch, run_image, run_words
from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import Conditions
from hw.program.bits import decode, encode, words_of
from hw.program.bundle import bundle_of
from hw.program.decode import disassemble
from hw.program.instructions import CoreLayer, Fields, HeaderFields
from hw.program.protocol import (
    CommandHeader,
    HostCommand,
    LayerRecord,
    Memory,
    Place,
    Reply,
    RunFlags,
    RunOptions,
    RunResult,
)
from sim import simulate
from tests.fpga.answers import answer, outcome
from tests.random_networks import random_codes, random_network

FLAGS = {"early_label": 2, "early_exit": 1, "out_of_range": 1, "forced": 1, "passed": 1, "differs": 0, "overrun": 1}


@pytest.fixture(scope="module")
def program():
    return compile_network(random_network(6), preset("tiny").replace(cores=2))


def test_images_travel_four_codes_a_word_and_the_last_word_is_filled():
    codes = np.array([1, -1, -128, 127, 5], dtype=np.int8).reshape(1, 5, 1)
    assert image_words(codes).tolist() == [0x7F80FF01, 0x00000005]


@pytest.mark.parametrize("count", range(1, 10))
def test_an_image_takes_as_many_words_as_its_codes_fill(count):
    codes = np.arange(1, count + 1, dtype=np.int8)
    words = image_words(codes)
    assert words.dtype == np.uint32
    assert words.tolist() == [
        sum(int(code) << 8 * place for place, code in enumerate(codes[first : first + 4]))
        for first in range(0, count, 4)
    ]


@pytest.mark.parametrize(("number", "tag"), [(0, 0), (300, 300), (65_535, 65_535), (65_536, 0), (66_100, 564)])
def test_a_run_is_tagged_by_its_number(program, number, tag):
    (codes,) = random_codes(program.network, 1, 0)
    options = run_words(codes, Conditions(seed=65_530), number)[: words_of(RunOptions)]
    assert decode(RunOptions, options)["tag"] == tag
    assert decode(RunOptions, options)["seed"] == (65_530 + number) % 65_536
    result = encode(RunResult, label=3, exit=1, margin=500, cycles=77, tag=tag, **FLAGS)
    found, asked = outcome(run_image(program, codes, number=number), [answer(Reply.RESULT, result)])
    assert found.label == 3
    assert asked[0].words[1:] == run_words(codes, number=number)
    other = encode(RunResult, label=3, exit=1, margin=500, cycles=77, tag=tag ^ 0x100, **FLAGS)
    with pytest.raises(ValueError, match=f"^the accelerator must report of run {number}, not of one tagged"):
        outcome(run_image(program, codes, number=number), [answer(Reply.RESULT, other)])


def test_patience_lasts_for_the_longest_run_and_for_what_it_may_wait_for(program):
    other = compile_network(random_network(11), program.config)
    longest = max(each.decoded.header.timeout for each in (program, other))
    for programs in ([program, other], [other, program]):
        found = patience(bundle_of(programs))
        assert found > 2 * longest
        assert patience(bundle_of(programs), Conditions(deadline=70_000)) == found + 70_000


def test_constant_time_needs_the_cycles_that_every_run_takes(program):
    (codes,) = random_codes(program.network, 1, 0)
    with pytest.raises(
        ValueError, match=r"^deadline must be the cycles of every run in constant time, such as .*, not 0$"
    ):
        next(run_image(program, codes, conditions=Conditions(constant=True)))
    transaction = next(run_image(program, codes, conditions=Conditions(constant=True, deadline=900)))
    header = decode(CommandHeader, transaction.words[:1])
    assert decode(RunFlags, [header["argument"]])["constant"] == 1
    assert decode(RunOptions, transaction.words[1:][: words_of(RunOptions)])["deadline"] == 900


@pytest.mark.parametrize("ahead", [None, 1, 5, 1000])
def test_a_run_is_sent_whole_when_the_one_before_has_ended(program, ahead):
    codes = random_codes(program.network, 4, 0)
    told = []

    def ended(number, outcome):
        told.append((number, outcome.label))

    def result(number):
        return answer(Reply.RESULT, encode(RunResult, label=number, exit=0, margin=1, cycles=2, tag=number, **FLAGS))

    operation = run_batch([(0, image) for image in codes], first=7, ahead=ahead, ended=ended)
    found, asked = outcome(operation, [result(number) for number in range(7, 11)])
    whole = [command(HostCommand.RUN, run_words(image, number=7 + n)) for n, image in enumerate(codes)]
    length = len(whole[0])
    sent = np.cumsum([len(transaction.words) for transaction in asked]).tolist()
    started = 4 * length if ahead is None else length + min(ahead, length)
    assert sent == [min(4 * length, started + n * length) for n in range(4)]
    assert [word for transaction in asked for word in transaction.words] == [word for words in whole for word in words]
    assert [each.label for each in found] == [label for _, label in told] == [7, 8, 9, 10]
    with pytest.raises(ReplyError, match=r"^the accelerator must end run 0 first, not run 1$"):
        outcome(run_batch([(0, image) for image in codes]), [result(1)])


def test_a_run_collects_its_layer_records(program):
    (codes,) = random_codes(program.network, 1, 0)
    records = [encode(LayerRecord, index=n, tag=0, cycles=10 + n, products=n, stalls=0, waited=0) for n in range(2)]
    result = encode(RunResult, label=3, exit=1, margin=500, cycles=77, tag=0, **FLAGS)
    answers = [answer(Reply.LAYER, record) for record in records] + [answer(Reply.RESULT, result)]
    found, asked = outcome(run_image(program, codes, report=True), answers)
    assert (found.label, found.exit, found.margin, found.cycles, found.flags) == (3, 1, 500, 77, FLAGS)
    assert [record["cycles"] for record in found.layers] == [10, 11]
    assert found.outputs == []
    assert (
        asked[0].words[0] == encode(CommandHeader, command=HostCommand.RUN, argument=1, length=len(run_words(codes)))[0]
    )
    assert [transaction.words for transaction in asked[1:]] == [[], []]


def test_a_stepped_run_reads_every_cores_window(program):
    """The device is played: what it answers to the READs is what the outcome holds, core by core."""
    (codes,) = random_codes(program.network, 1, 0)
    layers = program.decoded.layers
    result = encode(RunResult, label=0, exit=0, margin=0, cycles=9, tag=0, **FLAGS)
    operation = run_image(program, codes, step=True)
    transaction = next(operation)
    read = []
    for layer in layers:
        record = encode(LayerRecord, index=layer.index, tag=0, cycles=1, products=0, stalls=0, waited=0)
        transaction = operation.send([answer(Reply.LAYER, record)])
        while transaction.words[0] & 0xFF == HostCommand.READ.value:
            header, (where, count) = decode(CommandHeader, transaction.words[:1]), transaction.words[1:]
            words = [(where * 0x10_0001 + n * 0x8000_8001) & 0xFFFF_FFFF for n in range(count)]
            read.append((layer.index, header["argument"], decode(Place, [where]), words))
            transaction = operation.send([answer(Reply.DATA, words)])
        assert transaction == Transaction(command(HostCommand.RESUME), 1)
    with pytest.raises(StopIteration) as finished:
        operation.send([answer(Reply.RESULT, result)])
    outputs = finished.value.value.outputs
    for layer, parts in zip(layers, outputs, strict=True):
        mine = [entry[1:] for entry in read if entry[0] == layer.index]
        if layer.cores[0].lane.raw:
            ((memory, where, words),) = mine
            assert (memory, where["address"]) == (Memory.LOGITS.value, 0)
            assert parts[0].tolist() == np.array(words, dtype=np.uint32).view(np.int32).tolist()
            continue
        windows = [core.window for core in layer.cores]
        assert len(parts) == len(windows) == 2
        for core, (part, window) in enumerate(zip(parts, windows, strict=True)):
            assert part.shape == (window.count, 8)
            if window.count:
                ((memory, where, words),) = [entry for entry in mine if entry[1]["core"] == core]
                assert memory == Memory.ACTIVATIONS_0.value + window.bank
                assert where["address"] == 4 * window.base
                assert part.reshape(-1).tolist() == np.array(words, dtype=np.uint32).view(np.int16).tolist()
    assert any(len(parts) == 2 for parts in outputs)


def test_running_images_decodes_no_program(program, monkeypatch):
    """A program is decoded when it's made; loading decodes what is loaded once, runs decode nothing of it."""
    decoded = []
    unpack = Fields.unpack.__func__
    monkeypatch.setattr(
        Fields, "unpack", classmethod(lambda kind, *words, **more: decoded.append(kind) or unpack(kind, *words, **more))
    )
    again = replace(program, network=program.network)
    descriptions = sum(len(instruction.cores) for instruction in program.decoded.instructions)
    assert (decoded.count(HeaderFields), decoded.count(CoreLayer)) == (1, descriptions)
    assert again.decoded == program.decoded
    decoded.clear()
    bundle = bundle_of([program])
    assert decoded.count(HeaderFields) == 1
    decoded.clear()
    assert patience(bundle) > 0
    result = encode(RunResult, label=0, exit=0, margin=0, cycles=9, tag=0, **FLAGS)
    record = encode(LayerRecord, index=0, tag=0, cycles=1, products=0, stalls=0, waited=0)
    for codes in random_codes(program.network, 3, 0):
        operation = run_image(program, codes, step=True)
        next(operation)
        transaction = operation.send([answer(Reply.LAYER, record)])
        while transaction.words[0] & 0xFF == HostCommand.READ.value:
            transaction = operation.send([answer(Reply.DATA, [0] * transaction.words[2])])
        with pytest.raises(StopIteration) as finished:
            operation.send([answer(Reply.RESULT, result)])
        assert len(finished.value.value.outputs[0]) == len(program.decoded.layers[0].cores)
    simulate(program, random_codes(program.network, 3, 0))
    assert disassemble(program.decoded)
    assert decoded == []
