"""cocotb tests of the host protocol and of recovery; run by test_protocol.py, inside the simulator process."""

import json
import os
import random
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from fpga.driver import DeviceError, Exchange, command, image_words, load_program, read_memory, run_image
from hw.isa import ErrorCode, Header, HostCommand, Layer, Memory, Operation, Reply, decode, encode, words_of
from hw.program import Program
from offramp.rtl_bench import HostLink, start
from offramp.rtl_job import JOB, Job

#: Simulated time after which a test counts as hung.
_TIMEOUT_MS = 20


def given() -> tuple[Program, np.ndarray, list[list[int]]]:
    """A program, images, and for each image the class, exit, margin and cycles that must result."""
    folder = Path(os.environ[JOB])
    ((program, codes),) = Job.load(folder).work
    return program, codes, json.loads((folder / "expected.json").read_text())


async def runs_right(link: HostLink, program: Program, codes: np.ndarray, expected: list[list[int]]) -> None:
    """Load and run the program; every result must be the expected one."""
    await link.perform(load_program(program))
    for image, result in zip(codes, expected, strict=True):
        outcome = await link.perform(run_image(program, image))
        assert [outcome.label, outcome.exit, outcome.margin, outcome.cycles] == result


async def refused(link: HostLink, words: list[int], code: ErrorCode, detail: int | None = None) -> None:
    """The words must be answered by this error."""

    def operation():
        (answer,) = yield Exchange(words, 1)
        return answer

    answer = await link.perform(operation())
    assert (answer.reply, answer.code) == (Reply.ERROR, code), f"{answer} to {[hex(w) for w in words[:3]]}"
    assert answer.payload == [words[0] if detail is None else detail], f"{answer}"


async def quiet(link: HostLink, words: list[int]) -> None:
    """Send words that have no answer."""

    def operation():
        yield Exchange(words, 0)

    await link.perform(operation())


def load_words(program: Program, images: dict[str, np.ndarray], digest: int | None = None, crc: int | None = None):
    """Words that load other images than the program's own, checksummed rightly unless told otherwise."""
    writes = [(Memory.PROGRAM.value, images["program"]), *program.writes()[1:]]
    payloads = [np.concatenate([[0], words]).astype(np.uint32) for _, words in writes]
    words = command(HostCommand.BEGIN)
    for (memory, _), payload in zip(writes, payloads, strict=True):
        words += command(HostCommand.WRITE, payload, memory)
    checksum = Program.checksum(payloads) if crc is None else crc
    return words + command(HostCommand.COMMIT, [checksum, program.config.word_digest if digest is None else digest])


@cocotb.test(timeout_time=_TIMEOUT_MS, timeout_unit="ms")
async def malformed_commands(dut) -> None:
    """Every malformed command is answered by its error; the next good program runs."""
    program, codes, expected = given()
    link = await start(dut)
    config = program.config
    image = command(HostCommand.RUN, image_words(codes[0]))
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
        words = command(HostCommand.WRITE, [address, *range(count)], 0)
        await refused(link, words, ErrorCode.BAD_ADDRESS, address)
    await refused(link, command(HostCommand.COMMIT, [1]), ErrorCode.BAD_LENGTH)
    for argument in (Memory.PROGRAM.value, Memory.LISTS.value, 77):
        await refused(link, command(HostCommand.READ, [0, 1], argument), ErrorCode.BAD_MEMORY)
    half = config.activation_bytes // 2
    for first, count in ((half, 1), (half - 1, 2), (0, half + 1), (0xFFFF_0000, 1)):
        words = command(HostCommand.READ, [first, count], Memory.ACTIVATIONS_1.value)
        await refused(link, words, ErrorCode.BAD_ADDRESS, first)
    await refused(link, command(HostCommand.READ, [0], Memory.ACTIVATIONS_0.value), ErrorCode.BAD_LENGTH)
    await refused(link, load_words(program, program.images, crc=12345), ErrorCode.BAD_CHECKSUM, checksum_of(program))
    await refused(link, image, ErrorCode.NO_PROGRAM)
    await refused(link, load_words(program, program.images, digest=1), ErrorCode.WRONG_CONFIG, config.word_digest)
    await runs_right(link, program, codes, expected)
    await refused(link, command(HostCommand.RUN, [0] * (len(image) - 2)), ErrorCode.BAD_LENGTH)
    await refused(link, command(HostCommand.RUN, [0] * (len(image) + 5)), ErrorCode.BAD_LENGTH)
    await runs_right(link, program, codes, expected)


def encode_header(number: int, argument: int, length: int) -> int:
    """A command header, also of a command that there isn't."""
    return number | argument << 8 | length << 16


