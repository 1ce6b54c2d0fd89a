"""The host's side of the protocol, without any transport: what to send, how to read the answers.

Each operation is a generator. It yields a :class:`Transaction` (words to send, replies to wait for) and is sent the
list of replies; its return value is the outcome. The RTL bench, a serial link and anything else drive the same
generators.
A transport sends words in their order, and takes replies while it does: the accelerator holds commands back until it
can say what it has to say. It need not wait for ever: where for :func:`patience` no word has gone either way, the
accelerator hangs or has lost step, and only a reset helps.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hw.config import WORD_CHANNELS
from hw.network.exits import DEFAULT, Conditions
from hw.program.bits import decode, encode, words_of
from hw.program.instructions import Instruction
from hw.program.link import Bundle, link
from hw.program.program import Program
from hw.program.protocol import (
    CommandHeader,
    ErrorCode,
    HostCommand,
    LayerRecord,
    Memory,
    Place,
    Reply,
    ReplyHeader,
    RunError,
    RunFlags,
    RunOptions,
    RunResult,
)

__all__ = [
    "TAGS",
    "Answer",
    "DeviceError",
    "HostOperation",
    "ReplyError",
    "RunOutcome",
    "Transaction",
    "command",
    "identity",
    "image_words",
    "load_bundle",
    "load_program",
    "load_words",
    "patience",
    "place",
    "read_memory",
    "reply_length",
    "run_batch",
    "run_image",
    "run_words",
]


#: Tags that there are.
TAGS = 1 << 16
#: Runs that can be under way: one is at work, one waits.
_UNDER_WAY = 2
#: Most cycles of anything but a run: clearing accumulators, fetching a header, spacing out the words of an image.
_OVERHEAD = 10_000
#: Payload words of replies; those of DATA are as many as were asked for.
_PAYLOADS = {
    Reply.INFO: 2,
    Reply.READY: 0,
    Reply.LAYER: words_of(LayerRecord),
    Reply.RESULT: words_of(RunResult),
    Reply.ERROR: 1,
}
#: Errors that end a run; with others a command is refused.
_ENDS = (ErrorCode.BAD_INSTRUCTION, ErrorCode.TIMEOUT, ErrorCode.ABANDONED)


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


def _expect(answer: Answer, *kinds: Reply) -> Answer:
    if answer.reply is Reply.ERROR:
        raise DeviceError(answer.code, answer.payload[0])
    if answer.reply not in kinds:
        raise ReplyError(f"the accelerator must answer {' or '.join(k.name for k in kinds)}, not {answer.reply.name}")
    return answer


def identity() -> HostOperation:
    """Protocol version of the accelerator, digest of its config (:attr:`hw.config.AcceleratorConfig.word_digest`)."""
    (answer,) = yield Transaction(command(HostCommand.INFO), 1)
    version, digest = _expect(answer, Reply.INFO).payload
    return version, digest


def place(address: int, core: int = 0) -> int:
    """A word's place in a memory, as WRITE and READ take it."""
    return encode(Place, address=address, core=core)[0]


def load_words(
    writes: Sequence[tuple[int, int, np.ndarray]], digest: int, checksum: int | None = None, programs: int = 1
) -> list[int]:
    """Commands that load programs.

    Parameters
    ----------
    writes : list of (memory, core, words)
        As of :meth:`hw.program.link.Bundle.writes`.
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
    commit = [Program.checksum(payloads) if checksum is None else checksum, digest]
    return words + command(HostCommand.COMMIT, commit, programs - 1)


def load_program(program: Program) -> HostOperation:
    """Load a program alone; see :func:`load_bundle`."""
    yield from load_bundle(link([program]))


def load_bundle(bundle: Bundle) -> HostOperation:
    """Load programs into the accelerator; nothing runs before they are complete and checked.

    Raises
    ------
    DeviceError
        When they aren't accepted.
    """
    words = load_words(bundle.writes(), bundle.config.word_digest, programs=len(bundle.programs))
    (answer,) = yield Transaction(words, 1)
    _expect(answer, Reply.READY)


def patience(bundle: Bundle, conditions: Conditions = DEFAULT) -> int:
    """Cycles in which the accelerator takes or sends a word, if there is one to take and it is asked for an answer.

    A run may first wait as long as its limit for the lists of the one before.
    """
    return 2 * max(decoded.header.limit for decoded in bundle.decoded) + conditions.deadline + _OVERHEAD


def image_words(codes: np.ndarray) -> np.ndarray:
    """An image of int8 codes as the 32-bit words of RUN: four codes a word, first lowest, the last filled with 0."""
    flat = np.ascontiguousarray(codes, dtype=np.int8).reshape(-1).view(np.uint8)
    return np.pad(flat, (0, -len(flat) % 4)).view("<u4")


def read_memory(memory: int, first: int, count: int, core: int = 0) -> HostOperation:
    """Words of a readable memory."""
    (answer,) = yield Transaction(command(HostCommand.READ, [place(first, core), count], memory), 1)
    return np.array(_expect(answer, Reply.DATA).payload, dtype=np.uint32)


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
    result = decode(RunResult, _expect(answer, Reply.RESULT).payload)
    del result["reserved"]
    return _tagged(result, *numbers), result


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
    layers, outputs = [], []
    (answer,) = yield Transaction(_run_command(codes, program_number, conditions, number, report=report, step=step), 1)
    while answer.reply is Reply.LAYER:
        record = decode(LayerRecord, answer.payload)
        _tagged(record, number)
        layers.append(record)
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
            layers[_tagged(record, *waiting)].append(record)
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
