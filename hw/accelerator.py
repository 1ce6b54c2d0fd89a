"""The accelerator: host port, sequencer, exit unit and core, wired together.

::

    i ──► host port ──► program memory ──► sequencer ──► core: dispatcher, PEs, lane, activation memory
    o ◄──    ▲              (tables) ─────────────────►   │
             └──────── records ◄── exit unit ◄── logits ──┘
"""

from amaranth import Module, ResetInserter, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AcceleratorConfig
from hw.core import Core
from hw.exit_unit import ExitUnit
from hw.host_port import HostPort
from hw.isa import Memory
from hw.sequencer import Sequencer

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """The whole machine behind one stream in and one stream out.

    Members
    -------
    i : In(stream of 32 bits)
        Commands of :class:`hw.isa.HostCommand`.
    o : Out(stream of 32 bits)
        Replies of :class:`hw.isa.Reply`.

    Back-pressure: both streams may stall at any time; nothing is lost and no counter changes. Reset: forgets the
    program; the first command waits until the accumulators are clear.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({"i": In(stream.Signature(32)), "o": Out(stream.Signature(32))})

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.host_port = host = HostPort(config)
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.exit_unit = exit_unit = ExitUnit(config)
        core = Core(config)
        m.submodules.core = ResetInserter(sequencer.core_reset)(core)
        m.submodules.program = program = memory.Memory(
            shape=32, depth=config.program_words, init=[], attrs={"no_rw_check": 1}
        )

        connect(m, flipped(self.i), host.i)
        connect(m, host.o, flipped(self.o))
        connect(m, host.word, sequencer.word)
        connect(m, sequencer.record, host.record)
        connect(m, host.load, core.load)
        connect(m, sequencer.pixel, core.pixel)
        connect(m, core.logit, exit_unit.i)

        # Program memory: writing and the sequencer share an address, the tables have their own port.
        write, instructions, tables = program.write_port(), program.read_port(), program.read_port()
        address = Signal(12)
        m.d.comb += [
            write.en.eq(host.load.valid & (host.load.payload.memory == Memory.PROGRAM.value)),
            write.data.eq(host.load.payload.data),
            address.eq(sequencer.program_address),
            write.addr.eq(address),
            instructions.addr.eq(address),
            instructions.en.eq(1),
            sequencer.program_data.eq(instructions.data),
            tables.addr.eq(core.table_address),
            tables.en.eq(core.table_enable),
            core.table_data.eq(tables.data),
        ]
        with m.If(write.en):
            m.d.comb += address.eq(host.load.payload.address)

        m.d.comb += [
            sequencer.prepare.eq(host.prepare),
            host.image_words.eq(sequencer.image_words),
            sequencer.run.eq(host.run),
            sequencer.flags.eq(host.flags),
            sequencer.resume.eq(host.resume),
            host.idle.eq(sequencer.idle),
            host.paused.eq(sequencer.paused),
            sequencer.clearing.eq(core.clearing),
            sequencer.done.eq(core.done),
            sequencer.products.eq(core.products),
            sequencer.stalled.eq(core.stalled),
            sequencer.label.eq(exit_unit.label),
            sequencer.margin.eq(exit_unit.margin),
            core.layer.eq(sequencer.layer),
            core.start.eq(sequencer.start),
            core.image.eq(sequencer.image),
            core.image_start.eq(sequencer.image_start),
            core.read_bank.eq(host.read_bank),
            core.read_address.eq(host.read_address),
            exit_unit.start.eq(sequencer.start),
            exit_unit.raw.eq(sequencer.layer.lane.raw),
            exit_unit.classes.eq(sequencer.layer.lane.classes),
            exit_unit.logit_address.eq(host.logit_address),
            host.read_value.eq(core.read_value),
            host.logit.eq(exit_unit.logit),
        ]
        return m
