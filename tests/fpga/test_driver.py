import numpy as np
import pytest

from fpga.driver import (
    DeviceError,
    ReplyError,
    Transaction,
    command,
    identity,
    load_bundle,
    read_memory,
    reply_length,
)
from hw.compiler.compile import compile_network
from hw.config import preset
from hw.program.bits import decode, encode, words_of
from hw.program.bundle import bundle_of
from hw.program.protocol import (
    CommandHeader,
    ErrorCode,
    HostCommand,
    Memory,
    Place,
    Reply,
    ReplyHeader,
    RunResult,
)
from tests.fpga.answers import answer, outcome
from tests.random_networks import random_network

FLAGS = {"early_label": 2, "early_exit": 1, "out_of_range": 1, "forced": 1, "passed": 1, "differs": 0, "overrun": 1}


@pytest.fixture(scope="module")
def program():
    return compile_network(random_network(6), preset("tiny").replace(cores=2))


def test_commands_carry_their_length():
    words = command(HostCommand.READ, [7, 8], 3)
    assert decode(CommandHeader, words[:1]) == {"command": HostCommand.READ.value, "argument": 3, "length": 2}
    assert words[1:] == [7, 8]
    with pytest.raises(ValueError, match=r"CommandHeader.length must be in 0\.\.65535, not 65536"):
        command(HostCommand.RUN, [0] * 65536)


def test_replies_say_how_long_they_are():
    (header,) = encode(ReplyHeader, reply=Reply.DATA, code=ErrorCode.NONE, length=9)
    assert reply_length(header) == 9


@pytest.mark.parametrize(
    "fields",
    [
        {"reply": 0, "code": ErrorCode.NONE, "length": 1},
        {"reply": 77, "code": ErrorCode.NONE, "length": 1},
        {"reply": Reply.ERROR, "code": 200, "length": 1},
        {"reply": Reply.ERROR, "code": ErrorCode.NONE, "length": 1},
        {"reply": Reply.RESULT, "code": ErrorCode.TIMEOUT, "length": words_of(RunResult)},
        {"reply": Reply.RESULT, "code": ErrorCode.NONE, "length": 40_000},
        {"reply": Reply.READY, "code": ErrorCode.NONE, "length": 1},
    ],
)
def test_a_header_that_no_reply_has_is_refused(fields):
    (header,) = encode(ReplyHeader, **fields)
    with pytest.raises(ReplyError, match=f"^a reply must begin with .*, not with {header:#010x}$"):
        reply_length(header)


def test_an_accelerator_says_what_it_is():
    found, asked = outcome(identity(), [answer(Reply.INFO, [8, 0xABC])])
    assert found == (8, 0xABC)
    assert asked == [Transaction(command(HostCommand.INFO), 1)]


def test_loading_writes_every_memory_whole_then_commits(program):
    _, asked = outcome(load_bundle(bundle_of([program])), [answer(Reply.READY, [])])
    (transaction,) = asked
    words, seen, payloads = transaction.words, [], []
    while words:
        header, rest = decode(CommandHeader, words[:1]), words[1:]
        payload, words = rest[: header["length"]], rest[header["length"] :]
        seen.append((HostCommand(header["command"]), header["argument"]))
        payloads.append(np.array(payload, dtype=np.uint32))
    writes = [(HostCommand.WRITE, number) for number, _, _ in program.writes()]
    assert seen == [(HostCommand.BEGIN, 0), *writes, (HostCommand.COMMIT, 0)]
    for payload, (_, core, expected) in zip(payloads[1:-1], program.writes(), strict=True):
        assert decode(Place, payload[:1].tolist()) == {"address": 0, "reserved": 0, "core": core}
        np.testing.assert_array_equal(payload[1:], expected)
    assert payloads[-1].tolist() == [program.checksum(payloads[1:-1]), program.config.word_digest]


def test_an_error_becomes_an_exception_that_names_it(program):
    with pytest.raises(DeviceError, match=r"answered BAD_CHECKSUM \(detail 0x2a\)") as error:
        outcome(load_bundle(bundle_of([program])), [answer(Reply.ERROR, [42], ErrorCode.BAD_CHECKSUM)])
    assert (error.value.code, error.value.detail) == (ErrorCode.BAD_CHECKSUM, 42)


def test_an_answer_of_another_kind_is_refused(program):
    with pytest.raises(ValueError, match=r"^the accelerator must answer READY, not DATA$"):
        outcome(load_bundle(bundle_of([program])), [answer(Reply.DATA, [])])


def test_reading_asks_for_first_word_and_count():
    words, asked = outcome(read_memory(Memory.LOGITS.value, 4, 2), [answer(Reply.DATA, [9, 0xFFFF_FFFF])])
    assert words.tolist() == [9, 0xFFFF_FFFF]
    assert asked == [Transaction(command(HostCommand.READ, [4, 2], Memory.LOGITS.value), 1)]
    _, asked = outcome(read_memory(Memory.ACTIVATIONS_1.value, 6, 1, 3), [answer(Reply.DATA, [7])])
    assert asked == [Transaction(command(HostCommand.READ, [3 << 24 | 6, 1], Memory.ACTIVATIONS_1.value), 1)]
