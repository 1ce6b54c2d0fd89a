"""cocotb tests of runs that overlap, run by test_protocol.py: nothing is lost, whatever else goes on."""

import random

import cocotb
from cocotb.triggers import ClockCycles

from fpga.driver import DeviceError, Transaction, command, load_bundle, place
from fpga.runs import run_batch, run_words
from hw.program.bits import decode, encode, words_of
from hw.program.bundle import bundle_of
from hw.program.isa import Header
from hw.program.protocol import ErrorCode, HostCommand, Memory, Reply, RunError, RunFlags, RunResult
from offramp.rtl.bench_side import start
from tests.rtl.protocol_bench import TIMEOUT_MS, encode_header, given, load_words, runs_right

_STALL = 0.4


def transaction(words: list[int], replies: int):
    """Send words; the answers, so many."""
    answers = yield Transaction(words, replies)
    return answers


def outcome(result: dict[str, int]) -> list[int]:
    """Class, exit, margin and cycles of a RunResult."""
    return [result[name] for name in ("label", "exit", "margin", "cycles")]


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def next_images_under_stalls(dut) -> None:
    """Images back to back, both streams stalled at random: every result and layer record comes, with equal values and
    cycles."""
    program, codes, expected = given()
    generator = random.Random(cocotb.RANDOM_SEED)
    link = await start(dut, stall=_STALL, seed=cocotb.RANDOM_SEED)
    await link.perform(load_bundle(bundle_of([program])))
    for report in (False, True):
        order = [generator.randrange(len(codes)) for _ in range(8)]
        link.sent.clear()
        link.results.clear()
        outcomes = await link.perform(run_batch([(0, codes[n]) for n in order], report=report))
        assert [[o.label, o.exit, o.margin, o.cycles] for o in outcomes] == [expected[n] for n in order]
        assert all(bool(o.layers) == report for o in outcomes)
        # The next RUN was on its way before a result came.
        assert all(after < came for after, came in zip(link.sent[1:], link.results, strict=False))


def malformed(config, image: list[int]) -> list[tuple[list[int], ErrorCode]]:
    """Commands that are refused with their header although a run is at work."""
    unknown = encode(RunFlags, report=0, step=0, constant=0, program=31)[0]
    return [
        ([encode_header(99, 0, 3), 1, 2, 3], ErrorCode.BAD_COMMAND),
        (command(HostCommand.INFO, [5]), ErrorCode.BAD_LENGTH),
        (command(HostCommand.BEGIN, [5, 6]), ErrorCode.BAD_LENGTH),
        (command(HostCommand.RESUME), ErrorCode.NOT_STEPPING),
        (command(HostCommand.WRITE, [0, 7], Memory.PROGRAM.value), ErrorCode.NOT_LOADING),
        (command(HostCommand.COMMIT, [0, 0]), ErrorCode.NOT_LOADING),
        (command(HostCommand.READ, [0, 1], Memory.LISTS.value + config.pes), ErrorCode.BAD_MEMORY),
        (command(HostCommand.READ, [0], Memory.LOGITS.value), ErrorCode.BAD_LENGTH),
        (command(HostCommand.RUN, image[:-1]), ErrorCode.BAD_LENGTH),
        (command(HostCommand.RUN, [*image, 0]), ErrorCode.BAD_LENGTH),
        (command(HostCommand.RUN, image, unknown), ErrorCode.NO_PROGRAM),
    ]


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def malformed_while_running(dut) -> None:
    """Malformed commands between RUNs that overlap: each is answered by its error, no run notices."""
    program, codes, expected = given()
    generator = random.Random(cocotb.RANDOM_SEED)
    config = program.config
    for stall in (0.0, _STALL):
        link = await start(dut, stall=stall, seed=cocotb.RANDOM_SEED)
        await link.perform(load_bundle(bundle_of([program])))
        wrong = malformed(config, run_words(codes[0]))
        order = [generator.randrange(len(codes)) for _ in range(5)]
        words, errors = [], []
        for number, image in enumerate(order):
            words += command(HostCommand.RUN, run_words(codes[image], number=number))
            for bad, code in generator.sample(wrong, len(wrong) if number == 0 else 4):
                words += bad
                errors.append((code, [bad[0]]))
        # One that is refused only when nothing runs any more.
        beyond = place(0, config.cores)
        words += command(HostCommand.READ, [beyond, 1], Memory.ACTIVATIONS_0.value)
        errors.append((ErrorCode.BAD_ADDRESS, [beyond]))

        answers = await link.perform(transaction(words, len(order) + len(errors)))
        assert [(a.code, a.payload) for a in answers if a.reply is Reply.ERROR] == errors
        results = [decode(RunResult, a.payload) for a in answers if a.reply is Reply.RESULT]
        assert [outcome(result) for result in results] == [expected[image] for image in order]
        assert [result["tag"] for result in results] == list(range(len(order)))
        assert answers[-1].code is ErrorCode.BAD_ADDRESS
        if not stall:
            # The first run's image is in, and long before it ends all that is sent behind it is refused.
            assert all(answer.reply is Reply.ERROR for answer in answers[: len(wrong)])


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def abandoned_behind_a_run_that_is_given_up(dut) -> None:
    """The image on its way when a run is given up is lost, and its run says so by its own tag; the run behind isn't."""
    program, codes, expected = given()
    header = decode(Header, program.images["program"][: words_of(Header)].tolist())
    # The place of the image is free at once, so the next one is surely begun when the time is over.
    changed = program.images["program"].copy()
    timeout = min(cycles for *_, cycles in expected) // 3
    changed[: words_of(Header)] = encode(Header, **{**header, "timeout": timeout, "image_free": 0})
    for stall in (0.0, 0.2):
        link = await start(dut, stall=stall, seed=cocotb.RANDOM_SEED)
        (answer,) = await link.perform(transaction(load_words(program, {(Memory.PROGRAM.value, 0): changed}), 1))
        assert answer.reply is Reply.READY
        runs = [word for number in (7, 8, 9) for word in command(HostCommand.RUN, run_words(codes[0], number=number))]
        answers = await link.perform(transaction(runs, 3))
        assert [answer.code for answer in answers] == [ErrorCode.TIMEOUT, ErrorCode.ABANDONED, ErrorCode.TIMEOUT]
        errors = [decode(RunError, answer.payload) for answer in answers]
        assert [error["tag"] for error in errors] == [7, 8, 9]
        assert errors[1]["address"] == 0
        outcomes = await link.perform(run_batch([(0, codes[0])] * 2))
        assert all(isinstance(found, DeviceError) for found in outcomes)
        await runs_right(link, program, codes, expected)


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def reset_with_two_runs_under_way(dut) -> None:
    """Reset while a run is at work and the next one's options or image are coming; what follows is right."""
    program, codes, expected = given()
    generator = random.Random(cocotb.RANDOM_SEED)
    longest = max(result[3] for result in expected)
    link = await start(dut, stall=0.1, seed=cocotb.RANDOM_SEED)
    for attempt in range(8):
        await link.perform(load_bundle(bundle_of([program])))
        both = [command(HostCommand.RUN, run_words(codes[n % len(codes)])) for n in (attempt, attempt + 1)]
        await link.send(both[0])
        task = cocotb.start_soon(link.send(both[1]))
        dut.o__ready.value = generator.randrange(2)
        await ClockCycles(dut.clk, generator.randrange(1, longest))
        task.cancel()
        await link.reset(generator.randrange(1, 4))
        await runs_right(link, program, codes[:1], expected[:1])
