"""The host's side of the protocol, without any transport: what to send, how to read the answers.

Each operation is a generator. It yields a :class:`Transaction` (words to send, replies to wait for) and is sent the
list of replies; its return value is the outcome. The RTL bench, a serial link and anything else drive the same
generators; those that run images are in :mod:`fpga.runs`.

A transport sends words in their order, and takes replies while it does: the accelerator holds commands back until it
can say what it has to say. It need not wait for ever: where for :func:`fpga.runs.patience` no word has gone either
way, the accelerator hangs or has lost step, and only a reset helps.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hw.program.bits import decode, encode, words_of
from hw.program.bundle import Bundle
from hw.program.program import Program
from hw.program.protocol import (
    CommandHeader,
    Commit,
    ErrorCode,
    HostCommand,
    Identity,
    LayerRecord,
    Place,
    ReadRange,
    Reply,
    ReplyHeader,
    RunResult,
)

__all__ = [
    "Answer",
    "DeviceError",
    "HostOperation",
    "ReplyError",
    "Transaction",
    "command",
    "expect",
    "identity",
    "load_bundle",
    "load_words",
    "place",
    "read_memory",
    "reply_length",
]

#: Payload words of replies; those of DATA are as many as were asked for.
_PAYLOADS = {
    Reply.INFO: words_of(Identity),
    Reply.READY: 0,
    Reply.LAYER: words_of(LayerRecord),
    Reply.RESULT: words_of(RunResult),
    Reply.ERROR: 1,
}


class DeviceError(Exception):
    """The accelerator refused a command.

    Attributes
    ----------
    code : ErrorCode
    detail : int
        What :class:`hw.program.protocol.ErrorCode` says it is.
    """

    def __init__(self, code: ErrorCode, detail: int):
        self.code = code
        self.detail = detail
        super().__init__(f"the accelerator answered {code.name} (detail {detail:#x})")


class ReplyError(ValueError):
    """The accelerator said what it never says: something was lost or changed on the way."""


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
    """Payload words that follow a reply's header word.

    Raises
    ------
    ReplyError
        When no reply begins so.
    """
    fields = decode(ReplyHeader, [header])
    try:
        reply, code = Reply(fields["reply"]), ErrorCode(fields["code"])
    except ValueError:
        reply, code = None, None
    length = int(fields["length"])
    if (
        reply is None
        or (reply is Reply.ERROR) != (code is not ErrorCode.NONE)
        or length != _PAYLOADS.get(reply, length)
    ):
        raise ReplyError(f"a reply must begin with its kind, code and length, not with {header:#010x}")
    return length


@dataclass(frozen=True)
class Transaction:
    """Words for the accelerator, and the number of replies to wait for; words may still be on their way then."""

    words: list[int]
    replies: int


#: A protocol operation: yields transactions, is sent answers, returns its outcome.
HostOperation = Generator[Transaction, list[Answer], Any]


def command(kind: HostCommand, payload: Sequence[int] | np.ndarray = (), argument: int = 0) -> list[int]:
    """Words of a command.

    Raises
    ------
    ValueError
        When the payload is longer than a header can say.
    """
    words = [int(word) for word in payload]
    return [*encode(CommandHeader, command=kind, argument=argument, length=len(words)), *words]


def expect(answer: Answer, *kinds: Reply) -> Answer:
    if answer.reply is Reply.ERROR:
        raise DeviceError(answer.code, answer.payload[0])
    if answer.reply not in kinds:
        raise ReplyError(f"the accelerator must answer {' or '.join(k.name for k in kinds)}, not {answer.reply.name}")
    return answer


def identity() -> HostOperation:
    """Protocol version of the accelerator, digest of its config (:attr:`hw.config.AcceleratorConfig.word_digest`)."""
    (answer,) = yield Transaction(command(HostCommand.INFO), 1)
    found = decode(Identity, expect(answer, Reply.INFO).payload)
    return found["version"], found["digest"]


def place(address: int, core: int = 0) -> int:
    """A word's address in a core's memory, as WRITE and READ take it."""
    return encode(Place, address=address, core=core)[0]


def load_words(
    writes: Sequence[tuple[int, int, np.ndarray]], digest: int, checksum: int | None = None, programs: int = 1
) -> list[int]:
    """Commands that load programs.

    Parameters
    ----------
    writes : list of (memory, core, words)
        As of :meth:`hw.program.bundle.Bundle.writes`.
    digest : int
        Of the config it is for (:attr:`hw.config.AcceleratorConfig.word_digest`).
    checksum : int, optional
        Instead of the right one.
    programs : int
        How many they are, at least 1.
    """
    payloads = [np.concatenate([[place(0, core)], words]).astype(np.uint32) for _, core, words in writes]
    words = command(HostCommand.BEGIN)
    for (memory, _, _), payload in zip(writes, payloads, strict=True):
        words += command(HostCommand.WRITE, payload, memory)
    checksum = Program.checksum(payloads) if checksum is None else checksum
    return words + command(HostCommand.COMMIT, encode(Commit, checksum=checksum, digest=digest), programs - 1)


def load_bundle(bundle: Bundle) -> HostOperation:
    """Load programs into the accelerator; nothing runs before they are complete and checked.

    Raises
    ------
    DeviceError
        When they aren't accepted.
    """
    words = load_words(bundle.writes(), bundle.config.word_digest, programs=len(bundle.programs))
    (answer,) = yield Transaction(words, 1)
    expect(answer, Reply.READY)


def read_memory(memory: int, first: int, count: int, core: int = 0) -> HostOperation:
    """Words of a readable memory."""
    wanted = encode(ReadRange, place={"address": first, "core": core}, count=count)
    (answer,) = yield Transaction(command(HostCommand.READ, wanted, memory), 1)
    return np.array(expect(answer, Reply.DATA).payload, dtype=np.uint32)
