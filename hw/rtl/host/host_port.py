"""Speaks the host protocol: takes commands, writes memories, answers.

Every command is taken whole, also one that is refused, so the stream never loses step. While a run is at work the next
RUN is taken, too, and what is malformed is refused; what needs an idle accelerator waits until it is.
"""

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.isa import MAX_CLASSES
from hw.program.protocol import (
    PROTOCOL_VERSION,
    CommandHeader,
    ErrorCode,
    HostCommand,
    Memory,
    Place,
    Reply,
    RunFlags,
    memory_depths,
)
from hw.rtl.core.core import PAIR, LoadWord
from hw.rtl.host.record import Record
from hw.rtl.host.reply_port import ReplyPort, reply_header

__all__ = ["HostPort"]


class HostPort(wiring.Component):
    """The accelerator's end of the host streams.

    Members
    -------
    i : In(stream of 32 bits)
        Commands.
    o : Out(stream of 32 bits)
        Replies.
    load : Out(stream of LoadWord), always ready
        Program words for the memories, while no run is going on.
    prepare, switch, run_words, servable, run, flags, word, resume, idle, free, stepping, paused, record
        The sequencer.
    read_core, read_bank, read_address : Out; read_pair : In(PAIR)
        Pairs of activations, by their number in the bank, three cycles.
    logit_address : Out, logit : In(signed)
        Logits, one cycle.

    Throughput: a command word per cycle, a read word per five cycles. Back-pressure: on both streams, nothing is lost.
    Reset: forgets the program.

    What it waits for: words of a payload, and the host that takes replies, without end (a host that is gone leaves the
    reset to the next one); a sequencer that is idle or pauses, and its place for one more run, which come because every
    run ends. An image's words are taken, for a RUN has as many as the sequencer wants.
    """

    #: Cycles from the one in which a RUN's header is taken to ``run``, of the program selected, where no run waits.
    HEADER_CYCLES = 3

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(32)),
                "o": Out(stream.Signature(32)),
                "load": Out(stream.Signature(LoadWord, always_ready=True)),
                "prepare": Out(1),
                "switch": Out(1),
                "run_words": In(16),
                "servable": In(1),
                "run": Out(1),
                "flags": Out(RunFlags),
                "word": Out(stream.Signature(32)),
                "resume": Out(1),
                "idle": In(1),
                "free": In(1),
                "stepping": In(1),
                "paused": In(1),
                "record": In(stream.Signature(Record)),
                "read_core": Out(range(max(config.cores, 2))),
                "read_bank": Out(1),
                "read_address": Out(14),
                "read_pair": In(PAIR),
                "logit_address": Out(range(MAX_CLASSES)),
                "logit": In(signed(config.accumulator_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        header = Signal(CommandHeader)
        left = Signal(16)  # payload words still to take
        loading, accepted = Signal(), Signal()
        last = Signal(8)  # number of the last program
        present = Signal.like(self.flags.program)  # the program that the sequencer knows
        selected, known = Signal(), Signal()  # it knows one; that is the one of this RUN
        place = Signal(Place)  # of the word to write or read; in COMMIT, the checksum
        address = place.address
        count = Signal(16)
        answer, problem = Signal(Reply, init=Reply.READY), Signal(ErrorCode)
        detail = Signal(32)
        # A state that always takes words, or those of the payload, doesn't ask ``ready``: that comes from far away.
        transfer, payload = Signal(), Signal()
        intact = Signal()  # the checksum is the one that COMMIT names
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=32).create()
        m.submodules.replies = replies = ReplyPort()
        connect(m, flipped(self.record), replies.record)
        connect(m, replies.o, flipped(self.o))
        said, data = replies.answer.payload, replies.data
        m.d.comb += [
            said.reply.eq(answer),
            said.code.eq(problem),
            known.eq(selected & (self.flags.program == present)),
            transfer.eq(self.i.valid & self.i.ready),
            payload.eq(self.i.valid & (left != 0)),
            crc.data.eq(self.i.payload),
            self.flags.eq(header.argument),
            self.word.payload.eq(self.i.payload),
            self.read_core.eq(place.core),
            self.read_bank.eq(header.argument == Memory.ACTIVATIONS_1.value),
            self.read_address.eq(address),
            self.logit_address.eq(address),
        ]
        # Registered: this word goes to every memory there is, and what the sequencer fetches depends on its orders.
        loads = Signal()
        m.d.sync += [
            self.prepare.eq(0),
            self.switch.eq(0),
            self.load.valid.eq(loads),
            self.load.payload.core.eq(place.core),
            self.load.payload.memory.eq(header.argument),
            self.load.payload.address.eq(address),
            self.load.payload.data.eq(self.i.payload),
        ]
        writable, readable, several = Signal(17), Signal(17), Signal()
        self._depths(m, header.argument, writable, readable, several)
        # Registered, too, before a place is compared with them.
        limit, holders = Signal(17), Signal(range(config.cores + 1))
        m.d.sync += [
            limit.eq(Mux(header.command == HostCommand.WRITE, writable, readable)),
            holders.eq(Mux(several, config.cores, 1)),
        ]
        nowhere = Signal()
        m.d.comb += nowhere.eq((place.core >= holders) | (place.reserved != 0) | (address >= limit))

        def reply(kind, code=ErrorCode.NONE):
            """Send an answer, then serve the next command."""
            m.d.sync += [answer.eq(kind), problem.eq(code)]
            m.next = "reply"

        def refuse(code):
            """Take what is left of the payload, then send an error; its detail is there, whatever is decided."""
            m.d.sync += problem.eq(code)
            m.next = "refuse"

        with m.FSM():
            with m.State("command"):
                m.d.comb += self.i.ready.eq(self.idle | self.paused | ~self.stepping)
                m.d.sync += header.eq(self.i.payload)
                with m.If(transfer):
                    m.next = "decode"

            with m.State("decode"):
                # The memory's size is in a register before anything is compared with it.
                m.next = "judge"

            with m.State("judge"):
                m.d.sync += [left.eq(header.length), detail.eq(header)]
                found = self._problem(m, header, loading, accepted, last, known, writable, readable)
                with m.If(found != ErrorCode.NONE):
                    refuse(found)
                with m.Else():
                    with m.Switch(header.command):
                        with m.Case(HostCommand.INFO):
                            reply(Reply.INFO)
                        with m.Case(HostCommand.RUN):
                            m.next = "quiet"
                            with m.If(known):
                                m.next = "run"
                        with m.Case(HostCommand.BEGIN, HostCommand.READ, HostCommand.RESUME):
                            m.next = "quiet"
                        with m.Default():
                            m.next = "address"

            with m.State("quiet"):
                # Nothing may run, or it pauses. The checksum doesn't ask for that: it comes from far away.
                m.d.comb += crc.start.eq(header.command == HostCommand.BEGIN)
                with m.If(self.idle | self.paused):
                    with m.Switch(header.command):
                        with m.Case(HostCommand.BEGIN):
                            m.d.sync += [loading.eq(1), accepted.eq(0), selected.eq(0)]
                            m.next = "command"
                        with m.Case(HostCommand.RUN):
                            m.d.sync += [self.switch.eq(1), present.eq(self.flags.program), selected.eq(1)]
                            m.next = "switch"
                        with m.Case(HostCommand.RESUME):
                            m.d.comb += self.resume.eq(1)
                            m.next = "command"
                        with m.Default():
                            m.next = "address"

            with m.State("switch"):
                # The sequencer hears of it now, and isn't idle from the next cycle on until it knows the program.
                m.next = "switched"

            with m.State("switched"):
                with m.If(self.idle):
                    m.next = "judge"

            with m.State("run"):
                with m.If(self.free):
                    m.d.comb += self.run.eq(1)
                    m.next = "image"

            with m.State("address"):
                # First payload word of WRITE, COMMIT and READ; a checksum, for COMMIT.
                m.d.comb += [self.i.ready.eq(1), crc.valid.eq(self.i.valid & (header.command == HostCommand.WRITE))]
                m.d.sync += place.eq(self.i.payload)
                with m.If(self.i.valid):
                    m.d.sync += left.eq(left - 1)
                    with m.Switch(header.command):
                        with m.Case(HostCommand.WRITE):
                            m.next = "range"
                        with m.Case(HostCommand.COMMIT):
                            m.next = "compare"
                        with m.Default():
                            m.next = "read"

            with m.State("range"):
                # A write that would leave the memory is refused before its first word.
                m.d.sync += detail.eq(place)
                with m.If(nowhere | (address + left > limit)):
                    refuse(ErrorCode.BAD_ADDRESS)
                with m.Else():
                    m.next = "write"

            with m.State("write"):
                m.d.comb += [self.i.ready.eq(left != 0), loads.eq(payload), crc.valid.eq(payload)]
                with m.If(payload):
                    m.d.sync += [left.eq(left - 1), address.eq(address + 1)]
                with m.If(left == 0):
                    m.next = "command"

            with m.State("compare"):
                # Registered: what follows from it reaches far.
                m.d.sync += intact.eq(place.as_value() == crc.crc)
                m.next = "commit"

            with m.State("commit"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += detail.eq(Mux(intact, config.word_digest, crc.crc))
                with m.If(self.i.valid):
                    m.d.sync += [left.eq(0), loading.eq(0)]
                    with m.If(~intact):
                        refuse(ErrorCode.BAD_CHECKSUM)
                    with m.Elif(self.i.payload != config.word_digest):
                        refuse(ErrorCode.WRONG_CONFIG)
                    with m.Else():
                        m.d.sync += [self.prepare.eq(1), accepted.eq(1), last.eq(header.argument)]
                        reply(Reply.READY)

            with m.State("read"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += detail.eq(self.i.payload)
                with m.If(self.i.valid):
                    m.d.sync += left.eq(0)
                    m.next = "read range"

            with m.State("read range"):
                m.d.sync += [count.eq(detail), detail.eq(place)]
                with m.If(nowhere | (detail > limit - address)):
                    refuse(ErrorCode.BAD_ADDRESS)
                with m.Else():
                    m.next = "data"

            with m.State("data"):
                m.d.comb += [
                    data.valid.eq(1),
                    data.payload.eq(reply_header(Reply.DATA, ErrorCode.NONE, count)),
                ]
                with m.If(data.ready):
                    m.next = "ask"

            with m.State("ask"):
                # The pair at this address is here in three cycles.
                m.next = "memory"
                with m.If(count == 0):
                    m.next = "command"

            with m.State("memory"):
                m.next = "core"

            with m.State("core"):
                m.next = "word"

            with m.State("word"):
                with m.If(header.argument == Memory.LOGITS.value):
                    m.d.sync += detail.eq(self.logit)
                with m.Else():
                    m.d.sync += detail.eq(Cat(*(_extended(value, 16) for value in self.read_pair)))
                m.next = "offer"

            with m.State("offer"):
                m.d.comb += [data.valid.eq(1), data.payload.eq(detail)]
                with m.If(data.ready):
                    m.d.sync += [address.eq(address + 1), count.eq(count - 1)]
                    m.next = "ask"

            with m.State("image"):
                m.d.comb += [
                    self.word.valid.eq(self.i.valid & (left != 0)),
                    self.i.ready.eq(self.word.ready & (left != 0)),
                ]
                with m.If(transfer):
                    m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.next = "command"

            with m.State("refuse"):
                m.d.comb += self.i.ready.eq(left != 0)
                with m.If(payload):
                    m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    reply(Reply.ERROR, problem)

            with m.State("reply"):
                m.d.comb += replies.answer.valid.eq(1)
                with m.Switch(answer):
                    with m.Case(Reply.INFO):
                        identity = Cat(Const(PROTOCOL_VERSION, 32), Const(config.word_digest, 32))
                        m.d.comb += [said.length.eq(2), said.payload.eq(identity)]
                    with m.Case(Reply.ERROR):
                        m.d.comb += [said.length.eq(1), said.payload.eq(detail)]
                with m.If(replies.answer.ready):
                    m.next = "command"
        return m

    def _depths(self, m, number, writable, readable, several):
        """Words that a host may write and read in the memory of this number, and whether every core has one.

        A cycle later.
        """
        m.d.sync += [
            writable.eq(0),
            readable.eq(0),
            several.eq((number != Memory.PROGRAM.value) & (number != Memory.LOGITS.value)),
        ]
        with m.Switch(number):
            for memory, words in memory_depths(self._config).items():
                with m.Case(memory):
                    m.d.sync += writable.eq(words)
            with m.Case(Memory.ACTIVATIONS_0.value, Memory.ACTIVATIONS_1.value):
                m.d.sync += readable.eq(self._config.activation_words * (WORD_CHANNELS // 2))
            with m.Case(Memory.LOGITS.value):
                m.d.sync += readable.eq(MAX_CLASSES)

    def _problem(self, m, header, loading, accepted, last, known, writable, readable):
        """Why the command in ``header`` can't be served now, or NONE."""
        problem = Signal(ErrorCode)
        command, length = header.command, header.length

        def when(condition, code):
            with m.If(condition):
                m.d.comb += problem.eq(code)

        # Later lines overrule earlier ones.
        with m.Switch(command):
            with m.Case(HostCommand.INFO, HostCommand.BEGIN):
                when(length != 0, ErrorCode.BAD_LENGTH)
            with m.Case(HostCommand.WRITE):
                when(length == 0, ErrorCode.BAD_LENGTH)
                when(writable == 0, ErrorCode.BAD_MEMORY)
                when(~loading, ErrorCode.NOT_LOADING)
            with m.Case(HostCommand.COMMIT):
                when(length != 2, ErrorCode.BAD_LENGTH)
                when(~loading, ErrorCode.NOT_LOADING)
            with m.Case(HostCommand.RUN):
                when(known & (length != self.run_words), ErrorCode.BAD_LENGTH)
                when(known & ~self.servable, ErrorCode.BAD_HEADER)
                when(~accepted | (self.flags.program > last), ErrorCode.NO_PROGRAM)
            with m.Case(HostCommand.READ):
                when(length != 2, ErrorCode.BAD_LENGTH)
                when(readable == 0, ErrorCode.BAD_MEMORY)
            with m.Case(HostCommand.RESUME):
                when(length != 0, ErrorCode.BAD_LENGTH)
                when(~self.paused, ErrorCode.NOT_STEPPING)
            with m.Default():
                m.d.comb += problem.eq(ErrorCode.BAD_COMMAND)
        served_paused = (command == HostCommand.READ) | (command == HostCommand.RESUME)
        when(self.paused & ~served_paused, ErrorCode.RUNNING)
        return problem


def _extended(value, bits):
    """A signed value in more bits."""
    return Cat(value, value[-1].replicate(bits - len(value)))
