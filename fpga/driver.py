"""The host's side of the protocol, without any transport: what to send, how to read the answers.

Each operation is a generator. It yields an :class:`Exchange` (words to send, replies to wait for) and is sent the list
of replies; its return value is the outcome. The RTL bench, a serial link and anything else drive the same generators.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

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
from hw.program import Program

__all__ = [
    "Answer",
    "DeviceError",
    "Exchange",
    "Operation",
    "RunOutcome",
    "command",
    "image_words",
    "load_program",
    "read_memory",
    "reply_length",
    "run_image",
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


def load_program(program: Program) -> Operation:
    """Load a program into an idle accelerator; nothing runs before it is complete and checked.

    Raises
    ------
    DeviceError
        When it isn't accepted.
    """
    payloads = [np.concatenate([[0], words]).astype(np.uint32) for _, words in program.writes()]
    words = command(HostCommand.BEGIN)
    for (memory, _), payload in zip(program.writes(), payloads, strict=True):
        words += command(HostCommand.WRITE, payload, memory)
    words += command(HostCommand.COMMIT, [Program.checksum(payloads), program.config.word_digest])
    (answer,) = yield Exchange(words, 1)
    _expect(answer, Reply.READY)


def image_words(codes: np.ndarray) -> np.ndarray:
    """An image of int8 codes as the 32-bit words of RUN: four codes a word, first lowest, the last filled with 0."""
    flat = np.ascontiguousarray(codes, dtype=np.int8).reshape(-1).view(np.uint8)
    return np.pad(flat, (0, -len(flat) % 4)).view("<u4")


def read_memory(memory: int, first: int, count: int) -> Operation:
    """Words of a readable memory."""
    (answer,) = yield Exchange(command(HostCommand.READ, [first, count], memory), 1)
    return np.array(_expect(answer, Reply.DATA).payload, dtype=np.uint32)


@dataclass(frozen=True)
class RunOutcome:
    """What a run reported.

    Attributes
    ----------
    label, exit, margin, cycles : int
    layers : list of dict
        Records of the layers run (:class:`hw.isa.LayerRecord`), if they were asked for.
    outputs : list of arrays
        In a stepped run, each of these layers' output: activations ``q - zero_point``, or logits.
    """

    label: int
    exit: int
    margin: int
    cycles: int
    layers: list[dict[str, int]]
    outputs: list[np.ndarray]


def _read_output(layer: dict[str, Any], positions: int) -> Operation:
    """The values that a layer has just written, (positions, channels)."""
    lane, target = layer["lane"], layer["target"]
    if lane["raw"]:
        words = yield from read_memory(Memory.LOGITS.value, 0, lane["classes"])
        return words.view(np.int32).reshape(1, -1)
    span = (positions - 1) * target["pitch"] + target["channels"]
    first, last = target["base"] // 2, (target["base"] + span + 1) // 2
    words = yield from read_memory(Memory.ACTIVATIONS_0.value + target["bank"], first, last - first)
    values = words.view(np.int16)[target["base"] % 2 :]
    rows = [values[p * target["pitch"] :][: target["channels"]] for p in range(positions)]
    return np.stack(rows)


def run_image(program: Program, codes: np.ndarray, *, report: bool = False, step: bool = False) -> Operation:
    """Run one image.

    Parameters
    ----------
    codes : int8 array (height, width, channels)
    report : bool
        Ask for layer records.
    step : bool
        Also stop after every layer and read what it wrote.

    Raises
    ------
    DeviceError
        When the run is refused or given up.
    """
    descriptions = [i.layer for i in program.instructions() if i.layer is not None]
    flags = int(report or step) | int(step) << 1
    layers, outputs = [], []
    (answer,) = yield Exchange(command(HostCommand.RUN, image_words(codes), flags), 1)
    while _expect(answer, Reply.LAYER, Reply.RESULT).reply is Reply.LAYER:
        record = decode(LayerRecord, answer.payload)
        layers.append(record)
        if step:
            layer = descriptions[record["index"]]
            positions = layer["lane"]["outputs"] // layer["lane"]["channels"]
            outputs.append((yield from _read_output(layer, positions)))
            (answer,) = yield Exchange(command(HostCommand.RESUME), 1)
        else:
            (answer,) = yield Exchange([], 1)
    result = decode(Result, answer.payload)
    return RunOutcome(result["label"], result["exit"], result["margin"], result["cycles"], layers, outputs)
