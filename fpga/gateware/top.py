"""Top level of a board: clock, reset and serial link around the accelerator.

::

    receive ─► ByteReceiver ─► WordAssembler ─► queue ─► accelerator ─► WordSplitter ─► ByteTransmitter ─► transmit
                    └─ break ─► resets queue, accelerator and transmitter
"""

from typing import Any

from amaranth import ClockDomain, ClockSignal, Const, Instance, Module, ResetInserter, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect

from fpga.baud import QUEUE_WORDS, bit_cycles
from fpga.boards import Board, Pll
from fpga.gateware.uart import ByteReceiver, ByteTransmitter, WordAssembler, WordSplitter
from hw.rtl.verilog import convert

__all__ = [
    "BoardTop",
    "SerialShell",
    "board_verilog",
    "clock_and_reset",
    "clock_network",
    "pll_instance",
    "serial_verilog",
]


class SerialShell(wiring.Component):
    """A component with one 32-bit stream in and one out, driven over a serial line.

    Parameters
    ----------
    core : wiring.Component
        Ports ``i: In(stream.Signature(32))`` and ``o: Out(stream.Signature(32))``. Modules that it shares
        (:mod:`hw.rtl.verilog_platform`) it resets itself.
    cycles : int
        Clock cycles per serial bit.

    Members
    -------
    receive : In(1)
        Serial data from the host. A break resets the core and everything on the way to and from it.
    transmit : Out(1)
        Serial data to the host.
    overflow : Out(1)
        A word came while the queue in front of the core was full, and was lost; high until the next reset or break.
    reset : In(1)
        Resets everything. The clock domain needs no reset.

    Latency: of a word four frames of the line, each way. Throughput: a word in four frames, each way at once.
    Back-pressure: the line can't be held back; :data:`fpga.baud.QUEUE_WORDS` words wait for the core. Reset: by
    ``reset``, or by a break.
    """

    def __init__(self, core: wiring.Component, cycles: int) -> None:
        self._core = core
        self._cycles = cycles
        line = {"receive": In(1, init=1), "transmit": Out(1, init=1)}
        super().__init__(line | {"overflow": Out(1), "reset": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        receiver, assembler = ByteReceiver(self._cycles), WordAssembler()
        m.submodules.receiver = ResetInserter(self.reset)(receiver)
        m.submodules.assembler = ResetInserter(self.reset)(assembler)
        # Registered: one flip-flop resets thousands, with no logic in between.
        restart = Signal(init=1)
        m.d.sync += restart.eq(receiver.broken | self.reset)
        reset = ResetInserter(restart)
        core = self._core
        m.submodules.core = reset(core)
        # Buffered: words leave from registers, not from behind the memory's read path.
        queue = SyncFIFOBuffered(width=32, depth=QUEUE_WORDS)
        m.submodules.queue = reset(queue)
        splitter, transmitter = WordSplitter(), ByteTransmitter(self._cycles)
        m.submodules.splitter = reset(splitter)
        m.submodules.transmitter = reset(transmitter)

        m.d.comb += [receiver.line.eq(self.receive), assembler.clear.eq(receiver.broken)]
        connect(m, receiver.o, assembler.i)
        m.d.comb += [queue.w_data.eq(assembler.o.payload), queue.w_en.eq(assembler.o.valid)]
        with m.If(assembler.o.valid & ~queue.w_rdy):
            m.d.sync += self.overflow.eq(1)
        with m.If(restart):
            m.d.sync += self.overflow.eq(0)
        connect(m, queue.r_stream, core.i)
        connect(m, core.o, splitter.i)
        connect(m, splitter.o, transmitter.i)
        m.d.comb += self.transmit.eq(transmitter.line)
        return m


class BoardTop(wiring.Component):
    """What is synthesized: PLL, reset and the serial shell, one port for each pin of the board.

    Parameters
    ----------
    core : wiring.Component
        As in :class:`SerialShell`.
    board : Board
    clock_mhz : float
        Clock of the core; the PLL makes it from the board's oscillator.
    baud : int
        Bits per second on the serial line.

    Members
    -------
    clock, reset, receive, transmit, ready, overflow; held_high where the board has it
        As in :class:`fpga.boards.Board`.

    Latency, throughput and back-pressure: those of :class:`SerialShell`. Reset: by ``reset``, and until the PLL has
    locked.

    Raises
    ------
    ValueError
        When the board's PLL can't make the clock, or the clock the baud rate.
    """

    def __init__(self, core: wiring.Component, board: Board, *, clock_mhz: float, baud: int) -> None:
        self._pll = board.pll(clock_mhz)
        self._low = {name for name, pin in board.pins().items() if pin.inverted}
        self._held_high = board.held_high is not None
        self._shell = SerialShell(core, bit_cycles(clock_mhz, baud))
        inputs = {name: In(1) for name in ("clock", "reset", "receive")}
        outputs = {name: Out(1) for name in board.pins() if name not in inputs}
        super().__init__(inputs | outputs)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        reset = clock_and_reset(m, self._pll, self.clock, ~self.reset if "reset" in self._low else self.reset)
        m.submodules.shell = shell = self._shell
        m.d.comb += [
            shell.reset.eq(reset),
            shell.receive.eq(self.receive),
            self.transmit.eq(shell.transmit),
            self.overflow.eq(~shell.overflow if "overflow" in self._low else shell.overflow),
            self.ready.eq(reset if "ready" in self._low else ~reset),
        ]
        if self._held_high:
            m.d.comb += self.held_high.eq(1)
        return m


def clock_and_reset(m: Module, pll: Pll, clock: Signal, pressed: Value) -> Signal:
    """Domain ``sync`` by a PLL from a board's oscillator; high while its button is pressed or the PLL hasn't locked."""
    m.domains.sync = ClockDomain(reset_less=True)
    locked, reset = Signal(), Signal()
    m.submodules.pll = pll_instance(pll, clock, locked, CLKOS=(1, ClockSignal()))
    m.submodules.reset = FFSynchronizer(pressed | ~locked, reset, init=1)
    return reset


def pll_instance(pll: Pll, clock: Signal, locked: Signal, **outputs: tuple[int, Value]) -> Instance:
    """A PLL of an ECP5.

    Parameters
    ----------
    clock, locked : Signal
        The reference, and whether the outputs have their frequencies.
    outputs : dict of str to (int, Value)
        By output (CLKOS, CLKOS2): by what the frequency of the PLL's output is divided further, and the clock. Their
        edges rise together.
    """
    loop = Signal(name="loop")
    settings = dict[str, Any]()
    for name, (further, _) in outputs.items():
        divider = further * pll.output_divider
        settings |= {f"p_{name}_DIV": divider, f"p_{name}_CPHASE": divider - 1, f"p_{name}_FPHASE": 0}
    return Instance(
        "EHXPLLL",
        # Filter settings as Project Trellis' ecppll writes them for every frequency.
        a_ICP_CURRENT="12",
        a_LPF_RESISTOR="8",
        a_MFG_ENABLE_FILTEROPAMP="1",
        a_MFG_GMCREF_SEL="2",
        p_PLLRST_ENA="DISABLED",
        p_INTFB_WAKE="DISABLED",
        p_STDBY_ENABLE="DISABLED",
        p_DPHASE_SOURCE="DISABLED",
        p_OUTDIVIDER_MUXA="DIVA",
        p_FEEDBK_PATH="CLKOP",
        p_CLKOP_ENABLE="ENABLED",
        **{f"p_{name}_ENABLE": "ENABLED" for name in outputs},
        p_CLKI_DIV=pll.reference_divider,
        p_CLKFB_DIV=1,
        p_CLKOP_DIV=pll.loop_divider,
        p_CLKOP_CPHASE=pll.loop_divider - 1,
        p_CLKOP_FPHASE=0,
        **settings,
        i_CLKI=clock,
        i_CLKFB=loop,
        o_CLKOP=loop,
        **{f"o_{name}": output for name, (_, output) in outputs.items()},
        o_LOCK=locked,
        **{f"i_{name}": Const(0, 1) for name in ("RST", "STDBY", "PLLWAKESYNC", "ENCLKOP", "PHASEDIR")},
        **{f"i_{name}": Const(0, 1) for name in ("PHASESEL0", "PHASESEL1", "PHASESTEP", "PHASELOADREG")},
    )


def board_verilog(core: wiring.Component, board: Board, *, clock_mhz: float, baud: int) -> str:
    """Verilog of :class:`BoardTop`, module ``board``."""
    return convert(BoardTop(core, board, clock_mhz=clock_mhz, baud=baud), "board", clock_network)


def serial_verilog(core: wiring.Component, name: str, cycles: int) -> str:
    """Verilog of :class:`SerialShell` without a board around it, for simulators; the module gets that name."""
    return convert(SerialShell(core, cycles), name)


def clock_network(m: Module, signal: Signal) -> Signal:
    """Put a signal on one of the 16 clock networks of an ECP5, which reach every reset and clock enable.

    nextpnr (0.11) counts the way to the network, but no time for the network itself.
    """
    reached = Signal.like(signal, name=f"{signal.name}_everywhere")
    m.submodules[f"{signal.name}_network"] = Instance("DCCA", i_CLKI=signal, i_CE=Const(1, 1), o_CLKO=reached)
    return reached
