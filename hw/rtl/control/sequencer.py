"""Runs a program on all cores: image in, layer after layer, exit decisions, result out."""

from itertools import pairwise

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AcceleratorConfig
from hw.program.bits import words_of
from hw.rtl.adders import constant_multiple
from hw.rtl.control.execution import Execution, RunState
from hw.rtl.control.exit_rule import ExitRule
from hw.rtl.control.image_loader import ImageLoader
from hw.rtl.exchange import WordWrite
from hw.rtl.fetcher import Fetcher
from hw.rtl.host.reply_record import ReplyRecord, offer_record
from hw.rtl.structs import (
    Decision,
    ErrorCode,
    Header,
    LayerDescription,
    Opcode,
    Reply,
    RunError,
    RunFlags,
    RunOptions,
    RunResult,
    Window,
)

__all__ = ["Sequencer"]


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
    record : Out(stream of ReplyRecord)
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

    Parts, in the order of :meth:`elaborate`: what the units are told in every state; what follows from the header; the
    clock with its deadline; sums over the cores and their barrier; the exit rule. Then the states: the cores are
    cleaned, a run begins, its instructions are executed (:class:`hw.rtl.control.execution.Execution`), it ends.

    Every wait ends. Fetches, and cores that clear, take so many cycles. A layer, its lists, and lists of a run before
    that are still on their way are given up after the program's limit (TIMEOUT), which the counter of cycles passes. A
    result is held no longer than to the deadline. Records, ``resume`` and the words of an image are for the host.

    Reset: idle once the cores are clear; ``switch`` is needed again.
    """

    #: Cycles of a run to fetch an instruction; none behind a LAYER or SELECT, which cost and do the same here.
    FETCH_CYCLES = Fetcher.cycles(1)
    #: Cycles to decode a LAYER and to fetch its description; none behind a LAYER.
    DESCRIPTION_CYCLES = 1 + Fetcher.cycles(words_of(LayerDescription))
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
                "record": Out(stream.Signature(ReplyRecord)),
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
        run = RunState()
        execution = Execution(m, self, fetcher, rule, run, selects=bool(self._config.selector))
        self._connect(m, fetcher, loader, run)
        self._apply_header(m, loader, run)
        self._clock(m, run)
        # Registered, all: every core hears them. Each is high in the cycle after the one that sets it.
        m.d.sync += [p.eq(0) for p in (self.take, self.start, self.take_selection, self.select, self.core_reset)]
        made, held_up = execution.watch_cores()
        self._connect_rule(m, rule, fetcher, run)
        with m.FSM(init="reset"):
            self._clean_cores(m, run)
            self._begin_run(m, execution, loader, rule, run)
            execution.fetch()
            execution.decode()
            execution.start_cores()
            execution.decide()
            execution.work(made, held_up)
            execution.report()
            self._end_run(m, loader, rule, run)
        return m

    def _connect(self, m, fetcher, loader, run):
        """What the units and the cores' loaders are told in every state."""
        header = run.header
        m.d.sync += run.header_address.eq(constant_multiple(self.program, words_of(Header)))
        m.d.comb += [
            self.program_address.eq(fetcher.address),
            fetcher.data.eq(self.program_data),
            self.fetch_address.eq(Mux(self.fetch_window, header.image_window, run.following.target)),
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
            self.stepping.eq((self.active & run.flags.step) | (~loader.free & loader.run_flags.step)),
        ]
        connect(m, flipped(self.word), loader.word)
        connect(m, loader.image, flipped(self.image))

    def _apply_header(self, m, loader, run):
        """The program's limit of cycles, what its RUNs have to bring, and when the next run's image may be written."""
        header = run.header
        # Whether a RUN can bring what the header asks for is known before the window of images is.
        needed, payload, whole = Signal(17), Signal(17), Signal()
        m.d.comb += self.run_words.eq(payload[:16])
        m.d.sync += [
            run.late.eq(run.cycles > header.limit),
            needed.eq((header.image_bytes + 3) >> 2),
            payload.eq(header.image_words + words_of(RunOptions)),
            whole.eq(needed == header.image_words),
            self.servable.eq(whole & ~payload[16] & (header.image_bytes != 0) & (header.image_channels != 0)),
        ]
        with m.If(self.finished == header.image_free):
            m.d.sync += run.image_free.eq(1)
        with m.If(self.active):
            m.d.comb += loader.allowed.eq(run.image_free)

    def _clock(self, m, run):
        """The run's cycles, and a pipeline that compares them with the deadline, a cycle for each of its results."""
        cycles = run.cycles
        with m.If(self.running):
            m.d.sync += [
                cycles.eq(cycles + 1),
                run.due.eq(cycles + 2 >= run.deadline),
                run.reached.eq(run.due),
                run.over.eq(run.reached),
            ]

    def _connect_rule(self, m, rule, fetcher, run):
        """The exit rule is told of the present decision and of the head's label and margin."""
        m.d.comb += [
            rule.constant.eq(run.flags.constant),
            rule.stop.eq(run.operation.op == Opcode.STOP),
            rule.index.eq(run.operation.index),
            rule.decision.eq(fetcher.top(Decision)),
            rule.label.eq(self.label),
            rule.margin.eq(self.margin),
        ]

    def _clean_cores(self, m, run):
        """After a reset of the cores: they clear their accumulators, then fetch the window of images."""
        # They do so two cycles after they have been told to, and that is known a cycle later.
        for state, after in pairwise(("reset", "reset cores", "clearing cores", "clear")):
            with m.State(state):
                m.next = after

        with m.State("clear"):
            # Clean cores know no window any more.
            with m.If(~run.clearing):
                m.next = "window"

        with m.State("window"):
            m.d.comb += [self.fetch.eq(1), self.fetch_window.eq(1)]
            m.next = "fetch window"

        with m.State("fetch window"):
            with m.If(self.fetched):
                m.next = "idle"

    def _begin_run(self, m, execution, loader, rule, run):
        """Between runs: a new program, another one, or a run whose image is loaded and whose lists are settled."""
        overdue = Signal()  # lists that the run before had asked for didn't come
        with m.State("idle"):
            m.d.comb += [self.idle.eq(loader.free), loader.allowed.eq(1), rule.begin.eq(1)]
            m.d.sync += run.image_free.eq(0)
            with m.If(self.prepare):
                m.d.sync += self.core_reset.eq(1)
                m.next = "reset"
            with m.Elif(self.switch):
                execution.fetch_header(run.header_address)
            with m.Elif(loader.loaded & self.loading & ~overdue):
                m.next = "lists"
            with m.Elif(loader.loaded):
                m.d.comb += loader.take.eq(1)
                m.d.sync += [
                    run.flags.eq(loader.run_flags),
                    run.deadline.eq(loader.options.deadline),
                    run.tag.eq(loader.options.tag),
                    rule.drawn.eq(loader.drawn),
                    run.waited.eq(0),
                    overdue.eq(0),
                    self.finished.eq(0),
                    self.active.eq(1),
                    run.address.eq(run.header.entry),
                ]
                execution.fetch_instruction(run.header.entry)
                with m.If(loader.spoiled | overdue):
                    m.d.sync += run.address.eq(0)
                    execution.give_up(Mux(loader.spoiled, ErrorCode.ABANDONED, ErrorCode.TIMEOUT))

        with m.State("lists"):
            # The next run begins when nothing is on its way any more, or is given up after its limit.
            m.d.sync += [run.cycles.eq(run.cycles + 1), overdue.eq(run.late)]
            with m.If(~self.loading | run.late):
                m.d.sync += run.cycles.eq(0)
                m.next = "idle"

    def _end_run(self, m, loader, rule, run):
        """The run's last record waits for the host: its result, or why it was given up, which resets the cores."""
        with m.State("result"):
            m.d.sync += self.active.eq(0)
            fields = {"cycles": run.cycles, "tag": run.tag, "overrun": run.flags.constant & run.over}
            m.d.comb += offer_record(self.record, Reply.RESULT, RunResult, rule.result, **fields)
            with m.If(self.record.ready):
                m.d.sync += run.cycles.eq(0)
                m.next = "idle"

        with m.State("fail"):
            m.d.comb += offer_record(self.record, Reply.ERROR, RunError, address=run.address, tag=run.tag)
            m.d.comb += [self.record.payload.code.eq(run.error), loader.spoil.eq(1)]
            m.d.sync += [self.core_reset.eq(1), run.cycles.eq(0)]
            with m.If(self.record.ready):
                m.next = "reset"
