"""Runs of images on an accelerator, whatever carries their words: one image, or many back to back.

Operations are generators, as those of :mod:`fpga.driver`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpga.driver import Answer, DeviceError, HostOperation, ReplyError, Transaction, command, expect, read_memory
from hw.config import WORD_CHANNELS
from hw.network.exits import DEFAULT, Conditions
from hw.program.bits import decode, encode
from hw.program.bundle import Bundle
from hw.program.instructions import Instruction
from hw.program.program import Program
from hw.program.protocol import (
    ErrorCode,
    HostCommand,
    LayerRecord,
    Memory,
    Reply,
    RunError,
    RunFlags,
    RunOptions,
    RunResult,
)

__all__ = ["TAGS", "RunOutcome", "image_words", "patience", "run_batch", "run_image", "run_words"]

#: Tags that there are.
TAGS = 1 << 16
#: Runs that can be under way: one is at work, one waits.
_UNDER_WAY = 2
#: Most cycles of anything but a run: clearing accumulators, fetching a header, spacing out the words of an image.
_OVERHEAD = 10_000
#: Errors that end a run; with others a command is refused.
_ENDS = (ErrorCode.BAD_INSTRUCTION, ErrorCode.TIMEOUT, ErrorCode.ABANDONED)


def patience(bundle: Bundle, conditions: Conditions = DEFAULT) -> int:
    """Cycles in which the accelerator takes or sends a word, if there is one to take and it is asked for an answer.

    A run may first wait as long as its timeout for the lists of the one before.
    """
    return 2 * max(decoded.header.timeout for decoded in bundle.decoded) + conditions.deadline + _OVERHEAD


def image_words(codes: np.ndarray) -> np.ndarray:
    """An image of int8 codes as the 32-bit words of RUN: four codes a word, first lowest, the last filled with 0."""
    flat = np.ascontiguousarray(codes, dtype=np.int8).reshape(-1).view(np.uint8)
    return np.pad(flat, (0, -len(flat) % 4)).view("<u4")


@dataclass(frozen=True)
class RunOutcome:
    """What a run reported.

    Attributes
    ----------
    label, exit, margin, cycles : int
    flags : dict of str to int
        The other fields of :class:`hw.program.protocol.RunResult`.
    layers : list of dict
        Records of the layers run (:class:`hw.program.protocol.LayerRecord`), if they were asked for.
    outputs : list of lists of arrays
        In a stepped run, what each of these layers has left: the logits of a head, int32 (classes,), or for each core
        the words in its window of the map, int16 (words, 8) of activations ``q - zero_point``.
    """

    label: int
    exit: int
    margin: int
    cycles: int
    flags: dict[str, int]
    layers: list[dict[str, int]]
    outputs: list[list[np.ndarray]]


def _read_output(layer: Instruction) -> HostOperation:
    """What a layer has left: logits, or each core's window."""
    lane = layer.cores[0].lane
    if lane.raw:
        words = yield from read_memory(Memory.LOGITS.value, 0, lane.classes)
        return [words.view(np.int32)]
    pairs = WORD_CHANNELS // 2
    windows = []
    for number, core in enumerate(layer.cores):
        window = core.window
        memory, first = Memory.ACTIVATIONS_0.value + window.bank, pairs * window.base
        words = np.zeros(0, np.uint32)
        if window.count:
            words = yield from read_memory(memory, first, pairs * window.count, number)
        windows.append(words.view(np.int16).reshape(-1, WORD_CHANNELS))
    return windows


def run_words(codes: np.ndarray, conditions: Conditions = DEFAULT, number: int = 0) -> list[int]:
    """Payload of RUN for the run of that number: its options (:class:`hw.program.protocol.RunOptions`) and the image.

    Its tag is the number, modulo :data:`TAGS`.
    """
    return [*encode(RunOptions, **conditions.options(number), tag=number % TAGS), *image_words(codes).tolist()]


def _run_command(
    codes: np.ndarray,
    program_number: int,
    conditions: Conditions,
    number: int,
    *,
    report: bool = False,
    step: bool = False,
) -> list[int]:
    fields = {"report": report or step, "step": step, "constant": conditions.constant, "program": program_number}
    return command(HostCommand.RUN, run_words(codes, conditions, number), encode(RunFlags, **fields)[0])


def _tagged(fields: dict[str, int], *numbers: int) -> int:
    """Which of these runs a report is about."""
    tag = fields.pop("tag")
    found = [number for number in numbers if number % TAGS == tag]
    if not found:
        raise ReplyError(
            f"the accelerator must report of run {' or '.join(map(str, numbers))}, not of one tagged {tag}"
        )
    return found[0]


def _outcome(answer: Answer, *numbers: int) -> tuple[int, dict[str, Any] | DeviceError]:
    """Which of these runs has ended, and how: the fields of :class:`hw.program.protocol.RunResult`, or why it was given
    up.
    """
    if answer.reply is Reply.ERROR and answer.code in _ENDS:
        error = decode(RunError, answer.payload)
        return _tagged(error, *numbers), DeviceError(answer.code, error["address"])
    result = decode(RunResult, expect(answer, Reply.RESULT).payload)
    del result["reserved"]
    return _tagged(result, *numbers), result


