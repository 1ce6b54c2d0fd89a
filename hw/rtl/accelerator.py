"""The accelerator: host port, sequencer, exit unit, cores and the exchange between them, wired together.

::

    i ──► host port ──► program memory ──► sequencer ──► cores: dispatcher, PEs, lanes, memories
    o ◄──    ▲                                 │ image     │  ▲
             │                                 └───────► exchange: words made ──► windows of the cores
             └──────── records ◄── exit unit ◄── logits of core 0
    weights ──► loader ──► list memories of the PEs
    request ◄──    (with a loader only)
"""

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AcceleratorConfig
from hw.rtl.control.exit_unit import ExitUnit
from hw.rtl.control.selector import Selector
from hw.rtl.control.sequencer import Sequencer
from hw.rtl.core.core import Core
from hw.rtl.exchange import Exchange
from hw.rtl.host.host_port import HostPort
from hw.rtl.loader import Loader
from hw.rtl.records import PAIR
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

    Latency: that of a run, which the simulator finds. Throughput: a word of a program, or a code of an image, per
    cycle; a product per cycle and PE. Back-pressure: all streams may stall at any time; nothing is lost and no counter
    changes. Reset: forgets the program; the first command waits until the accumulators are clear. It is the way out for
    a host that has lost step, and for a new host where the old one went away in the middle of a command; nothing else
    stops the machine for good.

    The reset of exchange and selector, and ``take`` of the cores, go through
    :func:`hw.rtl.verilog_platform.promote`: over clock networks, on boards that have such.
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
        m.d.sync += reset.eq(sequencer.control.reset)
        reset, take = (promote(platform, m, signal) for signal in (reset, sequencer.control.take))
        m.submodules.exchange = ResetInserter(reset)(exchange)

        connect(m, flipped(self.i), host.i)
        connect(m, host.o, flipped(self.o))
        connect(m, host.sequencer, sequencer.host)
        connect(m, host.word, sequencer.word)
        connect(m, sequencer.record, host.record)
        connect(m, sequencer.image, exchange.image)
        # The first core makes all heads.
        connect(m, cores[0].head, exit_unit.head)
        connect(m, exit_unit.result, sequencer.head)
        connect(m, host.logits, exit_unit.read)
        program = self._program_memory(m, host, sequencer)
        if config.loader:
            self._loader(m, sequencer, program, cores)

        m.d.comb += [
            exchange.start.eq(sequencer.control.start),
            exchange.everywhere.eq(cores[0].everywhere),
            exit_unit.start.eq(sequencer.control.start),
        ]
        self._connect_cores(m, host, sequencer, exchange, cores, take)
        if config.selector:
            self._selector(m, reset, sequencer, cores)
        else:
            m.d.comb += sequencer.selector.done.eq(1)
        self._read_pairs(m, host, cores)
        return m

    def _connect_cores(self, m, host, sequencer, exchange, cores, take):
        """Every core hears the same, and says for itself when it is done."""
        connect(m, sequencer.control, *(core.control for core in cores))
        for number, core in enumerate(cores):
            connect(m, core.state, sequencer.cores[number])
            connect(m, host.load, core.load)
            connect(m, core.o, exchange.i[number])
            connect(m, exchange.o[number], core.i)
            # ``take`` comes by its network, in place of the wire.
            m.d.comb += [core.control.take.eq(take), core.number.eq(number)]

    def _read_pairs(self, m, host, cores):
        """Host reads come from all cores, and have time: a register behind the choice of the core."""
        read_pair = Signal(PAIR)
        m.d.comb += host.read.pair.eq(read_pair)
        for core in cores:
            m.d.comb += [core.read.bank.eq(host.read.bank), core.read.address.eq(host.read.address)]
        with m.Switch(host.read_core):
            for number, core in enumerate(cores):
                with m.Case(number):
                    m.d.sync += read_pair.eq(core.read.pair)

    def _selector(self, m, reset, sequencer, cores):
        """Selections run as layers do, in the selector and in all cores."""
        selector = Selector(self._config)
        m.submodules.selector = ResetInserter(reset)(selector)
        connect(m, sequencer.selector, selector.control)
        m.d.comb += selector.selection.eq(cores[0].selection)
        for scanner, core in zip(selector.scanners, cores, strict=True):
            connect(m, scanner, core.selector)

    def _program_memory(self, m, host, sequencer):
        """Writing, a cycle after the host's word came, and the sequencer share an address."""
        words = self._config.program_words
        m.submodules.program = program = memory.Memory(shape=32, depth=words, init=[], attrs=memory_attributes(words))
        write, instructions = program.write_port(), program.read_port()
        address, load = Signal(12), host.load.payload
        loads, place = Signal(), Signal.like(load.address, reset_less=True)
        m.d.sync += [
            loads.eq(host.load.valid & (load.memory == Memory.PROGRAM.value)),
            place.eq(load.address),
            write.data.eq(load.data),
        ]
        m.d.comb += [
            write.en.eq(loads),
            address.eq(Mux(loads, place, sequencer.program.address)),
            write.addr.eq(address),
            instructions.addr.eq(address),
            instructions.en.eq(1),
            sequencer.program.data.eq(instructions.data),
        ]
        return program

    def _loader(self, m, sequencer, program, cores):
        """The loader reads its table from the program memory, through a port of its own."""
        m.submodules.loader = loader = Loader(self._config)
        table = program.read_port()
        connect(m, sequencer.lists, loader.run)
        connect(m, loader.request, flipped(self.request))
        connect(m, flipped(self.weights), loader.weights)
        m.d.comb += [
            table.addr.eq(loader.table.address),
            table.en.eq(1),
            loader.table.data.eq(table.data),
        ]
        for core in cores:
            connect(m, loader.row, core.row)
