"""cocotb tests of the host protocol and of recovery; run by test_protocol.py, inside the simulator process."""

import json
import os
import random
from pathlib import Path

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles
from cocotb.utils import get_sim_time

from fpga import driver
from fpga.driver import DeviceError, Transaction, command, load_bundle, place, read_memory
from fpga.runs import run_image, run_words
from hw.config import WORD_CHANNELS
from hw.program.bits import decode, encode, words_of
from hw.program.bundle import bundle_of
from hw.program.isa import Header, LayerDescription, Operation
from hw.program.program import Program
from hw.program.protocol import ErrorCode, HostCommand, Memory, Reply
from offramp.rtl.bench_side import HostLink, start
from offramp.rtl.job import JOB, Job

#: Simulated time after which a test counts as hung.
TIMEOUT_MS = 20


def given() -> tuple[Program, np.ndarray, list[list[int]]]:
    """A program, images, and for each image the class, exit, margin and cycles that must result."""
    folder = Path(os.environ[JOB])
    ((program, codes),) = Job.load(folder).work
    return program, codes, json.loads((folder / "expected.json").read_text())


async def runs_right(link: HostLink, program: Program, codes: np.ndarray, expected: list[list[int]]) -> None:
    """Load and run the program; every result must be the expected one."""
    await link.perform(load_bundle(bundle_of([program])))
    for image, result in zip(codes, expected, strict=True):
        outcome = await link.perform(run_image(program, image))
        assert [outcome.label, outcome.exit, outcome.margin, outcome.cycles] == result


async def refused(link: HostLink, words: list[int], code: ErrorCode, detail: int | None = None) -> None:
    """The words must be answered by this error."""

    def operation():
        (answer,) = yield Transaction(words, 1)
        return answer

    answer = await link.perform(operation())
    assert (answer.reply, answer.code) == (Reply.ERROR, code), f"{answer} to {[hex(w) for w in words[:3]]}"
    assert answer.payload == [words[0] if detail is None else detail], f"{answer}"


async def quiet(link: HostLink, words: list[int]) -> None:
    """Send words that have no answer."""

    def operation():
        yield Transaction(words, 0)

    await link.perform(operation())


#: Other words for some memories of some cores, by (memory, core).
Changes = dict[tuple[int, int], np.ndarray]


def load_words(
    program: Program, changes: Changes | None = None, digest: int | None = None, checksum: int | None = None
) -> list[int]:
    """Words that load a program with changed images, checksummed rightly unless told otherwise."""
    changes = changes or {}
    writes = [(memory, core, changes.get((memory, core), words)) for memory, core, words in program.writes()]
    return driver.load_words(writes, program.config.word_digest if digest is None else digest, checksum)


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def malformed_commands(dut) -> None:
    """Every malformed command is answered by its error; the next good program runs."""
    program, codes, expected = given()
    link = await start(dut)
    config = program.config
    image = command(HostCommand.RUN, run_words(codes[0]))
    unknown = [encode_header(99, 0, 3), 1, 2, 3]
    await refused(link, unknown, ErrorCode.BAD_COMMAND)
    await refused(link, [encode_header(0, 0, 0)], ErrorCode.BAD_COMMAND)
    await refused(link, command(HostCommand.INFO, [5]), ErrorCode.BAD_LENGTH)
    await refused(link, command(HostCommand.RESUME), ErrorCode.NOT_STEPPING)
    await refused(link, image, ErrorCode.NO_PROGRAM)
    await refused(link, command(HostCommand.WRITE, [0, 7], 0), ErrorCode.NOT_LOADING)
    await refused(link, command(HostCommand.COMMIT, [0, 0]), ErrorCode.NOT_LOADING)
    await quiet(link, command(HostCommand.BEGIN))
    await refused(link, command(HostCommand.WRITE, [], 0), ErrorCode.BAD_LENGTH)
    for memory in (Memory.ACTIVATIONS_0.value, Memory.LOGITS.value, 9, Memory.LISTS.value + config.pes, 255):
        await refused(link, command(HostCommand.WRITE, [0, 7, 8], memory), ErrorCode.BAD_MEMORY)
    for address, count in ((config.program_words, 1), (config.program_words - 1, 2), (0xFFFF_FFFF, 1), (1 << 16, 1)):
        words = command(HostCommand.WRITE, [address, *range(count)], Memory.PROGRAM.value)
        await refused(link, words, ErrorCode.BAD_ADDRESS, address)
    for memory, core in ((Memory.PROGRAM, 1), (Memory.LAYERS, config.cores), (Memory.BIAS, 255)):
        words = command(HostCommand.WRITE, [place(0, core), 7], memory.value)
        await refused(link, words, ErrorCode.BAD_ADDRESS, place(0, core))
    await refused(link, command(HostCommand.COMMIT, [1]), ErrorCode.BAD_LENGTH)
    for argument in (Memory.PROGRAM.value, Memory.LISTS.value, 77):
        await refused(link, command(HostCommand.READ, [0, 1], argument), ErrorCode.BAD_MEMORY)
    pairs = config.activation_words * WORD_CHANNELS // 2
    beyond = place(0, config.cores)
    for first, count in ((pairs, 1), (pairs - 1, 2), (0, pairs + 1), (beyond, 1), (0xFFFF_0000, 1)):
        words = command(HostCommand.READ, [first, count], Memory.ACTIVATIONS_1.value)
        await refused(link, words, ErrorCode.BAD_ADDRESS, first)
    await refused(link, command(HostCommand.READ, [0], Memory.ACTIVATIONS_0.value), ErrorCode.BAD_LENGTH)
    await refused(link, load_words(program, checksum=12345), ErrorCode.BAD_CHECKSUM, checksum_of(program))
    await refused(link, image, ErrorCode.NO_PROGRAM)
    await refused(link, load_words(program, digest=1), ErrorCode.WRONG_CONFIG, config.word_digest)
    await runs_right(link, program, codes, expected)
    await refused(link, command(HostCommand.RUN, [0] * (len(image) - 2)), ErrorCode.BAD_LENGTH)
    await refused(link, command(HostCommand.RUN, [0] * (len(image) + 5)), ErrorCode.BAD_LENGTH)
    await runs_right(link, program, codes, expected)