def _append_record(layers: list[dict[str, int]], record: dict[str, int]) -> None:
    """Keep a layer's record: layers run in their order, each once."""
    if layers and record["index"] <= layers[-1]["index"]:
        raise ReplyError(
            f"the accelerator must report of a layer after {layers[-1]['index']}, not of {record['index']}"
        )
    layers.append(record)


def _run_outcome(result: dict[str, int], layers: list[dict[str, int]], outputs: list[list[np.ndarray]]) -> RunOutcome:
    flags = dict(result)
    main = {name: flags.pop(name) for name in ("label", "exit", "margin", "cycles")}
    return RunOutcome(**main, flags=flags, layers=layers, outputs=outputs)


def run_image(
    program: Program,
    codes: np.ndarray,
    *,
    report: bool = False,
    step: bool = False,
    conditions: Conditions = DEFAULT,
    number: int = 0,
    program_number: int = 0,
) -> HostOperation:
    """Run one image.

    Parameters
    ----------
    codes : int8 array (height, width, channels)
    report : bool
        Ask for layer records.
    step : bool
        Also stop after every layer and read what it wrote.
    conditions : Conditions
    number : int
        Of the run under these conditions, from 0; it decides whether the run is audited.
    program_number : int
        Number of the program among those loaded.

    Raises
    ------
    DeviceError
        When the run is refused or given up.
    """
    layers: list[dict[str, int]] = []
    outputs = []
    (answer,) = yield Transaction(_run_command(codes, program_number, conditions, number, report=report, step=step), 1)
    while answer.reply is Reply.LAYER:
        record = decode(LayerRecord, answer.payload)
        _tagged(record, number)
        _append_record(layers, record)
        if step:
            outputs.append((yield from _read_output(program.decoded.layers[record["index"]])))
            (answer,) = yield Transaction(command(HostCommand.RESUME), 1)
        else:
            (answer,) = yield Transaction([], 1)
    _, result = _outcome(answer, number)
    if isinstance(result, DeviceError):
        raise result
    return _run_outcome(result, layers, outputs)


def run_batch(
    runs: Sequence[tuple[int, np.ndarray]],
    *,
    report: bool = False,
    conditions: Conditions = DEFAULT,
    first: int = 0,
    ahead: int | None = None,
    ended: Callable[[int, RunOutcome | DeviceError], None] = lambda number, outcome: None,
) -> HostOperation:
    """Run images back to back: the next one is on its way while one is computed.

    Parameters
    ----------
    runs : list of (program_number, int8 array (height, width, channels))
        Number of the program among those loaded, and image, in their order.
    report : bool
        Ask for layer records.
    first : int
        Number of the first run under these conditions; each further one's is higher by 1.
    ahead : int, optional
        Words of a run that are sent while the one before is at work: as many as can wait where the transport can't
        be held back. By default everything is sent at once.
    ended : callable
        Told each run's number and outcome as soon as it has ended.

    Returns
    -------
    list of (RunOutcome or DeviceError)
        What became of each run; why, where it was given up.

    Raises
    ------
    DeviceError
        When a run is refused.
    """
    numbers = range(first, first + len(runs))
    words = _portions(
        (
            _run_command(codes, program_number, conditions, number, report=report)
            for number, (program_number, codes) in zip(numbers, runs, strict=True)
        ),
        ahead,
    )
    layers: dict[int, list[dict[str, int]]] = {number: [] for number in numbers}
    outcomes: list[RunOutcome | DeviceError] = []
    sending = Transaction(next(words), 1)
    while len(outcomes) < len(runs):
        (answer,) = yield sending
        sending = Transaction([], 1)
        # Runs end in their order: what is said now is of one of those that can be under way.
        waiting = numbers[len(outcomes) : len(outcomes) + _UNDER_WAY]
        if answer.reply is Reply.LAYER:
            record = decode(LayerRecord, answer.payload)
            _append_record(layers[_tagged(record, *waiting)], record)
            continue
        number, result = _outcome(answer, *waiting)
        if number != waiting[0]:
            raise ReplyError(f"the accelerator must end run {waiting[0]} first, not run {number}")
        outcome = result if isinstance(result, DeviceError) else _run_outcome(result, layers.pop(number), [])
        outcomes.append(outcome)
        ended(number, outcome)
        sending = Transaction(next(words, []), 1)
    return outcomes


def _portions(commands: Iterable[list[int]], ahead: int | None) -> Iterator[list[int]]:
    """What is sent at first, and then whenever a run has ended: the rest of the next one, the beginning of another."""
    if ahead is None:
        yield [word for words in commands for word in words]
        return
    following = iter(commands)
    rest = next(following, [])  # nothing is at work yet: the first one goes whole
    for words in following:
        yield rest + words[:ahead]
        rest = words[ahead:]
    yield rest
