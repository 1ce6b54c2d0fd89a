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
from hw.rtl.fetcher import Fetcher
from hw.rtl.interfaces import (
    CoreState,
    HeadResult,
    HostControl,
    ImageWords,
    ListLoading,
    ReadPort,
    RunControl,
    SelectControl,
)
from hw.rtl.records import ReplyRecord, offer_record
from hw.rtl.structs import (
    Decision,
    ErrorCode,
    Header,
    LayerDescription,
    Opcode,
    Reply,
    RunError,
    RunOptions,
    RunResult,
    Window,
)

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """The program counter, the counters, the barrier between layers, and the run from image to result.

    Members
    -------
    host : In(HostControl)
        The host port's orders.
    word : In(stream of 32 bits)
        Options and image of the run, see :class:`hw.rtl.control.image_loader.ImageLoader`.
    record : Out(stream of ReplyRecord)
        Layer records, and as the last of a run a result or an error.
    program : Out(ReadPort)
        Of the program memory.
    control : Out(RunControl)
        To all cores. They are reset behind this one's own reset, before a program is taken, and after a run was given
        up, and then fetch the image's window. All fetch and start together, so one of them says when they have fetched.
    cores : In(CoreState), one per core
        From each of them.
    selector : Out(SelectControl)
        To the selector.
    image : Out(ImageWords)
        The image's words, to the exchange.
    head : In(HeadResult)
        The exit unit's.
    lists : Out(ListLoading)
        To the loader.

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
    that are still on their way are given up after the program's timeout, which the counter of cycles passes. A
    result is held no longer than to the deadline. Records, ``resume`` and the words of an image are for the host.

    Latency: of every instruction the constants below, and a layer's own cycles. Throughput: a run at a time, the next
    one after :attr:`BETWEEN_RUNS` cycles. Back-pressure: on ``word`` until an image may be written; ``record`` may be
    held back. Reset: idle once the cores are clear; ``switch`` is needed again.
    """

    #: Cycles of a run to fetch an instruction; none behind a LAYER or SELECT, which cost and do the same here.
    FETCH_CYCLES = Fetcher.cycles(1)
    #: Cycles to decode a LAYER and to fetch its description; none behind a LAYER.
    DESCRIPTION_CYCLES = 1 + Fetcher.cycles(words_of(LayerDescription))
    #: Cycles to take a description over and to start.
    LAYER_CYCLES = 1
    #: Cycles from a selection's start to its end besides those in which the selector isn't done.
    SELECT_CYCLES = 3
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
                "host": In(HostControl()),
                "word": In(stream.Signature(32)),
                "record": Out(stream.Signature(ReplyRecord)),
                "program": Out(ReadPort(32)),
                "control": Out(RunControl()),
                "cores": In(CoreState(config)).array(config.cores),
                "selector": Out(SelectControl()),
                "image": Out(ImageWords()),
                "head": In(HeadResult()),
                "lists": Out(ListLoading()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetcher = fetcher = Fetcher(words_of(Header))
        m.submodules.loader = loader = ImageLoader()
        m.submodules.rule = rule = ExitRule()
        run = RunState()
        execution = Execution(m, self, fetcher, rule.control, run, selects=bool(self._config.selector))
        self._connect(m, fetcher, loader, run)
        self._apply_header(m, loader.control, run)
        self._clock(m, run)
        # Registered, all: every core hears them. Each is high in the cycle after the one that sets it.
        control = self.control
        fetches = control.fetch, control.fetch_window
        orders = control.take, control.start, control.take_selection, self.selector.start, control.reset
        m.d.sync += [order.eq(0) for order in (*fetches, *orders)]
        made, held_up = execution.watch_cores()
        self._connect_rule(m, rule, fetcher, run)
        with m.FSM(init="reset"):
            self._clean_cores(m, execution, run)
            self._begin_run(m, execution, loader.control, rule.control, run)
            execution.fetch()
            execution.decode()
            execution.start_cores()
            execution.decide()
            execution.work(made, held_up)
            execution.report()
            self._end_run(m, loader.control, rule.control, run)
        return m

    def _connect(self, m, fetcher, loader, run):
        """What the units and the cores' loaders are told in every state."""
        header, control, host, lists, images = run.header, self.control, self.host, self.lists, loader.control
        m.d.sync += run.header_address.eq(constant_multiple(host.flags.program, words_of(Header)))
        m.d.comb += [
            self.program.address.eq(fetcher.read.address),
            fetcher.read.data.eq(self.program.data),
            control.fetch_address.eq(Mux(control.fetch_window, header.image_window, run.following.target)),
            images.bytes.eq(header.image_bytes),
            images.channels.eq(header.image_channels),
            images.zero_point.eq(header.image_zero_point),
            images.run.eq(host.run),
            images.flags.eq(host.flags),
            lists.chunk_table.eq(header.chunk_table),
            lists.chunks.eq(header.chunks),
            images.spaced.eq(lists.active),
            loader.room.eq(self.image.room),
            host.free.eq(images.free),
            host.stepping.eq((lists.active & run.flags.step) | (~images.free & images.waiting.step)),
        ]
        connect(m, flipped(self.word), loader.word)
        connect(m, loader.image, flipped(self.image.words))

    def _apply_header(self, m, images, run):
        """The program's timeout, what its RUNs have to bring, and when the next run's image may be written."""
        header = run.header
        # Whether a RUN can bring what the header asks for is known before the window of images is.
        needed, payload, whole = Signal(17), Signal(17), Signal()
        m.d.comb += self.host.run_words.eq(payload[:16])
        m.d.sync += [
            run.timed_out.eq(run.cycles > header.timeout),
            needed.eq((header.image_bytes + 3) >> 2),
            payload.eq(header.image_words + words_of(RunOptions)),
            whole.eq(needed == header.image_words),
            self.host.servable.eq(whole & ~payload[16] & (header.image_bytes != 0) & (header.image_channels != 0)),
        ]
        with m.If(self.lists.finished == header.image_free):
            m.d.sync += run.image_free.eq(1)
        with m.If(self.lists.active):
            m.d.comb += images.allowed.eq(run.image_free)

    def _clock(self, m, run):
        """The run's cycles, and a pipeline that compares them with the deadline, a cycle for each of its results."""
        cycles = run.cycles
        with m.If(self.lists.running):
            m.d.sync += [
                cycles.eq(cycles + 1),
                run.due.eq(cycles + 2 >= run.deadline),
                run.reached.eq(run.due),
                run.over.eq(run.reached),
            ]

    def _connect_rule(self, m, rule, fetcher, run):
        """The exit rule is told of the present decision and of the head's label and margin."""
        exits = rule.control
        m.d.comb += [
            exits.constant.eq(run.flags.constant),
            exits.stop.eq(run.operation.op == Opcode.STOP),
            exits.index.eq(run.operation.index),
            exits.decision.eq(fetcher.top(Decision)),
        ]
        connect(m, flipped(self.head), rule.head)

    def _clean_cores(self, m, execution, run):
        """After a reset of the cores: they clear their accumulators, then fetch the window of images."""
        # They do so two cycles after they have been told to, and that is known a cycle later.
        for state, after in pairwise(("reset", "reset cores", "clearing cores", "clear")):
            with m.State(state):
                m.next = after

        with m.State("clear"):
            # Clean cores know no window any more.
            with m.If(~run.clearing):
                execution.fetch_window()

        with m.State("window"):
            m.next = "fetch window"

        with m.State("fetch window"):
            with m.If(self.cores[0].fetched):
                m.next = "idle"

    def _begin_run(self, m, execution, images, exits, run):
        """Between runs: a new program, another one, or a run whose image is loaded and whose lists are settled."""
        overdue = Signal()  # lists that the run before had asked for didn't come
        with m.State("idle"):
            m.d.comb += [self.host.idle.eq(images.free), images.allowed.eq(1), exits.begin.eq(1)]
            m.d.sync += run.image_free.eq(0)
            with m.If(self.host.prepare):
                m.d.sync += self.control.reset.eq(1)
                m.next = "reset"
            with m.Elif(self.host.switch):
                execution.fetch_header(run.header_address)
            with m.Elif(images.loaded & self.lists.busy & ~overdue):
                m.next = "lists"
            with m.Elif(images.loaded):
                m.d.comb += images.take.eq(1)
                m.d.sync += [
                    run.flags.eq(images.waiting),
                    run.deadline.eq(images.options.deadline),
                    run.tag.eq(images.options.tag),
                    exits.drawn.eq(images.drawn),
                    overdue.eq(0),
                    self.lists.finished.eq(0),
                    self.lists.active.eq(1),
                    run.address.eq(run.header.entry),
                ]
                execution.fetch_instruction(run.header.entry)
                with m.If(images.spoiled | overdue):
                    m.d.sync += run.address.eq(0)
                    execution.give_up(Mux(images.spoiled, ErrorCode.ABANDONED, ErrorCode.TIMEOUT))

        with m.State("lists"):
            # The next run begins when nothing is on its way any more, or is given up after its timeout.
            m.d.sync += [run.cycles.eq(run.cycles + 1), overdue.eq(run.timed_out)]
            with m.If(~self.lists.busy | run.timed_out):
                m.d.sync += run.cycles.eq(0)
                m.next = "idle"

    def _end_run(self, m, images, exits, run):
        """The run's last record waits for the host: its result, or why it was given up, which resets the cores."""
        with m.State("result"):
            m.d.sync += self.lists.active.eq(0)
            fields = {"cycles": run.cycles, "tag": run.tag, "overrun": run.flags.constant & run.over}
            m.d.comb += offer_record(self.record, Reply.RESULT, RunResult, exits.result, **fields)
            with m.If(self.record.ready):
                m.d.sync += run.cycles.eq(0)
                m.next = "idle"

        with m.State("fail"):
            m.d.comb += offer_record(self.record, Reply.ERROR, RunError, address=run.address, tag=run.tag)
            m.d.comb += [self.record.payload.code.eq(run.error), images.spoil.eq(1)]
            m.d.sync += [self.control.reset.eq(1), run.cycles.eq(0)]
            with m.If(self.record.ready):
                m.next = "reset"