def checksum_of(program: Program) -> int:
    """The checksum of a program's own images."""
    return Program.checksum([np.concatenate([[0], words]).astype(np.uint32) for _, words in program.writes()])


@cocotb.test(timeout_time=_TIMEOUT_MS, timeout_unit="ms")
async def while_stepping(dut) -> None:
    """In a stepped run only READ and RESUME are served; the run then goes on as if nothing had been asked."""
    program, codes, expected = given()
    link = await start(dut)
    await link.perform(load_program(program))
    operation = run_image(program, codes[0], step=True)
    exchange = next(operation)
    paused = False
    while True:
        answers = (await link.perform(_once(exchange))) if exchange.words or exchange.replies else []
        if answers and answers[0].reply is Reply.LAYER and not paused:
            paused = True
            for words in (command(HostCommand.INFO), command(HostCommand.BEGIN), command(HostCommand.RUN, [1, 2])):
                await refused(link, words, ErrorCode.RUNNING)
            assert len(await link.perform(read_memory(Memory.ACTIVATIONS_0.value, 0, 0))) == 0
        try:
            exchange = operation.send(answers)
        except StopIteration as finished:
            outcome = finished.value
            break
    assert paused
    assert [outcome.label, outcome.exit, outcome.margin, outcome.cycles] == expected[0]
    await refused(link, command(HostCommand.RESUME), ErrorCode.NOT_STEPPING)


def _once(exchange: Exchange):
    answers = yield exchange
    return answers


async def outcome_of(link: HostLink, program: Program, codes: np.ndarray) -> ErrorCode | None:
    """The error that a run ends with, or None."""
    try:
        await link.perform(run_image(program, codes))
    except DeviceError as error:
        return error.code
    return None


@cocotb.test(timeout_time=_TIMEOUT_MS, timeout_unit="ms")
async def broken_programs(dut) -> None:
    """Programs that are checksummed but senseless are given up with an error; the next good program runs."""
    program, codes, expected = given()
    link = await start(dut)
    header = decode(Header, program.images["program"][: words_of(Header)].tolist())
    run = command(HostCommand.RUN, image_words(codes[0]))

    def changed(address: int, words: list[int]) -> dict[str, np.ndarray]:
        image = program.images["program"].copy()
        image[address : address + len(words)] = words
        return {"program": image}

    entry = header["entry"]
    cases = [
        (changed(entry, encode(Operation, op=0, index=0, target=0)), ErrorCode.BAD_INSTRUCTION),
        (changed(entry, encode(Operation, op=15, index=0, target=0)), ErrorCode.BAD_INSTRUCTION),
        (changed(0, encode(Header, **{**header, "limit": 20})), ErrorCode.TIMEOUT),
    ]
    first = decode(Layer, program.images["program"][entry + 1 : entry + 1 + words_of(Layer)].tolist())
    for part, field, value in (
        ("lane", "outputs", first["lane"]["outputs"] + 1),  # waits for an accumulator that never comes
        ("source", "rows", 0),  # walks 256 rows of nonsense
        ("source", "accumulator_step", 0),  # dumps that never end
        ("lane", "channels", 0),
    ):
        layer = {**first, part: {**first[part], field: value}}
        cases.append((changed(entry + 1, encode(Layer, **layer)), ErrorCode.TIMEOUT))
    for images, code in cases:
        await link.perform(_once(Exchange(load_words(program, images), 1)))
        found = await outcome_of(link, program, codes[0])
        # Nonsense that ends by itself may also just give a wrong answer.
        assert found is code or (found is None and code is ErrorCode.TIMEOUT)
        await runs_right(link, program, codes, expected)
    # A branch back to itself: only the cycle limit ends it.
    loop = [*encode(Operation, op=2, index=0, target=entry), 0]
    await link.perform(_once(Exchange(load_words(program, changed(entry, loop)), 1)))
    await refused(link, run, ErrorCode.TIMEOUT, entry)
    await runs_right(link, program, codes, expected)


@cocotb.test(timeout_time=_TIMEOUT_MS, timeout_unit="ms")
async def reset_at_any_time(dut) -> None:
    """Reset in loading, image transfer, any layer and reply; a rerun from scratch gives equal results."""
    program, codes, expected = given()
    generator = random.Random(cocotb.RANDOM_SEED)
    link = await start(dut)
    longest = max(result[3] for result in expected)
    for attempt in range(25):
        words = load_words(program, program.images) + command(
            HostCommand.RUN, image_words(codes[attempt % len(codes)]), 1
        )
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
            await refused(link, command(HostCommand.RUN, image_words(codes[0])), ErrorCode.NO_PROGRAM)
        await runs_right(link, program, codes[:1], expected[:1])