def encode_header(number: int, argument: int, length: int) -> int:
    """A command header, also of a command that there isn't."""
    return number | argument << 8 | length << 16


def checksum_of(program: Program) -> int:
    """The checksum of a program's own images."""
    payloads = [np.concatenate([[place(0, core)], words]).astype(np.uint32) for _, core, words in program.writes()]
    return Program.checksum(payloads)


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def while_stepping(dut) -> None:
    """In a stepped run only READ and RESUME are served; the run then goes on as if nothing had been asked."""
    program, codes, expected = given()
    link = await start(dut)
    await link.perform(load_bundle(bundle_of([program])))
    operation = run_image(program, codes[0], step=True)
    transaction = next(operation)
    paused = False
    while True:
        answers = (await link.perform(_once(transaction))) if transaction.words or transaction.replies else []
        if answers and answers[0].reply is Reply.LAYER and not paused:
            paused = True
            for words in (command(HostCommand.INFO), command(HostCommand.BEGIN), command(HostCommand.RUN, [1, 2])):
                await refused(link, words, ErrorCode.RUNNING)
            assert len(await link.perform(read_memory(Memory.ACTIVATIONS_0.value, 0, 0))) == 0
        try:
            transaction = operation.send(answers)
        except StopIteration as finished:
            outcome = finished.value
            break
    assert paused
    assert [outcome.label, outcome.exit, outcome.margin, outcome.cycles] == expected[0]
    await refused(link, command(HostCommand.RESUME), ErrorCode.NOT_STEPPING)


def _once(transaction: Transaction):
    answers = yield transaction
    return answers


