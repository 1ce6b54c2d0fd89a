"""Writes the memories and reads them for the host: the host port's states for WRITE, COMMIT and READ."""

from amaranth import Mux, Signal
from amaranth.lib import data

from hw.config import WORD_CHANNELS
from hw.program.protocol import memory_depths
from hw.rtl.structs import (
    CommandHeader,
    Commit,
    ErrorCode,
    HostCommand,
    Memory,
    PairWord,
    Place,
    Reply,
    ReplyHeader,
)

__all__ = ["CommandState", "MemoryAccess"]


_CHECKSUM = Commit.as_shape()["checksum"].shape


class _FirstWord(data.Union):
    """The first payload word of WRITE, READ and COMMIT."""

    place: Place
    checksum: _CHECKSUM


class CommandState:
    """Signals that parts of the host port share: of the command at hand, its memory, its answer, and the programs.

    Parameters
    ----------
    flags : RunFlags
        The command's argument, of a RUN.
    """

    def __init__(self, flags):
        self.header = Signal(CommandHeader)
        self.left = Signal(16)  # payload words still to take
        # A state that always takes words, or those of the payload, doesn't ask ``ready``: that comes from far away.
        self.payload = Signal()
        self.transfer, self.answer, self.problem = Signal(), Signal(Reply, init=Reply.READY), Signal(ErrorCode)
        self.detail = Signal(32)
        self.first = Signal(_FirstWord)  # of the payload; the place moves on with what is written and read
        # Words that a host may write and read in the memory; those of the two that the command asks for.
        self.writable, self.readable, self.end = Signal(17), Signal(17), Signal(17)
        self.nowhere = Signal()  # the place isn't in the memory
        self.loading, self.selected = Signal(), Signal()  # programs are being written; the sequencer knows one
        self.accepted = Signal()  # there are programs
        self.last = Signal(8)  # number of the last program
        self.present = Signal.like(flags.program)  # the program that the sequencer knows
        self.runs_present = Signal()  # this RUN is of that one

    def reply(self, m, kind, code=ErrorCode.NONE):
        """Transition: send an answer, then serve the next command."""
        m.d.sync += [self.answer.eq(kind), self.problem.eq(code)]
        m.next = "reply"

    def refuse(self, m, code):
        """Transition: drain the payload, then send an error; its detail is there, whatever is decided."""
        m.d.sync += self.problem.eq(code)
        m.next = "refuse"


