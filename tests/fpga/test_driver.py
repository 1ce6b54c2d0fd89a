import numpy as np
import pytest

from fpga.driver import (
    Answer,
    DeviceError,
    Exchange,
    command,
    image_words,
    load_program,
    read_memory,
    reply_length,
    run_image,
)
from hw.compile import compile_network
from hw.config import preset
from hw.isa import (
    CommandHeader,
    ErrorCode,
    HostCommand,
    LayerRecord,
    Memory,
    Reply,
    ReplyHeader,
    Result,
    decode,
    encode,
)
from tests.random_networks import random_codes, random_network


@pytest.fixture(scope="module")
def program():
    return compile_network(random_network(6), preset("tiny"))


def answer(reply: Reply, payload: list[int], code: ErrorCode = ErrorCode.NONE) -> Answer:
    """A reply, through its words."""
    return Answer.from_words([*encode(ReplyHeader, reply=reply, code=code, length=len(payload)), *payload])


def outcome(operation, answers: list[Answer]):
    """Runs an operation against prepared answers; returns its outcome and what it asked."""
    asked = []
    answers = list(answers)
    try:
        exchange = next(operation)
        while True:
            asked.append(exchange)
            exchange = operation.send([answers.pop(0) for _ in range(exchange.replies)])
    except StopIteration as finished:
        assert not answers, "answers that nobody waited for"
        return finished.value, asked


def test_images_travel_four_codes_a_word_and_the_last_word_is_filled():
    codes = np.array([1, -1, -128, 127, 5], dtype=np.int8).reshape(1, 5, 1)
    assert image_words(codes).tolist() == [0x7F80FF01, 0x00000005]


def test_commands_carry_their_length():
    words = command(HostCommand.READ, [7, 8], 3)
    assert decode(CommandHeader, words[:1]) == {"command": HostCommand.READ.value, "argument": 3, "length": 2}
    assert words[1:] == [7, 8]
    with pytest.raises(ValueError, match=r"CommandHeader.length must be in 0\.\.65535, not 65536"):
        command(HostCommand.RUN, [0] * 65536)


def test_replies_say_how_long_they_are():
    (header,) = encode(ReplyHeader, reply=Reply.DATA, code=ErrorCode.NONE, length=9)
    assert reply_length(header) == 9


def test_loading_writes_every_memory_whole_then_commits(program):
    _, asked = outcome(load_program(program), [answer(Reply.READY, [])])
    (exchange,) = asked
    words, seen, payloads = exchange.words, [], []
    while words:
        header, rest = decode(CommandHeader, words[:1]), words[1:]
        payload, words = rest[: header["length"]], rest[header["length"] :]
        seen.append((HostCommand(header["command"]), header["argument"]))
        payloads.append(np.array(payload, dtype=np.uint32))
    writes = [(HostCommand.WRITE, number) for number, _ in program.writes()]
    assert seen == [(HostCommand.BEGIN, 0), *writes, (HostCommand.COMMIT, 0)]
    for payload, (_, expected) in zip(payloads[1:-1], program.writes(), strict=True):
        assert payload[0] == 0
        np.testing.assert_array_equal(payload[1:], expected)
    assert payloads[-1].tolist() == [program.checksum(payloads[1:-1]), program.config.word_digest]


def test_an_error_becomes_an_exception_that_names_it(program):
    with pytest.raises(DeviceError, match=r"answered BAD_CHECKSUM \(detail 0x2a\)") as error:
        outcome(load_program(program), [answer(Reply.ERROR, [42], ErrorCode.BAD_CHECKSUM)])
    assert (error.value.code, error.value.detail) == (ErrorCode.BAD_CHECKSUM, 42)


def test_an_answer_of_another_kind_is_refused(program):
    with pytest.raises(ValueError, match=r"^the accelerator must answer READY, not DATA$"):
        outcome(load_program(program), [answer(Reply.DATA, [])])


def test_reading_asks_for_first_word_and_count():
    words, asked = outcome(read_memory(Memory.LOGITS.value, 4, 2), [answer(Reply.DATA, [9, 0xFFFF_FFFF])])
    assert words.tolist() == [9, 0xFFFF_FFFF]
    assert asked == [Exchange(command(HostCommand.READ, [4, 2], Memory.LOGITS.value), 1)]


def test_a_run_collects_its_layer_records(program):
    (codes,) = random_codes(program.network, 1, 0)
    records = [encode(LayerRecord, index=n, cycles=10 + n, products=n, stalls=0) for n in range(2)]
    result = encode(Result, label=3, exit=1, margin=500, cycles=77)
    answers = [answer(Reply.LAYER, record) for record in records] + [answer(Reply.RESULT, result)]
    found, asked = outcome(run_image(program, codes, report=True), answers)
    assert (found.label, found.exit, found.margin, found.cycles) == (3, 1, 500, 77)
    assert [record["cycles"] for record in found.layers] == [10, 11]
    assert found.outputs == []
    assert (
        asked[0].words[0]
        == encode(CommandHeader, command=HostCommand.RUN, argument=1, length=len(image_words(codes)))[0]
    )
    assert [exchange.words for exchange in asked[1:]] == [[], []]
