"""Executes the instructions of a run: the sequencer's states from its first fetch to the decision that ends it."""

from amaranth import Cat, Mux, Signal, Value
from amaranth.lib import enum

from hw.program.bits import words_of
from hw.rtl.adders import pipelined_sum
from hw.rtl.records import offer_record
from hw.rtl.structs import Decision, ErrorCode, Header, LayerRecord, Opcode, Operation, Reply, RunFlags

__all__ = ["Execution", "RunState"]


class _Then(enum.Enum, shape=2):
    """What to do with fetched words."""

    HEADER = 0
    DECODE = 1
    DECISION = 2


class RunState:
    """Signals that parts of the sequencer share: of the program, the run, the instruction and the layer at work."""

    def __init__(self):
        self.header_address = Signal(12)  # of the program to switch to
        self.header = Signal(Header)
        self.flags, self.deadline = Signal(RunFlags), Signal(32)
        self.tag = Signal(16)
        self.image_free = Signal()  # enough LAYERs of this run have ended
        self.address = Signal(12)  # of the present instruction
        self.then = Signal(_Then)
        self.operation = Signal(Operation)  # the present one
        self.following = Signal(Operation)  # the one fetched last: until it is at work, the present one or the next
        self.listed = Signal()  # the lists that it needs are written
        self.cycles = Signal(32)
        self.due, self.reached = Signal(), Signal()  # cycles are at least deadline - 1, deadline
        self.over = Signal()  # they are at least deadline + 1
        self.timed_out = Signal()  # they are above the program's timeout
        # Counters of the layer; it waited for its lists before its start.
        self.layer_cycles, self.products, self.stalls, self.waited = Signal(32), Signal(32), Signal(32), Signal(32)
        self.in_layer, self.prefetched = Signal(), Signal()  # a layer is at work; what follows it is fetched
        self.arrived = Signal()  # the instruction behind a layer
        self.barrier = Signal()  # all cores are done
        self.clearing = Signal()  # one still clears
        self.error = Signal(ErrorCode)