class MemoryAccess:
    """The host port's states that write and read memories.

    :meth:`load`
        Register between the host stream and all memories; in every state.
    :meth:`bounds`
        Depth of the command's memory, and whether the place is in it, pipelined; in every state.
    :meth:`take_place`
        The first payload word.
    :meth:`write`
        A check of the range, then a word a cycle.
    :meth:`commit`
        Checksum and config digest accept the programs, or they are refused.
    :meth:`read`
        The count, a check of the range, the reply's header, then a word in six cycles.

    Parameters
    ----------
    m : Module
        The host port's. Parts with states add them to the FSM that is open.
    ports : HostPort
        Its ports are used as they are.
    crc, words
        Checksum of what is written; stream of the words that are read.
    command : CommandState
    config : AcceleratorConfig
    """

    def __init__(self, m, ports, crc, words, command, config):
        self._m, self._ports, self._crc, self._words = m, ports, crc, words
        self._command, self._config = command, config
        self._outside = Signal()  # some of the words asked for aren't in the memory

    def load(self):
        """One cycle from the host stream to the memories: every word goes to all of them.

        Returns
        -------
        Signal
            The word at hand is to be written.
        """
        m, ports, command = self._m, self._ports, self._command
        loads = Signal()
        m.d.sync += [
            ports.load.valid.eq(loads),
            ports.load.payload.core.eq(command.first.place.core),
            ports.load.payload.memory.eq(command.header.argument),
            ports.load.payload.address.eq(command.first.place.address),
            ports.load.payload.data.eq(ports.i.payload),
        ]
        return loads

    def bounds(self):
        """Depth of the command's memory, a cycle behind its header, and the command's bound, a cycle later.

        Registered, both, before a place is compared with them.
        """
        m, command, config = self._m, self._command, self._config
        header, place = command.header, command.first.place
        banks = Memory.ACTIVATIONS_0, Memory.ACTIVATIONS_1
        several = Signal()  # every core has such a memory
        m.d.sync += [
            command.writable.eq(0),
            command.readable.eq(0),
            several.eq((header.argument != Memory.PROGRAM.value) & (header.argument != Memory.LOGITS.value)),
        ]
        with m.Switch(header.argument):
            for memory, words in memory_depths(config).items():
                with m.Case(memory):
                    m.d.sync += command.writable.eq(words)
            for words in dict.fromkeys(config.bank_words):
                alike = [bank.value for bank, held in zip(banks, config.bank_words, strict=True) if held == words]
                with m.Case(*alike):
                    m.d.sync += command.readable.eq(words * (WORD_CHANNELS // 2))
            with m.Case(Memory.LOGITS.value):
                m.d.sync += command.readable.eq(config.classes)
        holders = Signal(range(config.cores + 1))
        m.d.sync += [
            command.end.eq(Mux(header.command == HostCommand.WRITE, command.writable, command.readable)),
            holders.eq(Mux(several, config.cores, 1)),
        ]
        m.d.comb += command.nowhere.eq((place.core >= holders) | (place.reserved != 0) | (place.address >= command.end))

    def take_place(self):
        """First payload word of WRITE, COMMIT and READ: a place; a checksum, for COMMIT."""
        m, ports, command = self._m, self._ports, self._command
        writes = command.header.command == HostCommand.WRITE
        with m.State("address"):
            m.d.comb += ports.i.ready.eq(1)
            m.d.sync += [self._crc.valid.eq(ports.i.valid & writes), command.first.eq(ports.i.payload)]
            with m.If(ports.i.valid):
                m.d.sync += command.left.eq(command.left - 1)
                with m.Switch(command.header.command):
                    with m.Case(HostCommand.WRITE):
                        m.next = "range"
                    with m.Case(HostCommand.COMMIT):
                        m.next = "compare"
                    with m.Default():
                        m.next = "read"

    def write(self, loads):
        """The payload is written, a word a cycle; ``loads`` is the signal of :meth:`load`."""
        m, ports, command, crc = self._m, self._ports, self._command, self._crc
        left, address, payload = command.left, command.first.place.address, command.payload
        with m.State("range"):
            # A write that would leave the memory is refused before its first word.
            # Registered, here and of a READ: bounds and sums are long, and so is what follows from them.
            m.d.sync += command.detail.eq(command.first.place)
            m.d.sync += self._outside.eq(command.nowhere | (address + left > command.end))
            m.next = "judge range"

        with m.State("judge range"):
            with m.If(self._outside):
                command.refuse(m, ErrorCode.BAD_ADDRESS)
            with m.Else():
                m.next = "write"

        with m.State("write"):
            m.d.comb += [ports.i.ready.eq(left != 0), loads.eq(payload)]
            m.d.sync += crc.valid.eq(payload)
            with m.If(payload):
                m.d.sync += [left.eq(left - 1), address.eq(address + 1)]
            with m.If(left == 0):
                m.next = "command"

    def commit(self):
        """The checksum is compared, a cycle before the config's digest is; then the cores are prepared."""
        m, ports, command, crc = self._m, self._ports, self._command, self._crc
        digest = self._config.word_digest
        intact = Signal()  # the checksum is the one that COMMIT names
        with m.State("compare"):
            # Registered: what follows from it reaches far.
            m.d.sync += intact.eq(command.first.checksum == crc.crc)
            m.next = "commit"

        with m.State("commit"):
            m.d.comb += ports.i.ready.eq(1)
            m.d.sync += command.detail.eq(Mux(intact, digest, crc.crc))
            with m.If(ports.i.valid):
                m.d.sync += [command.left.eq(0), command.loading.eq(0)]
                with m.If(~intact):
                    command.refuse(m, ErrorCode.BAD_CHECKSUM)
                with m.Elif(ports.i.payload != digest):
                    command.refuse(m, ErrorCode.WRONG_CONFIG)
                with m.Else():
                    m.d.sync += [
                        ports.sequencer.prepare.eq(1),
                        command.accepted.eq(1),
                        command.last.eq(command.header.argument),
                    ]
                    command.reply(m, Reply.READY)

    def read(self):
        """The count comes and is checked with the place; the reply's header leaves before its words are read."""
        m, ports, command, words = self._m, self._ports, self._command, self._words
        count = Signal(16)
        with m.State("read"):
            m.d.comb += ports.i.ready.eq(1)
            m.d.sync += command.detail.eq(ports.i.payload)
            with m.If(ports.i.valid):
                m.d.sync += command.left.eq(0)
                m.next = "read range"

        with m.State("read range"):
            m.d.sync += [count.eq(command.detail), command.detail.eq(command.first.place)]
            beyond = command.detail > command.end - command.first.place.address
            m.d.sync += self._outside.eq(command.nowhere | beyond)
            m.next = "judge read"

        with m.State("judge read"):
            with m.If(self._outside):
                command.refuse(m, ErrorCode.BAD_ADDRESS)
            with m.Else():
                m.next = "data"

        header = ReplyHeader(words.payload)
        with m.State("data"):
            m.d.comb += [
                words.valid.eq(1),
                header.reply.eq(Reply.DATA),
                header.code.eq(ErrorCode.NONE),
                header.length.eq(count),
            ]
            with m.If(words.ready):
                m.next = "ask"
        self._read_words(count)

    def _read_words(self, count):
        """A word in six cycles: the pair at the address is there four cycles after it is asked for."""
        m, ports, command, words = self._m, self._ports, self._command, self._words
        address, pair = command.first.place.address, PairWord(command.detail)
        with m.State("ask"):
            m.next = "memory"
            with m.If(count == 0):
                m.next = "command"

        with m.State("memory"):
            m.next = "core"

        with m.State("core"):
            m.next = "choice"

        with m.State("choice"):
            m.next = "word"

        with m.State("word"):
            with m.If(command.header.argument == Memory.LOGITS.value):
                m.d.sync += command.detail.eq(ports.logits.logit)
            with m.Else():
                first, second = ports.read.pair
                m.d.sync += [pair.first.eq(first), pair.second.eq(second)]
            m.next = "offer"

        with m.State("offer"):
            m.d.comb += [words.valid.eq(1), words.payload.eq(command.detail)]
            with m.If(words.ready):
                m.d.sync += [address.eq(address + 1), count.eq(count - 1)]
                m.next = "ask"
