"""Runs a program on all cores: image in, layer after layer, exit decisions, result out."""

from itertools import pairwise

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AcceleratorConfig
from hw.program.bits import words_of
from hw.program.isa import Decision, Header, Layer, Opcode, Operation, Window
from hw.program.protocol import ErrorCode, LayerRecord, Reply, Result, RunError, RunFlags, RunOptions
from hw.rtl.control.exit_rule import ExitRule
from hw.rtl.control.image_loader import ImageLoader
from hw.rtl.exchange import WordWrite
from hw.rtl.fetcher import Fetcher
from hw.rtl.host.record import Record, say
from hw.rtl.sums import pipelined_sum, times

__all__ = ["Sequencer"]


class _Then(enum.Enum, shape=2):
    """What to do with fetched words."""

    HEADER = 0
    DECODE = 1
    DECISION = 2


class Sequencer(wiring.Component):
    """The program counter, the counters, the barrier between layers, and the run from image to result.

    Members
    -------
    prepare : In(1)
        Programs were accepted: clean the cores; only while idle.
    switch : In(1), program : In(5)
        Runs are of this program from now on: read its header; only while idle, and ``program`` is there a cycle before.
    run_words : Out(16), servable : Out(1)
        Payload words of a RUN of this program; whether its :class:`hw.program.isa.Header` allows one at all.
    run : In(1), flags : In(RunFlags)
        Begin a run when the one at work has ended; only while ``free``.
    word : In(stream of 32 bits)
        Options and image of the run, see :class:`hw.rtl.control.image_loader.ImageLoader`.
    resume : In(1)
        Go on; only while paused.
    idle, free, paused : Out(1)
        Nothing runs or waits; no run waits; a stepped run awaits ``resume``.
    stepping : Out(1)
        A stepped run is at work or waits.
    record : Out(stream of Record)
        Layer records, and as the last of a run a result or an error.
    program_address : Out(12), program_data : In(32)
        Synchronous read of the program memory.
    core_reset : Out(1)
        Reset of the cores: behind this one's own, before a program is taken, and after a run was given up.
    clearing, done, stalled : In, one bit per core; products : In, one per core
        As in :class:`hw.rtl.core.core.Core`.
    fetch, fetch_address, fetch_window, take, start : Out; fetched : In(1)
        All cores fetch and start together, so one of them says when they have fetched. They fetch the image's window
        whenever they have been reset.
    take_selection, select : Out
        The same as ``take`` and ``start``, of a SELECT; ``done`` also says when that is done.
    image : Out(stream of WordWrite), always ready
        The image's words, for all cores.
    layer : Out(1)
        A layer runs, and no selection.
    room : In(1)
        As :class:`hw.rtl.exchange.Exchange` says.
    label, margin : In
        The exit unit.
    chunk_table, chunks, active, running, finished : Out; written, loading : In
        The loader: :class:`hw.rtl.loader.Loader`, whose ``busy`` is ``loading``; a run begins when it isn't.

    The image of the next run is written while a run is at work, behind the layer that the program names, where it takes
    no cycle from it; a run that is given up may take the one behind it along.

    The cycles of a run are those from its first instruction to the result in which no record waits for the host and no
    resume is awaited, so neither the host nor reporting changes them. In constant time the result waits until they are
    the deadline's. A layer's are those from ``start``, it excluded,
    to the cycle after the one in which all cores are done, and those that it waited for its lists before; products and
    stalls are sums over the cores.

    While a layer runs, the instruction behind it is fetched, and if that is a LAYER its description, too. The layer's
    end waits for that; no layer of a valid program is as short as :attr:`PREFETCH_CYCLES`.

    Every wait ends. Fetches, and cores that clear, take so many cycles. A layer, its lists, and lists of a run before
    that are still on their way are given up after the program's limit (TIMEOUT), which the counter of cycles passes. A
    result is held no longer than to the deadline. Records, ``resume`` and the words of an image are for the host.

    Reset: idle once the cores are clear; ``switch`` is needed again.
    """

    #: Cycles of a run to fetch an instruction; none behind a LAYER or SELECT, which cost and do the same here.
    FETCH_CYCLES = Fetcher.cycles(1)
    #: Cycles to decode a LAYER and to fetch its description; none behind a LAYER.
    DESCRIPTION_CYCLES = 1 + Fetcher.cycles(words_of(Layer))
    #: Cycles to take a description over and to start.
    LAYER_CYCLES = 2
    #: Cycles from a selection's start to its end besides those in which the selector isn't done.
    SELECT_CYCLES = 2
    #: Cycles of a BRANCH or a STOP.
    DECISION_CYCLES = 1 + Fetcher.cycles(words_of(Decision)) + 2
    #: Cycles from one run's last to the next one's first, if its image is there and nobody waits for the host: the
    #: result's and the one of taking the run.
    BETWEEN_RUNS = 2
    #: Cycles that a RUN waits longer if it is of another program than the one before: two ways to the host port and
    #: back, Header and Window.
    SWITCH_CYCLES = 5 + Fetcher.cycles(words_of(Header)) + Fetcher.cycles(words_of(Window))
    #: Cycles of the shortest layer that does not wait until the next instruction and its description are fetched.
    PREFETCH_CYCLES = FETCH_CYCLES + DESCRIPTION_CYCLES + 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "prepare": In(1),
                "switch": In(1),
                "program": In(RunFlags.as_shape()["program"].shape),
                "run_words": Out(16),
                "servable": Out(1),
                "run": In(1),
                "flags": In(RunFlags),
                "word": In(stream.Signature(32)),
                "resume": In(1),
                "idle": Out(1),
                "free": Out(1),
                "paused": Out(1),
                "stepping": Out(1),
                "record": Out(stream.Signature(Record)),
                "program_address": Out(12),
                "program_data": In(32),
                "core_reset": Out(1, init=1),
                "clearing": In(config.cores),
                "fetch": Out(1),
                "fetch_address": Out(12),
                "fetch_window": Out(1),
                "fetched": In(1),
                "take": Out(1),
                "start": Out(1),
                "take_selection": Out(1),
                "select": Out(1),
                "done": In(config.cores),
                "stalled": In(config.cores),
                "products": In(range(config.pes + 1)).array(config.cores),
                "image": Out(stream.Signature(WordWrite, always_ready=True)),
                "layer": Out(1),
                "room": In(1),
                "label": In(8),
                "margin": In(32),
                "chunk_table": Out(12),
                "chunks": Out(8),
                "active": Out(1),
                "running": Out(1),
                "finished": Out(8),
                "written": In(8),
                "loading": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetcher = fetcher = Fetcher(words_of(Header))
        m.submodules.loader = loader = ImageLoader()
        m.submodules.rule = rule = ExitRule()
        header = Signal(Header)
        flags, deadline, tag = Signal(RunFlags), Signal(32), Signal(16)
        image_free = Signal()  # enough LAYERs of this run have ended
        address = Signal(12)  # of the present instruction
        then = Signal(_Then)
        operation = Signal(Operation)  # the present one
        following = Signal(Operation)  # the one fetched last
        cycles = Signal(32)
        due, reached, over = Signal(), Signal(), Signal()  # cycles are at least deadline - 1, deadline, deadline + 1
        layer_cycles, products, stalls, waited = Signal(32), Signal(32), Signal(32), Signal(32)
        error = Signal(ErrorCode)
        running, late = self.running, Signal()
        overdue = Signal()  # lists that the run before had asked for didn't come
        arrived = Signal()  # the instruction behind a layer
        header_address = Signal(12)
        m.d.sync += header_address.eq(times(self.program, words_of(Header)))
        m.d.comb += [
            self.program_address.eq(fetcher.address),
            fetcher.data.eq(self.program_data),
            self.fetch_address.eq(Mux(self.fetch_window, header.image_window, following.target)),
            loader.bytes.eq(header.image_bytes),
            loader.channels.eq(header.image_channels),
            loader.zero_point.eq(header.image_zero_point),
            loader.run.eq(self.run),
            loader.flags.eq(self.flags),
            self.chunk_table.eq(header.chunk_table),
            self.chunks.eq(header.chunks),
            loader.spaced.eq(self.active),
            loader.room.eq(self.room),
            self.free.eq(loader.free),
            self.stepping.eq((self.active & flags.step) | (~loader.free & loader.run_flags.step)),
        ]
        connect(m, flipped(self.word), loader.word)
        connect(m, loader.image, flipped(self.image))
        m.d.sync += late.eq(cycles > header.limit)
        self._judge(m, header)
        with m.If(self.finished == header.image_free):
            m.d.sync += image_free.eq(1)
        with m.If(self.active):
            m.d.comb += loader.allowed.eq(image_free)
        with m.If(running):
            m.d.sync += [cycles.eq(cycles + 1), due.eq(cycles + 2 >= deadline), reached.eq(due), over.eq(reached)]
        # Registered, all: every core hears them. Each is high in the cycle after the one that sets it.
        m.d.sync += [p.eq(0) for p in (self.take, self.start, self.take_selection, self.select, self.core_reset)]
        # What cores count is summed on the way, a cycle behind for each level of the sum; products and stalls end long
        # before the values that are made of them.
        made, held_up = pipelined_sum(m, "products", self.products), pipelined_sum(m, "stalls", self.stalled)
        barrier, in_layer, prefetched, clearing = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [barrier.eq(in_layer & prefetched & self.done.all()), arrived.eq(in_layer & fetcher.done)]
        m.d.sync += clearing.eq(self.clearing.any())

        def begin_fetch(where, words, purpose):
            m.d.comb += [fetcher.first.eq(where), fetcher.count.eq(words), fetcher.start.eq(1)]
            m.d.sync += then.eq(purpose)
            m.next = "fetch"

        ops = [Opcode.LAYER, *([Opcode.SELECT] if self._config.selector else [])]

        def described(operation):
            """Whether the cores have a description of an instruction."""
            return Value.cast(operation.op).matches(*(op.value for op in ops))

        def tell_cores(operation, of_layer, of_selection, state):
            """Set what the cores hear of a layer or of a selection, and go to a state."""
            is_layer = operation.op == Opcode.LAYER
            m.d.sync += [of_layer.eq(is_layer), of_selection.eq(~is_layer)]
            m.next = state

        def give_up(code):
            """No further run's image is begun until the cores are clean."""
            m.d.sync += [error.eq(code), self.active.eq(0)]
            m.next = "fail"

        def next_instruction():
            """To the instruction behind a layer, which has been fetched."""
            m.d.sync += [address.eq(address + 1), operation.eq(following), waited.eq(0)]
            m.next = "decode"
            with m.If(described(following)):
                tell_cores(following, self.take, self.take_selection, "take")

        m.d.comb += [
            rule.constant.eq(flags.constant),
            rule.stop.eq(operation.op == Opcode.STOP),
            rule.index.eq(operation.index),
            rule.decision.eq(fetcher.top(Decision)),
            rule.label.eq(self.label),
            rule.margin.eq(self.margin),
        ]

        with m.FSM(init="reset"):
            # Cores clear their accumulators two cycles after they have been told to, and that is known a cycle later.
            for state, after in pairwise(("reset", "reset cores", "clearing cores", "clear")):
                with m.State(state):
                    m.next = after

            with m.State("clear"):
                # Clean cores know no window any more.
                with m.If(~clearing):
                    m.next = "window"

            with m.State("window"):
                m.d.comb += [self.fetch.eq(1), self.fetch_window.eq(1)]
                m.next = "fetch window"

            with m.State("fetch window"):
                with m.If(self.fetched):
                    m.next = "idle"

            with m.State("idle"):
                m.d.comb += [self.idle.eq(loader.free), loader.allowed.eq(1), rule.begin.eq(1)]
                m.d.sync += image_free.eq(0)
                with m.If(self.prepare):
                    m.d.sync += self.core_reset.eq(1)
                    m.next = "reset"
                with m.Elif(self.switch):
                    begin_fetch(header_address, words_of(Header), _Then.HEADER)
                with m.Elif(loader.loaded & self.loading & ~overdue):
                    m.next = "lists"
                with m.Elif(loader.loaded):
                    m.d.comb += loader.take.eq(1)
                    m.d.sync += [
                        flags.eq(loader.run_flags),
                        deadline.eq(loader.options.deadline),
                        tag.eq(loader.options.tag),
                        rule.drawn.eq(loader.drawn),
                        waited.eq(0),
                        overdue.eq(0),
                        self.finished.eq(0),
                        self.active.eq(1),
                        address.eq(header.entry),
                    ]
                    begin_fetch(header.entry, 1, _Then.DECODE)
                    with m.If(loader.spoiled | overdue):
                        m.d.sync += address.eq(0)
                        give_up(Mux(loader.spoiled, ErrorCode.ABANDONED, ErrorCode.TIMEOUT))

            with m.State("lists"):
                # The next run begins when nothing is on its way any more, or is given up after its limit.
                m.d.sync += [cycles.eq(cycles + 1), overdue.eq(late)]
                with m.If(~self.loading | late):
                    m.d.sync += cycles.eq(0)
                    m.next = "idle"

            with m.State("fetch"):
                m.d.comb += running.eq(then != _Then.HEADER)
                with m.If(fetcher.done):
                    with m.Switch(then):
                        with m.Case(_Then.HEADER):
                            m.d.sync += header.eq(fetcher.top(Header))
                            m.next = "window"
                        with m.Case(_Then.DECODE):
                            m.d.sync += [operation.eq(fetcher.top(Operation)), following.eq(fetcher.top(Operation))]
                            m.next = "decode"
                        with m.Case(_Then.DECISION):
                            m.next = "margin"

            with m.State("decode"):
                m.d.comb += running.eq(1)
                # The limit is checked at every instruction, for a loop of branches, and in layers.
                with m.Switch(Mux(late, 0, operation.op)):
                    with m.Case(*ops):
                        m.d.comb += self.fetch.eq(1)
                        m.next = "description"
                    with m.Case(Opcode.BRANCH, Opcode.STOP):
                        m.d.sync += rule.expired.eq((deadline != 0) & over)
                        begin_fetch(address + 1, words_of(Decision), _Then.DECISION)
                    with m.Default():
                        give_up(Mux(late, ErrorCode.TIMEOUT, ErrorCode.BAD_INSTRUCTION))

            with m.State("description"):
                m.d.comb += running.eq(1)
                with m.If(self.fetched):
                    tell_cores(operation, self.take, self.take_selection, "take")

            with m.State("take"):
                m.d.comb += running.eq(1)
                with m.If(self.written >= operation.chunks):
                    tell_cores(operation, self.start, self.select, "start")
                with m.Else():
                    m.d.sync += waited.eq(waited + 1)
                    with m.If(late):
                        give_up(ErrorCode.TIMEOUT)

            with m.State("margin"):
                m.d.comb += [running.eq(1), rule.compare.eq(1)]
                m.next = "decide"

            with m.State("decide"):
                m.d.comb += [running.eq(1), rule.judge.eq(1)]
                next_address = Signal(12)
                m.d.comb += next_address.eq(address + words_of(Operation) + words_of(Decision))
                with m.If(rule.ends):
                    m.next = "result"
                    with m.If(flags.constant & ~due):
                        m.next = "hold"
                with m.Else():
                    m.d.sync += address.eq(next_address)
                    begin_fetch(next_address, 1, _Then.DECODE)

            with m.State("hold"):
                # The result's cycles are the deadline's.
                m.d.comb += running.eq(1)
                with m.If(due):
                    m.next = "result"

            with m.State("start"):
                m.d.comb += [running.eq(1), fetcher.first.eq(address + 1), fetcher.count.eq(1), fetcher.start.eq(1)]
                m.d.sync += [prefetched.eq(0), layer_cycles.eq(waited), products.eq(0), stalls.eq(0)]
                m.next = "layer"

            with m.State("layer"):
                m.d.comb += [running.eq(1), in_layer.eq(1), self.layer.eq(operation.op == Opcode.LAYER)]
                m.d.sync += [
                    layer_cycles.eq(layer_cycles + 1),
                    products.eq(products + made),
                    stalls.eq(stalls + held_up),
                ]
                with m.If(fetcher.done):
                    m.d.sync += following.eq(fetcher.top(Operation))
                with m.If(arrived):
                    m.d.comb += self.fetch.eq(described(following))
                    m.d.sync += prefetched.eq(~described(following))
                with m.If(self.fetched):
                    m.d.sync += prefetched.eq(1)
                with m.If(barrier):
                    m.d.sync += self.finished.eq(self.finished + (operation.op == Opcode.LAYER))
                    with m.If(flags.report & (operation.op == Opcode.LAYER)):
                        m.next = "report"
                    with m.Else():
                        next_instruction()
                with m.Elif(late):
                    give_up(ErrorCode.TIMEOUT)

            with m.State("report"):
                counters = {"cycles": layer_cycles, "products": products, "stalls": stalls, "waited": waited}
                m.d.comb += say(self.record, Reply.LAYER, LayerRecord, index=operation.index, tag=tag, **counters)
                with m.If(self.record.ready):
                    with m.If(flags.step):
                        m.next = "paused"
                    with m.Else():
                        next_instruction()

            with m.State("paused"):
                m.d.comb += self.paused.eq(1)
                with m.If(self.resume):
                    next_instruction()

            with m.State("result"):
                m.d.sync += self.active.eq(0)
                fields = {"cycles": cycles, "tag": tag, "overrun": flags.constant & over}
                m.d.comb += say(self.record, Reply.RESULT, Result, rule.result, **fields)
                with m.If(self.record.ready):
                    m.d.sync += cycles.eq(0)
                    m.next = "idle"

            with m.State("fail"):
                m.d.comb += say(self.record, Reply.ERROR, RunError, address=address, tag=tag)
                m.d.comb += [self.record.payload.code.eq(error), loader.spoil.eq(1)]
                m.d.sync += [self.core_reset.eq(1), cycles.eq(0)]
                with m.If(self.record.ready):
                    m.next = "reset"
        return m

    def _judge(self, m, header):
        """Whether a RUN can bring what the header asks for; known before the window of images is."""
        needed, payload, whole = Signal(17), Signal(17), Signal()
        m.d.comb += self.run_words.eq(payload[:16])
        m.d.sync += [
            needed.eq((header.image_bytes + 3) >> 2),
            payload.eq(header.image_words + words_of(RunOptions)),
            whole.eq(needed == header.image_words),
            self.servable.eq(whole & ~payload[16] & (header.image_bytes != 0) & (header.image_channels != 0)),
        ]