class Execution:
    """The sequencer's states that execute instructions, and their common transitions.

    :meth:`watch_cores`
        Sums of what the cores count, and the barrier; in every state.
    :meth:`fetch`
        A header, an instruction or a decision comes from the program memory.
    :meth:`decode`
        Dispatch by opcode; the timeout ends a loop of branches here.
    :meth:`start_cores`
        The cores fetch the description, take it over and start; the start waits for the layer's lists.
    :meth:`decide`
        The exit rule compares the margin and judges, a cycle each; in constant time the result is held to the deadline.
    :meth:`work`
        The cores work while the next instruction and its description are prefetched; barrier or timeout ends it.
    :meth:`report`
        The layer's record waits for the host, then a stepped run for ``resume``.

    Parameters
    ----------
    m : Module
        The sequencer's. Every part adds its states to the FSM that is open.
    ports : Sequencer
        Its ports are used as they are.
    fetcher : Fetcher
        The sequencer's.
    exits : ExitControl
        Of the sequencer's exit rule.
    run : RunState
    selects : bool
        The hardware knows SELECT.
    """

    def __init__(self, m, ports, fetcher, exits, run, *, selects):
        self._m, self._ports, self._fetcher, self._exits, self._run = m, ports, fetcher, exits, run
        #: What the cores have a description of.
        self._described = (Opcode.LAYER, Opcode.SELECT) if selects else (Opcode.LAYER,)

    def fetch_header(self, address):
        """Transition to ``fetch``: of a program's header."""
        self._begin_fetch(address, words_of(Header), _Then.HEADER)

    def fetch_instruction(self, address):
        """Transition to ``fetch``: of an instruction that wasn't prefetched."""
        self._begin_fetch(address, 1, _Then.DECODE)

    def fetch_window(self):
        """Transition to ``window``: the cores fetch that of images."""
        m, control = self._m, self._ports.control
        m.d.sync += [control.fetch.eq(1), control.fetch_window.eq(1)]
        m.next = "window"

    def give_up(self, code):
        """Transition to ``fail``: no further run's image is begun until the cores are clean."""
        m = self._m
        m.d.sync += [self._run.error.eq(code), self._ports.lists.active.eq(0)]
        m.next = "fail"

    def watch_cores(self):
        """Products and stalls of a cycle, summed over the cores, and what their states come to, a cycle later.

        The sums are pipelined, a cycle behind for each level; they end long before the values that are made of them.
        """
        m, ports, run = self._m, self._ports, self._run
        made = pipelined_sum(m, "products", [core.products for core in ports.cores])
        held_up = pipelined_sum(m, "stalls", Cat(core.stalled for core in ports.cores))
        all_done = Cat(unit.done for unit in (ports.selector, *ports.cores)).all()
        m.d.sync += [
            run.barrier.eq(run.in_layer & run.prefetched & all_done),
            run.arrived.eq(run.in_layer & self._fetcher.done),
            run.clearing.eq(Cat(core.clearing for core in ports.cores).any()),
        ]
        m.d.comb += run.listed.eq(ports.lists.written >= run.following.chunks)
        return made, held_up

    def fetch(self):
        """The words that :meth:`_begin_fetch` asked for arrive; only a run's count as its cycles."""
        m, ports, fetcher, run = self._m, self._ports, self._fetcher, self._run
        with m.State("fetch"):
            m.d.comb += ports.lists.running.eq(run.then != _Then.HEADER)
            with m.If(fetcher.done):
                with m.Switch(run.then):
                    with m.Case(_Then.HEADER):
                        m.d.sync += run.header.eq(fetcher.top(Header))
                        self.fetch_window()
                    with m.Case(_Then.DECODE):
                        operation = fetcher.top(Operation)
                        m.d.sync += [
                            run.operation.eq(operation),
                            run.following.eq(operation),
                            ports.control.fetch.eq(self._is_described(operation)),
                        ]
                        m.next = "decode"
                    with m.Case(_Then.DECISION):
                        m.next = "margin"

    def decode(self):
        """One cycle: to the description, which the cores fetch from here on, to the decision, or an error."""
        m, ports, run = self._m, self._ports, self._run
        with m.State("decode"):
            m.d.comb += ports.lists.running.eq(1)
            # The timeout is checked at every instruction, for a loop of branches, and in layers.
            with m.Switch(Mux(run.timed_out, 0, run.operation.op)):
                with m.Case(*self._described):
                    m.next = "description"
                with m.Case(Opcode.BRANCH, Opcode.STOP):
                    m.d.sync += self._exits.expired.eq((run.deadline != 0) & run.over)
                    self._begin_fetch(run.address + 1, words_of(Decision), _Then.DECISION)
                with m.Default():
                    self.give_up(Mux(run.timed_out, ErrorCode.TIMEOUT, ErrorCode.BAD_INSTRUCTION))

    def start_cores(self):
        """Take and start of a layer or selection in a cycle; the start is held until enough lists are written."""
        m, ports, run = self._m, self._ports, self._run
        with m.State("description"):
            m.d.comb += ports.lists.running.eq(1)
            with m.If(ports.cores[0].fetched):
                self._take()

        with m.State("wait"):
            m.d.comb += ports.lists.running.eq(1)
            m.d.sync += run.waited.eq(run.waited + 1)
            with m.If(run.listed):
                self._start()
            with m.Elif(run.timed_out):
                self.give_up(ErrorCode.TIMEOUT)

    def decide(self):
        """A branch is taken or not, a cycle to compare and one to judge; the result of constant time is held."""
        m, ports, exits, run = self._m, self._ports, self._exits, self._run
        with m.State("margin"):
            m.d.comb += [ports.lists.running.eq(1), exits.compare.eq(1)]
            m.next = "decide"

        with m.State("decide"):
            m.d.comb += [ports.lists.running.eq(1), exits.judge.eq(1)]
            next_address = Signal(12)
            m.d.comb += next_address.eq(run.address + words_of(Operation) + words_of(Decision))
            with m.If(exits.ends):
                m.next = "result"
                with m.If(run.flags.constant & ~run.due):
                    m.next = "hold"
            with m.Else():
                m.d.sync += run.address.eq(next_address)
                self.fetch_instruction(next_address)

        with m.State("hold"):
            # The result's cycles are the deadline's.
            m.d.comb += ports.lists.running.eq(1)
            with m.If(run.due):
                m.next = "result"

    def work(self, made, held_up):
        """A layer or selection from its start to the barrier; the counts are those of :meth:`watch_cores`."""
        m, ports, fetcher, run = self._m, self._ports, self._fetcher, self._run
        with m.State("start"):
            m.d.comb += [
                ports.lists.running.eq(1),
                fetcher.first.eq(run.address + 1),
                fetcher.count.eq(1),
                fetcher.start.eq(1),
            ]
            m.d.sync += [
                run.prefetched.eq(0),
                run.layer_cycles.eq(run.waited),
                run.products.eq(0),
                run.stalls.eq(0),
            ]
            m.next = "layer"

        with m.State("layer"):
            is_layer = run.operation.op == Opcode.LAYER
            m.d.comb += [ports.lists.running.eq(1), run.in_layer.eq(1), ports.image.layer.eq(is_layer)]
            m.d.sync += [
                run.layer_cycles.eq(run.layer_cycles + 1),
                run.products.eq(run.products + made),
                run.stalls.eq(run.stalls + held_up),
            ]
            self._prefetch()
            with m.If(run.barrier):
                m.d.sync += ports.lists.finished.eq(ports.lists.finished + is_layer)
                with m.If(run.flags.report & is_layer):
                    m.next = "report"
                with m.Else():
                    self._next_instruction()
            with m.Elif(run.timed_out):
                self.give_up(ErrorCode.TIMEOUT)

    def _prefetch(self):
        """Behind a layer's start: the next instruction, then its description if it has one."""
        m, ports, fetcher, run = self._m, self._ports, self._fetcher, self._run
        with m.If(fetcher.done):
            following = fetcher.top(Operation)
            m.d.sync += [run.following.eq(following), ports.control.fetch.eq(self._is_described(following))]
        with m.If(run.arrived):
            m.d.sync += run.prefetched.eq(~self._is_described(run.following))
        with m.If(ports.cores[0].fetched):
            m.d.sync += run.prefetched.eq(1)

    def report(self):
        """Back-pressure of the host on records, and the pause of a stepped run; neither counts as cycles."""
        m, ports, run = self._m, self._ports, self._run
        with m.State("report"):
            counters = {
                "cycles": run.layer_cycles,
                "products": run.products,
                "stalls": run.stalls,
                "waited": run.waited,
            }
            m.d.comb += offer_record(
                ports.record, Reply.LAYER, LayerRecord, index=run.operation.index, tag=run.tag, **counters
            )
            with m.If(ports.record.ready):
                with m.If(run.flags.step):
                    m.next = "paused"
                with m.Else():
                    self._next_instruction()

        with m.State("paused"):
            m.d.comb += ports.host.paused.eq(1)
            with m.If(ports.host.resume):
                self._next_instruction()

    def _begin_fetch(self, where, words, purpose):
        m, fetcher = self._m, self._fetcher
        m.d.comb += [fetcher.first.eq(where), fetcher.count.eq(words), fetcher.start.eq(1)]
        m.d.sync += self._run.then.eq(purpose)
        m.next = "fetch"

    def _is_described(self, operation):
        """Whether the cores have a description of an instruction."""
        return Value.cast(operation.op).matches(*(op.value for op in self._described))

    def _take(self):
        """The cores take over the description that they fetched last, and start if its lists are written."""
        m, control, run = self._m, self._ports.control, self._run
        is_layer = run.following.op == Opcode.LAYER
        m.d.sync += [control.take.eq(is_layer), control.take_selection.eq(~is_layer), run.waited.eq(0)]
        m.next = "wait"
        with m.If(run.listed):
            self._start()

    def _start(self):
        m, ports = self._m, self._ports
        is_layer = self._run.following.op == Opcode.LAYER
        m.d.sync += [ports.control.start.eq(is_layer), ports.selector.start.eq(~is_layer)]
        m.next = "start"

    def _next_instruction(self):
        """To the instruction behind a layer, which has been fetched."""
        m, run = self._m, self._run
        m.d.sync += [run.address.eq(run.address + 1), run.operation.eq(run.following)]
        m.next = "decode"
        with m.If(self._is_described(run.following)):
            self._take()
