"""Runs a program: image in, layer after layer, exit decisions, result out."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.fetcher import Fetcher
from hw.isa import (
    Branch,
    ErrorCode,
    Header,
    Layer,
    LayerRecord,
    Opcode,
    Operation,
    Reply,
    Result,
    RunFlags,
    Target,
    bits_of,
    words_of,
)

__all__ = ["Record", "Sequencer"]

#: Payload words of the longest record.
_RECORD_WORDS = max(words_of(LayerRecord), words_of(Result))


class Record(data.Struct):
    """Something to tell the host."""

    reply: Reply
    code: ErrorCode
    length: 4
    payload: 32 * _RECORD_WORDS


class _Then(enum.Enum, shape=2):
    """What to do with fetched words."""

    HEADER = 0
    DECODE = 1
    LAYER = 2
    BRANCH = 3


class Sequencer(wiring.Component):
    """The program counter, the counters, and the run from image to result.

    Members
    -------
    prepare : In(1)
        A program was accepted: read its header; only while idle.
    image_words : Out(16)
        32-bit words of an image of this program.
    run : In(1), flags : In(RunFlags)
        Begin a run; only while idle.
    word : In(stream of 32 bits)
        The image, four codes a word, first code lowest.
    resume : In(1)
        Go on; only while paused.
    idle, paused : Out(1)
    record : Out(stream of Record)
        Layer records, and as the last of a run a result or an error.
    program_address : Out(12), program_data : In(32)
        Synchronous read of the program memory.
    core_reset : Out(1), clearing : In(1)
        Reset of the core before a program is taken and after a run was given up; whether its accumulators are still
        being cleared.
    layer, start, done, products, stalled
        The core, running a layer.
    image, image_start, pixel
        The core, taking an image.
    label, margin : In
        The exit unit.

    The cycles of a run are those between the last pixel and the result in which no record waits for the host and no
    resume is awaited, so neither the host nor reporting changes them.

    Reset: idle once the core is clear; ``prepare`` is needed again.
    """

    #: Cycles of a run to fetch and decode a LAYER and to start it.
    LAYER_OVERHEAD = Fetcher.cycles(1) + 1 + Fetcher.cycles(words_of(Layer)) + 1
    #: Cycles of a BRANCH.
    BRANCH_CYCLES = Fetcher.cycles(1) + 1 + Fetcher.cycles(words_of(Branch)) + 1
    #: Cycles of a STOP.
    STOP_CYCLES = Fetcher.cycles(1) + 1

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "prepare": In(1),
                "image_words": Out(16),
                "run": In(1),
                "flags": In(RunFlags),
                "word": In(stream.Signature(32)),
                "resume": In(1),
                "idle": Out(1),
                "paused": Out(1),
                "record": Out(stream.Signature(Record)),
                "program_address": Out(12),
                "program_data": In(32),
                "core_reset": Out(1),
                "clearing": In(1),
                "layer": Out(Layer),
                "start": Out(1),
                "done": In(1),
                "products": In(range(config.pes + 1)),
                "stalled": In(1),
                "image": Out(Target),
                "image_start": Out(1),
                "pixel": Out(stream.Signature(signed(9), always_ready=True)),
                "label": In(8),
                "margin": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetcher = fetcher = Fetcher(words_of(Layer))
        header = Signal(Header)
        flags = Signal(RunFlags)
        address = Signal(12)  # of the present instruction
        then = Signal(_Then)
        operation = Signal(Operation)
        cycles = Signal(32)
        layer_cycles, products, stalls = Signal(32), Signal(32), Signal(32)
        error = Signal(ErrorCode)
        running = Signal()
        late = Signal()
        m.d.comb += [
            self.image_words.eq(header.image_words),
            self.image.eq(header.image),
            self.program_address.eq(fetcher.address),
            fetcher.data.eq(self.program_data),
        ]
        m.d.sync += late.eq(cycles > header.limit)
        with m.If(running):
            m.d.sync += cycles.eq(cycles + 1)

        def fetch(where, words, purpose):
            return [
                fetcher.first.eq(where),
                fetcher.count.eq(words),
                fetcher.start.eq(1),
            ], then.eq(purpose)

        def begin_fetch(where, words, purpose):
            combinational, sequential = fetch(where, words, purpose)
            m.d.comb += combinational
            m.d.sync += sequential
            m.next = "fetch"

        byte = Signal(2)
        left = Signal(18)
        word = Signal(32)
        have_word = Signal()
        code = Signal(signed(8))
        next_address = Signal(12)
        record = self.record.payload
        finished_layer = data.View(LayerRecord, record.payload[: bits_of(LayerRecord)])
        result = data.View(Result, record.payload[: bits_of(Result)])

        with m.FSM(init="clear"):
            with m.State("clear"):
                with m.If(~self.clearing):
                    m.next = "idle"

            with m.State("idle"):
                m.d.comb += self.idle.eq(1)
                with m.If(self.prepare):
                    begin_fetch(0, words_of(Header), _Then.HEADER)
                with m.Elif(self.run):
                    m.d.comb += self.image_start.eq(1)
                    m.d.sync += [
                        flags.eq(self.flags),
                        left.eq(header.image_bytes),
                        byte.eq(0),
                        have_word.eq(0),
                        cycles.eq(0),
                    ]
                    m.next = "image"

            with m.State("image"):
                # A code a cycle; the next word is taken with the last code of the one before.
                m.d.comb += [
                    code.eq(word[:8]),
                    self.pixel.valid.eq(have_word),
                    self.pixel.payload.eq(code - header.image.zero_point.as_signed()),
                    self.word.ready.eq((left != 0) & (~have_word | ((byte == 3) & (left != 1)))),
                ]
                with m.If(have_word):
                    m.d.sync += [word.eq(word >> 8), byte.eq(byte + 1), left.eq(left - 1)]
                    with m.If((byte == 3) | (left == 1)):
                        m.d.sync += have_word.eq(0)
                with m.If(self.word.valid & self.word.ready):
                    m.d.sync += [word.eq(self.word.payload), have_word.eq(1), byte.eq(0)]
                with m.If((left == 0) & ~have_word):
                    m.d.sync += address.eq(header.entry)
                    begin_fetch(header.entry, 1, _Then.DECODE)

            with m.State("fetch"):
                m.d.comb += running.eq(then != _Then.HEADER)
                with m.If(fetcher.done):
                    with m.Switch(then):
                        with m.Case(_Then.HEADER):
                            # A program starts on a clean core, whatever the one before has left in it.
                            m.d.comb += self.core_reset.eq(1)
                            m.d.sync += header.eq(fetcher.top(Header))
                            m.next = "clear"
                        with m.Case(_Then.DECODE):
                            m.d.sync += operation.eq(fetcher.top(Operation))
                            m.next = "decode"
                        with m.Case(_Then.LAYER):
                            m.d.sync += [layer_cycles.eq(0), products.eq(0), stalls.eq(0)]
                            m.next = "start"
                        with m.Case(_Then.BRANCH):
                            m.next = "branch"

            with m.State("decode"):
                m.d.comb += running.eq(1)
                # The limit is checked at every instruction, for a loop of branches, and in layers.
                with m.Switch(Mux(late, 0, operation.op)):
                    with m.Case(Opcode.LAYER):
                        begin_fetch(address + 1, words_of(Layer), _Then.LAYER)
                    with m.Case(Opcode.BRANCH):
                        begin_fetch(address + 1, words_of(Branch), _Then.BRANCH)
                    with m.Case(Opcode.STOP):
                        m.next = "result"
                    with m.Default():
                        m.d.sync += error.eq(Mux(late, ErrorCode.TIMEOUT, ErrorCode.BAD_INSTRUCTION))
                        m.next = "fail"

            with m.State("branch"):
                m.d.comb += [
                    running.eq(1),
                    next_address.eq(Mux(self.margin >= fetcher.top(Branch).threshold, operation.target, address + 2)),
                ]
                m.d.sync += address.eq(next_address)
                begin_fetch(next_address, 1, _Then.DECODE)

            with m.State("start"):
                m.d.comb += [running.eq(1), self.start.eq(1)]
                m.next = "layer"

            with m.State("layer"):
                m.d.comb += running.eq(1)
                m.d.sync += [
                    layer_cycles.eq(layer_cycles + 1),
                    products.eq(products + self.products),
                    stalls.eq(stalls + self.stalled),
                ]
                with m.If(self.done):
                    with m.If(flags.report):
                        m.next = "report"
                    with m.Else():
                        self._next_instruction(m, begin_fetch, address, next_address)
                with m.Elif(late):
                    m.d.sync += error.eq(ErrorCode.TIMEOUT)
                    m.next = "fail"

            with m.State("report"):
                m.d.comb += [
                    record.reply.eq(Reply.LAYER),
                    record.length.eq(words_of(LayerRecord)),
                    finished_layer.index.eq(operation.index),
                    finished_layer.cycles.eq(layer_cycles),
                    finished_layer.products.eq(products),
                    finished_layer.stalls.eq(stalls),
                    self.record.valid.eq(1),
                ]
                with m.If(self.record.ready):
                    with m.If(flags.step):
                        m.next = "paused"
                    with m.Else():
                        self._next_instruction(m, begin_fetch, address, next_address)

            with m.State("paused"):
                m.d.comb += self.paused.eq(1)
                with m.If(self.resume):
                    self._next_instruction(m, begin_fetch, address, next_address)

            with m.State("result"):
                m.d.comb += [
                    record.reply.eq(Reply.RESULT),
                    record.length.eq(words_of(Result)),
                    result.label.eq(self.label),
                    result.exit.eq(operation.index),
                    result.margin.eq(self.margin),
                    result.cycles.eq(cycles),
                    self.record.valid.eq(1),
                ]
                with m.If(self.record.ready):
                    m.next = "idle"

            with m.State("fail"):
                m.d.comb += [
                    record.reply.eq(Reply.ERROR),
                    record.code.eq(error),
                    record.length.eq(1),
                    record.payload.eq(address),
                    self.record.valid.eq(1),
                    self.core_reset.eq(1),
                ]
                with m.If(self.record.ready):
                    m.next = "clear"
        m.d.comb += self.layer.eq(fetcher.top(Layer))
        return m

    @staticmethod
    def _next_instruction(m, begin_fetch, address, next_address):
        """To the instruction behind a layer."""
        m.d.comb += next_address.eq(address + 1 + words_of(Layer))
        m.d.sync += address.eq(next_address)
        begin_fetch(next_address, 1, _Then.DECODE)
