"""The host's side of the protocol, without any transport: what to send, how to read the answers.

Each operation is a generator. It yields an :class:`Exchange` (words to send, replies to wait for) and is sent the list
of replies; its return value is the outcome. The RTL bench, a serial link and anything else drive the same generators.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hw.config import WORD_CHANNELS
from hw.decode import Instruction
from hw.exits import DEFAULT, Conditions
from hw.isa import (
    CommandHeader,
    ErrorCode,
    HostCommand,
    LayerRecord,
    Memory,
    Opcode,
    Place,
    Reply,
    ReplyHeader,
    Result,
    RunFlags,
    RunOptions,
)
from hw.program import Program
from hw.words import decode, encode

__all__ = [
    "Answer",
    "DeviceError",
    "Exchange",
    "Operation",
    "RunOutcome",
    "command",
    "image_words",
    "load_program",
    "load_words",
    "place",
    "read_memory",
    "reply_length",
    "run_image",
    "run_words",
]


class DeviceError(Exception):
    """The accelerator refused a command.

    Attributes
    ----------
    code : ErrorCode
    detail : int
        What :class:`hw.isa.ErrorCode` says it is.
    """

    def __init__(self, code: ErrorCode, detail: int):
        self.code = code
        self.detail = detail
        super().__init__(f"the accelerator answered {code.name} (detail {detail:#x})")


class Answer(NamedTuple):
    """A reply: its kind, its code and its payload words."""

    reply: Reply
    code: ErrorCode
    payload: list[int]

    @classmethod
    def from_words(cls, words: list[int]) -> "Answer":
        """Parse header and payload."""
        header = decode(ReplyHeader, words[:1])
        return cls(Reply(header["reply"]), ErrorCode(header["code"]), list(words[1:]))


def reply_length(header: int) -> int:
    """Payload words that follow a reply's header word."""
    return int(decode(ReplyHeader, [header])["length"])


@dataclass(frozen=True)
class Exchange:
    """Words for the accelerator and the number of replies to them."""

    words: list[int]
    replies: int


#: A protocol operation: yields exchanges, is sent answers, returns its outcome.
Operation = Generator[Exchange, list[Answer], Any]


def command(kind: HostCommand, payload: Sequence[int] | np.ndarray = (), argument: int = 0) -> list[int]:
    """Words of a command.

    Raises
    ------
    ValueError
        When the payload is longer than a header can say.
    """
    words = [int(word) for word in payload]
    return [*encode(CommandHeader, command=kind, argument=argument, length=len(words)), *words]


def _expect(answer: Answer, *kinds: Reply) -> Answer:
    if answer.reply is Reply.ERROR:
        raise DeviceError(answer.code, answer.payload[0])
    if answer.reply not in kinds:
        raise ValueError(f"the accelerator must answer {' or '.join(k.name for k in kinds)}, not {answer.reply.name}")
    return answer


def place(address: int, core: int = 0) -> int:
    """A word's place in a memory, as WRITE and READ take it."""
    return encode(Place, address=address, core=core)[0]


def load_words(writes: Sequence[tuple[int, int, np.ndarray]], digest: int, checksum: int | None = None) -> list[int]:
    """Commands that load a program.

    Parameters
    ----------
    writes : list of (memory, core, words)
        As of :meth:`hw.program.Program.writes`.
    digest : int
        Of the config it is for (:attr:`hw.config.AcceleratorConfig.word_digest`).
    checksum : int, optional
        Instead of the right one.
    """
    payloads = [np.concatenate([[place(0, core)], words]).astype(np.uint32) for _, core, words in writes]
    words = command(HostCommand.BEGIN)
    for (memory, _, _), payload in zip(writes, payloads, strict=True):
        words += command(HostCommand.WRITE, payload, memory)
    return words + command(HostCommand.COMMIT, [Program.checksum(payloads) if checksum is None else checksum, digest])


def load_program(program: Program) -> Operation:
    """Load a program into an idle accelerator; nothing runs before it is complete and checked.

    Raises
    ------
    DeviceError
        When it isn't accepted.
    """
    (answer,) = yield Exchange(load_words(program.writes(), program.config.word_digest), 1)
    _expect(answer, Reply.READY)


def image_words(codes: np.ndarray) -> np.ndarray:
    """An image of int8 codes as the 32-bit words of RUN: four codes a word, first lowest, the last filled with 0."""
    flat = np.ascontiguousarray(codes, dtype=np.int8).reshape(-1).view(np.uint8)
    return np.pad(flat, (0, -len(flat) % 4)).view("<u4")


def read_memory(memory: int, first: int, count: int, core: int = 0) -> Operation:
    """Words of a readable memory."""
    (answer,) = yield Exchange(command(HostCommand.READ, [place(first, core), count], memory), 1)
    return np.array(_expect(answer, Reply.DATA).payload, dtype=np.uint32)


@dataclass(frozen=True)
class RunOutcome:
    """What a run reported.

    Attributes
    ----------
    label, exit, margin, cycles : int
    flags : dict of str to int
        The other fields of :class:`hw.isa.Result`.
    layers : list of dict
        Records of the layers run (:class:`hw.isa.LayerRecord`), if they were asked for.
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


def _read_output(layer: Instruction) -> Operation:
    """What a layer has left: logits, or each core's window."""
    lane = layer.cores[0].fields["lane"]
    if lane["raw"]:
        words = yield from read_memory(Memory.LOGITS.value, 0, lane["classes"])
        return [words.view(np.int32)]
    pairs = WORD_CHANNELS // 2
    windows = []
    for number, core in enumerate(layer.cores):
        window = core.fields["window"]
        memory, first = Memory.ACTIVATIONS_0.value + window["bank"], pairs * window["base"]
        words = np.zeros(0, np.uint32)
        if window["count"]:
            words = yield from read_memory(memory, first, pairs * window["count"], number)
        windows.append(words.view(np.int16).reshape(-1, WORD_CHANNELS))
    return windows


def run_words(codes: np.ndarray, conditions: Conditions = DEFAULT, number: int = 0) -> list[int]:
    """Payload of RUN for the run of that number: its options (:class:`hw.isa.RunOptions`) and the image."""
    return [*encode(RunOptions, **conditions.options(number)), *image_words(codes).tolist()]


def run_image(
    program: Program,
    codes: np.ndarray,
    *,
    report: bool = False,
    step: bool = False,
    conditions: Conditions = DEFAULT,
    number: int = 0,
) -> Operation:
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

    Raises
    ------
    DeviceError
        When the run is refused or given up.
    """
    instructions = {i.index: i for i in program.instructions() if i.op is Opcode.LAYER}
    (flags,) = encode(RunFlags, report=report or step, step=step, constant=conditions.constant)
    layers, outputs = [], []
    (answer,) = yield Exchange(command(HostCommand.RUN, run_words(codes, conditions, number), flags), 1)
    while _expect(answer, Reply.LAYER, Reply.RESULT).reply is Reply.LAYER:
        record = decode(LayerRecord, answer.payload)
        layers.append(record)
        if step:
            outputs.append((yield from _read_output(instructions[record["index"]])))
            (answer,) = yield Exchange(command(HostCommand.RESUME), 1)
        else:
            (answer,) = yield Exchange([], 1)
    result = decode(Result, answer.payload)
    main = {name: result.pop(name) for name in ("label", "exit", "margin", "cycles")}
    del result["reserved"]
    return RunOutcome(**main, flags=result, layers=layers, outputs=outputs)
