"""Speaks the host protocol: takes commands, writes memories, answers.

Every command is taken whole, also one that is refused, so the stream never loses step. While a run is at work the next
RUN is taken, too, and what is malformed is refused; what needs an idle accelerator waits until it is.
"""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AcceleratorConfig
from hw.program.bits import words_of
from hw.program.protocol import PROTOCOL_VERSION
from hw.rtl.host.memory_access import CommandState, MemoryAccess
from hw.rtl.host.reply_port import ReplyPort
from hw.rtl.interfaces import HostControl, LogitRead, PairRead
from hw.rtl.records import LoadWord, ReplyRecord
from hw.rtl.structs import Commit, ErrorCode, HostCommand, Identity, Memory, ReadRange, Reply

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
    sequencer : Out(HostControl)
        Programs and runs.
    word : Out(stream of 32 bits)
        Payload of a RUN.
    record : In(stream of ReplyRecord)
        What the sequencer tells the host.
    read_core : Out, read : Out(PairRead)
        Pairs of activations, of this core.
    logits : Out(LogitRead)
        The exit unit's.

    Latency: one cycle from a word of a WRITE to ``load``, :attr:`HEADER_CYCLES` from a RUN's header to ``run``.
    Throughput: a command word per cycle, a read word per six cycles. Back-pressure: on both streams, nothing is lost.
    Reset: forgets the program.

    Parts, in the order of :meth:`elaborate`: what is told in every state; the register in front of the memories and the
    bounds of the one at hand. Then the states: a command is taken and judged, and waits for the sequencer; memories are
    written and read (:class:`hw.rtl.host.memory_access.MemoryAccess`); an image passes; the answer leaves.

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
                "sequencer": Out(HostControl()),
                "word": Out(stream.Signature(32)),
                "record": In(stream.Signature(ReplyRecord)),
                "read_core": Out(range(max(config.cores, 2))),
                "read": Out(PairRead()),
                "logits": Out(LogitRead(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=32).create()
        m.submodules.replies = replies = ReplyPort()
        command = CommandState(self.sequencer.flags)
        access = MemoryAccess(m, self, crc, replies.data, command, self._config)
        self._connect(m, crc, replies, command)
        # Registered: what the sequencer fetches depends on its orders, and these on its state.
        m.d.sync += [order.eq(0) for order in (self.sequencer.prepare, self.sequencer.switch, self.sequencer.resume)]
        # The checksum is a cycle behind: it is long, and so is what says that it counts a word.
        m.d.sync += [crc.start.eq(0), crc.valid.eq(0)]
        loads = access.load()
        access.bounds()
        with m.FSM():
            self._take_command(m, command)
            self._wait_for_sequencer(m, crc, command)
            access.take_place()
            access.write(loads)
            access.commit()
            access.read()
            self._pass_image(m, command)
            self._answer(m, replies.answer, command)
        return m

    def _connect(self, m, crc, replies, command):
        """What ports and units are told in every state; handshakes of the command stream."""
        header, place = command.header, command.first.place
        connect(m, flipped(self.record), replies.record)
        connect(m, replies.o, flipped(self.o))
        said = replies.answer.payload
        m.d.comb += [
            said.reply.eq(command.answer),
            said.code.eq(command.problem),
            command.runs_present.eq(command.selected & (self.sequencer.flags.program == command.present)),
            command.transfer.eq(self.i.valid & self.i.ready),
            command.payload.eq(self.i.valid & (command.left != 0)),
            crc.data.eq(self.load.payload.data),
            self.sequencer.flags.eq(header.argument),
            self.word.payload.eq(self.i.payload),
            self.read_core.eq(place.core),
            self.read.bank.eq(header.argument == Memory.ACTIVATIONS_1.value),
            self.read.address.eq(place.address),
            self.logits.address.eq(place.address),
        ]

    def _take_command(self, m, command):
        """The header is taken, the memory's size looked up, and the command judged: three cycles."""
        header = command.header
        with m.State("command"):
            # It still pauses in the cycle in which it is told to go on.
            pauses = self.sequencer.paused & ~self.sequencer.resume
            m.d.comb += self.i.ready.eq(self.sequencer.idle | pauses | ~self.sequencer.stepping)
            m.d.sync += header.eq(self.i.payload)
            with m.If(command.transfer):
                m.next = "decode"

        with m.State("decode"):
            # The memory's size is in a register before anything is compared with it.
            m.next = "judge"

        with m.State("judge"):
            m.d.sync += [command.left.eq(header.length), command.detail.eq(header)]
            found = self._problem(m, command)
            with m.If(found != ErrorCode.NONE):
                command.refuse(m, found)
            with m.Else():
                with m.Switch(header.command):
                    with m.Case(HostCommand.INFO):
                        command.reply(m, Reply.INFO)
                    with m.Case(HostCommand.RUN):
                        m.next = "quiet"
                        with m.If(command.runs_present):
                            m.next = "run"
                    with m.Case(HostCommand.BEGIN, HostCommand.READ, HostCommand.RESUME):
                        m.next = "quiet"
                    with m.Default():
                        m.next = "address"

    def _problem(self, m, command):
        """Why the command can't be served now, or NONE."""
        problem = Signal(ErrorCode)
        asked, length = command.header.command, command.header.length

        def when(condition, code):
            with m.If(condition):
                m.d.comb += problem.eq(code)

        # Later lines overrule earlier ones.
        with m.Switch(asked):
            with m.Case(HostCommand.INFO, HostCommand.BEGIN):
                when(length != 0, ErrorCode.BAD_LENGTH)
            with m.Case(HostCommand.WRITE):
                when(length == 0, ErrorCode.BAD_LENGTH)
                when(command.writable == 0, ErrorCode.BAD_MEMORY)
                when(~command.loading, ErrorCode.NOT_LOADING)
            with m.Case(HostCommand.COMMIT):
                when(length != words_of(Commit), ErrorCode.BAD_LENGTH)
                when(~command.loading, ErrorCode.NOT_LOADING)
            with m.Case(HostCommand.RUN):
                when(command.runs_present & (length != self.sequencer.run_words), ErrorCode.BAD_LENGTH)
                when(command.runs_present & ~self.sequencer.servable, ErrorCode.BAD_HEADER)
                when(~command.accepted | (self.sequencer.flags.program > command.last), ErrorCode.NO_PROGRAM)
            with m.Case(HostCommand.READ):
                when(length != words_of(ReadRange), ErrorCode.BAD_LENGTH)
                when(command.readable == 0, ErrorCode.BAD_MEMORY)
            with m.Case(HostCommand.RESUME):
                when(length != 0, ErrorCode.BAD_LENGTH)
                when(~self.sequencer.paused, ErrorCode.NOT_STEPPING)
            with m.Default():
                m.d.comb += problem.eq(ErrorCode.BAD_COMMAND)
        served_paused = (asked == HostCommand.READ) | (asked == HostCommand.RESUME)
        when(self.sequencer.paused & ~served_paused, ErrorCode.RUNNING)
        return problem

    def _wait_for_sequencer(self, m, crc, command):
        """What needs an idle or pausing sequencer waits for it; a RUN waits for its program, then for a free place."""
        header = command.header
        with m.State("quiet"):
            # The checksum doesn't ask whether anything runs: that comes from far away.
            m.d.sync += crc.start.eq(header.command == HostCommand.BEGIN)
            with m.If(self.sequencer.idle | self.sequencer.paused):
                with m.Switch(header.command):
                    with m.Case(HostCommand.BEGIN):
                        m.d.sync += [command.loading.eq(1), command.accepted.eq(0), command.selected.eq(0)]
                        m.next = "command"
                    with m.Case(HostCommand.RUN):
                        m.d.sync += [
                            self.sequencer.switch.eq(1),
                            command.present.eq(self.sequencer.flags.program),
                            command.selected.eq(1),
                        ]
                        m.next = "switch"
                    with m.Case(HostCommand.RESUME):
                        m.d.sync += self.sequencer.resume.eq(1)
                        m.next = "command"
                    with m.Default():
                        m.next = "address"

        with m.State("switch"):
            # The sequencer hears of it now, and isn't idle from the next cycle on until it knows the program.
            m.next = "switched"

        with m.State("switched"):
            with m.If(self.sequencer.idle):
                m.next = "judge"

        with m.State("run"):
            with m.If(self.sequencer.free):
                m.d.comb += self.sequencer.run.eq(1)
                m.next = "image"

    def _pass_image(self, m, command):
        """The payload of a RUN goes to the sequencer, which may hold it back."""
        left = command.left
        with m.State("image"):
            m.d.comb += [
                self.word.valid.eq(self.i.valid & (left != 0)),
                self.i.ready.eq(self.word.ready & (left != 0)),
            ]
            with m.If(command.transfer):
                m.d.sync += left.eq(left - 1)
            with m.If(left == 0):
                m.next = "command"

    def _answer(self, m, answer, command):
        """A refused command's payload is drained; an answer waits for the reply port."""
        left = command.left
        with m.State("refuse"):
            m.d.comb += self.i.ready.eq(left != 0)
            with m.If(command.payload):
                m.d.sync += left.eq(left - 1)
            with m.If(left == 0):
                command.reply(m, Reply.ERROR, command.problem)

        with m.State("reply"):
            said = answer.payload
            m.d.comb += answer.valid.eq(1)
            with m.Switch(command.answer):
                with m.Case(Reply.INFO):
                    identity = {"version": PROTOCOL_VERSION, "digest": self._config.word_digest}
                    m.d.comb += [said.length.eq(words_of(Identity)), said.payload.eq(Identity.const(identity))]
                with m.Case(Reply.ERROR):
                    m.d.comb += [said.length.eq(1), said.payload.eq(command.detail)]
            with m.If(answer.ready):
                m.next = "command"