async def outcome_of(link: HostLink, program: Program, codes: np.ndarray) -> ErrorCode | None:
    """The error that a run ends with, or None."""
    try:
        await link.perform(run_image(program, codes))
    except DeviceError as error:
        return error.code
    return None


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def broken_programs(dut) -> None:
    """Programs that are checksummed but senseless are given up with an error; the next good program runs."""
    program, codes, expected = given()
    link = await start(dut)
    header = decode(Header, program.images["program"][: words_of(Header)].tolist())
    last_core = program.config.cores - 1

    def changed(name: str, core: int, address: int, words: list[int]) -> Changes:
        image = program.images[name]
        image = (image[core] if image.ndim > 1 else image).copy()
        image[address : address + len(words)] = words
        return {(Memory[name.upper()].value, core): image}

    entry = header["entry"]
    cases = [
        (changed("program", 0, entry, encode(Operation, op=0, index=0, target=0, chunks=0)), ErrorCode.BAD_INSTRUCTION),
        (
            changed("program", 0, entry, encode(Operation, op=15, index=0, target=0, chunks=0)),
            ErrorCode.BAD_INSTRUCTION,
        ),
        (changed("program", 0, 0, encode(Header, **{**header, "timeout": 20})), ErrorCode.TIMEOUT),
    ]
    address = decode(Operation, program.images["program"][entry : entry + 1].tolist())["target"]
    for core in {0, last_core}:
        first = decode(
            LayerDescription, program.images["layers"][core, address : address + words_of(LayerDescription)].tolist()
        )
        for part, field, value in (
            ("lane", "outputs", first["lane"]["outputs"] + program.config.pes),  # accumulators that never come
            ("source", "rows", 0),  # walks 256 rows of nonsense
            ("source", "accumulator_step", 0),  # dumps that never end
            ("lane", "channels", 0),
            ("target", "first", 0xFFFF),  # words that nobody keeps
        ):
            layer = {**first, part: {**first[part], field: value}}
            cases.append((changed("layers", core, address, encode(LayerDescription, **layer)), ErrorCode.TIMEOUT))
    for changes, code in cases:
        await link.perform(_once(Transaction(load_words(program, changes), 1)))
        found = await outcome_of(link, program, codes[0])
        # Nonsense that ends by itself may also just give a wrong answer.
        assert found is code or (found is None and code is ErrorCode.TIMEOUT)
        await runs_right(link, program, codes, expected)


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def headers_that_no_run_can_serve(dut) -> None:
    """Images without room in a RUN, or in the words that a Header says: refused, payload and all; others then run."""
    program, codes, expected = given()
    link = await start(dut, stall=0.2, seed=cocotb.RANDOM_SEED)
    words = program.images["program"]
    header = decode(Header, words[: words_of(Header)].tolist())
    size = header["image_bytes"]
    image = command(HostCommand.RUN, run_words(codes[0]))
    for fields in (
        {"image_bytes": size + 4},
        {"image_bytes": (1 << 18) - 1},
        {"image_words": header["image_words"] + 1},
        {"image_bytes": (1 << 18) - 4, "image_words": (1 << 16) - 1},
        {"image_bytes": 0, "image_words": 0},
        {"image_channels": 0},
    ):
        changed = np.concatenate([encode(Header, **{**header, **fields}), words[words_of(Header) :]]).astype(np.uint32)
        await link.perform(_once(Transaction(load_words(program, {(Memory.PROGRAM.value, 0): changed}), 1)))
        for payload in (image[1:], [0] * (len(image) + 4), image[1:3]):
            await refused(link, command(HostCommand.RUN, payload), ErrorCode.BAD_HEADER)
        await runs_right(link, program, codes[:1], expected[:1])


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def an_accelerator_that_says_nothing(dut) -> None:
    """A host that waits for what doesn't come is told so, not too early, and can go on."""
    program, codes, expected = given()
    link = await start(dut)
    await link.perform(load_bundle(bundle_of([program])))
    silent = expected[0][3] + 100
    link.patience = silent
    await runs_right(link, program, codes, expected)
    for lost in (Transaction([], 1), Transaction(command(HostCommand.RUN, run_words(codes[0]))[:-1], 1)):
        before = get_sim_time("ns")
        with pytest.raises(TimeoutError, match=f"^the accelerator must take or send a word within {silent} cycles$"):
            await link.perform(_once(lost))
        assert get_sim_time("ns") - before >= 10 * silent
    await link.reset()
    await runs_right(link, program, codes, expected)


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def reset_at_any_time(dut) -> None:
    """Reset in loading, image transfer, any layer and reply; a rerun from scratch gives equal results."""
    program, codes, expected = given()
    generator = random.Random(cocotb.RANDOM_SEED)
    link = await start(dut)
    longest = max(result[3] for result in expected)
    for attempt in range(15):
        words = load_words(program) + command(HostCommand.RUN, run_words(codes[attempt % len(codes)]), 1)
        before = generator.randrange(len(words)) if attempt % 5 == 0 else len(words)
        task = cocotb.start_soon(link.send(words[:before]))
        if before == len(words):
            dut.o__ready.value = 1
            await task
            await ClockCycles(dut.clk, generator.randrange(1, longest))
        else:
            await ClockCycles(dut.clk, before)
        task.cancel()
        await link.reset(generator.randrange(1, 4))
        if attempt % 3 == 0:
            await refused(link, command(HostCommand.RUN, run_words(codes[0])), ErrorCode.NO_PROGRAM)
        await runs_right(link, program, codes[:1], expected[:1])
