"""The accelerator: host port, sequencer, exit unit, cores and the exchange between them, wired together.

::

    i ──► host port ──► program memory ──► sequencer ──► cores: dispatcher, PEs, lanes, memories
    o ◄──    ▲                                 │ image     │  ▲
             │                                 └───────► exchange: words made ──► windows of the cores
             └──────── records ◄── exit unit ◄── logits of core 0
    weights ──► loader ──► list memories of the PEs
    request ◄──    (with a loader only)
"""

from amaranth import Module, ResetInserter, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AcceleratorConfig
from hw.rtl.control.exit_unit import ExitUnit
from hw.rtl.control.selector import Selector
from hw.rtl.control.sequencer import Sequencer
from hw.rtl.core.core import PAIR, Core
from hw.rtl.exchange import Exchange
from hw.rtl.host.host_port import HostPort
from hw.rtl.loader import Loader
from hw.rtl.structs import Burst, Memory
from hw.rtl.verilog_platform import memory_attributes, promote, shared

__all__ = ["CORE", "Accelerator"]

#: Name of the cores' module in Verilog.
CORE = "core"


class Accelerator(wiring.Component):
    """The whole machine behind one stream in and one stream out.

    Members
    -------
    i : In(stream of 32 bits)
        Commands of :class:`hw.program.protocol.HostCommand`.
    o : Out(stream of 32 bits)
        Replies of :class:`hw.program.protocol.Reply`.
    request : Out(stream of Burst), weights : In(stream of beats)
        A reader of external memory, only with a loader: :class:`hw.rtl.loader.Loader`.

    Back-pressure: all streams may stall at any time; nothing is lost and no counter changes. Reset: forgets the
    program; the first command waits until the accumulators are clear. It is the way out for a host that has lost step,
    and for the next one where a host is gone amid a command; nothing else stops the machine for good. The reset of
    exchange and selector, and ``take`` of the cores, go through :func:`hw.rtl.verilog_platform.promote`: over clock
    networks, on boards that have such.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        reader = {"request": Out(stream.Signature(Burst)), "weights": In(stream.Signature(32 * config.loader))}
        host = {"i": In(stream.Signature(32)), "o": Out(stream.Signature(32))}
        super().__init__(host | (reader if config.loader else {}))

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.host_port = host = HostPort(config)
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.exit_unit = exit_unit = ExitUnit(config)
        cores = [shared(platform, lambda: Core(config), CORE) for _ in range(config.cores)]
        for number, core in enumerate(cores):
            m.submodules[f"core_{number}"] = core
        exchange = Exchange(config)
        # As late as that of the cores.
        reset = Signal(init=1)
        m.d.sync += reset.eq(sequencer.core_reset)
        reset, take = (promote(platform, m, signal) for signal in (reset, sequencer.take))
        m.submodules.exchange = ResetInserter(reset)(exchange)

        connect(m, flipped(self.i), host.i)
        connect(m, host.o, flipped(self.o))
        connect(m, host.word, sequencer.word)
        connect(m, sequencer.record, host.record)
        connect(m, sequencer.image, exchange.image)
        # The first core makes all heads.
        connect(m, cores[0].logit, exit_unit.i)
        program = self._program_memory(m, host, sequencer)
        if config.loader:
            self._loader(m, sequencer, program, cores)

        m.d.comb += [
            sequencer.prepare.eq(host.prepare),
            sequencer.switch.eq(host.switch),
            sequencer.program.eq(host.flags.program),
            host.run_words.eq(sequencer.run_words),
            host.servable.eq(sequencer.servable),
            sequencer.run.eq(host.run),
            sequencer.flags.eq(host.flags),
            sequencer.resume.eq(host.resume),
            host.idle.eq(sequencer.idle),
            host.free.eq(sequencer.free),
            host.stepping.eq(sequencer.stepping),
            host.paused.eq(sequencer.paused),
            sequencer.fetched.eq(cores[0].fetched),
            sequencer.label.eq(exit_unit.label),
            sequencer.margin.eq(exit_unit.margin),
            sequencer.room.eq(exchange.room),
            exchange.layer.eq(sequencer.layer),
            exchange.start.eq(sequencer.start),
            exchange.everywhere.eq(cores[0].everywhere),
            exit_unit.start.eq(sequencer.start),
            exit_unit.raw.eq(cores[0].raw),
            exit_unit.classes.eq(cores[0].classes),
            exit_unit.logit_address.eq(host.logit_address),
            host.logit.eq(exit_unit.logit),
        ]
        self._connect_cores(m, host, sequencer, exchange, cores, take)
        if config.selector:
            self._selector(m, reset, sequencer, cores)
        self._read_pairs(m, host, cores)
        return m

    def _connect_cores(self, m, host, sequencer, exchange, cores, take):
        """Every core hears the same, and says for itself when it is done."""
        for number, core in enumerate(cores):
            connect(m, core.o, exchange.i[number])
            connect(m, exchange.o[number], core.i)
            m.d.comb += [
                core.number.eq(number),
                core.reset.eq(sequencer.core_reset),
                core.of_image.eq(exchange.of_image),
                core.load.valid.eq(host.load.valid),
                core.load.payload.eq(host.load.payload),
                core.fetch.eq(sequencer.fetch),
                core.fetch_address.eq(sequencer.fetch_address),
                core.fetch_window.eq(sequencer.fetch_window),
                core.take.eq(take),
                core.start.eq(sequencer.start),
                sequencer.clearing[number].eq(core.clearing),
                sequencer.done[number].eq(core.done),
                sequencer.stalled[number].eq(core.stalled),
                sequencer.products[number].eq(core.products),
                core.read_bank.eq(host.read_bank),
                core.read_address.eq(host.read_address),
            ]

    def _read_pairs(self, m, host, cores):
        """Host reads come from all cores, and have time: a register behind the choice of the core."""
        read_pair = Signal(PAIR)
        m.d.comb += host.read_pair.eq(read_pair)
        with m.Switch(host.read_core):
            for number, core in enumerate(cores):
                with m.Case(number):
                    m.d.sync += read_pair.eq(core.read_pair)

    def _selector(self, m, reset, sequencer, cores):
        """Selections run as layers do, in the selector and in all cores."""
        selector = Selector(self._config)
        m.submodules.selector = ResetInserter(reset)(selector)
        m.d.comb += [
            selector.start.eq(sequencer.select),
            selector.selection.eq(cores[0].selection),
            sequencer.done[0].eq(cores[0].done & selector.done),
        ]
        for number, core in enumerate(cores):
            m.d.comb += [
                core.take_selection.eq(sequencer.take_selection),
                core.order.eq(selector.order),
                core.called.eq(selector.called[number]),
                selector.tally[number].eq(core.tally),
                selector.place[number].eq(core.place),
            ]

    def _program_memory(self, m, host, sequencer):
        """Writing and the sequencer share an address."""
        words = self._config.program_words
        m.submodules.program = program = memory.Memory(shape=32, depth=words, init=[], attrs=memory_attributes(words))
        write, instructions = program.write_port(), program.read_port()
        address = Signal(12)
        m.d.comb += [
            write.en.eq(host.load.valid & (host.load.payload.memory == Memory.PROGRAM.value)),
            write.data.eq(host.load.payload.data),
            address.eq(sequencer.program_address),
            write.addr.eq(address),
            instructions.addr.eq(address),
            instructions.en.eq(1),
            sequencer.program_data.eq(instructions.data),
        ]
        with m.If(write.en):
            m.d.comb += address.eq(host.load.payload.address)
        return program

    def _loader(self, m, sequencer, program, cores):
        """The loader reads its table from the program memory, through a port of its own."""
        m.submodules.loader = loader = Loader(self._config)
        table = program.read_port()
        connect(m, loader.request, flipped(self.request))
        connect(m, flipped(self.weights), loader.weights)
        m.d.comb += [
            loader.first.eq(sequencer.chunk_table),
            loader.count.eq(sequencer.chunks),
            table.addr.eq(loader.table_address),
            table.en.eq(1),
            loader.table_data.eq(table.data),
            loader.active.eq(sequencer.active),
            loader.running.eq(sequencer.running),
            loader.finished.eq(sequencer.finished),
            sequencer.written.eq(loader.written),
            sequencer.loading.eq(loader.busy),
        ]
        for core in cores:
            connect(m, loader.row, core.row)
