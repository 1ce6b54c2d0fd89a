"""A core: dispatcher, PEs, lane and their memories, wired together. It runs one layer at a time."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.activations import ActivationMemory
from hw.config import AcceleratorConfig
from hw.dispatcher import Dispatcher
from hw.isa import Layer, Memory, Target
from hw.lane import Lane
from hw.pe import ProcessingElement
from hw.writer import Writer

__all__ = ["Core", "LoadWord"]


class LoadWord(data.Struct):
    """A word for one of the memories that a program fills."""

    memory: 8
    address: 16
    data: 32


class Core(wiring.Component):
    """One core.

    Members
    -------
    layer : In(Layer)
        The layer to run; stable from ``start`` until ``done``.
    start : In(1), done : Out(1)
    image : In(Target), image_start : In(1), pixel : In(stream of signed 9), always ready
        Where an image goes, and its activations ``q - zero_point``; while no layer runs.
    load : In(stream of LoadWord), always ready
        Program words; words for memories of others are ignored.
    table_address, table_data, table_enable
        Read port of the program memory, for tables.
    logit : Out(stream of signed accumulators), always ready
        Logits of raw layers.
    read_bank, read_address : In; read_value : Out(signed 9)
        Host reads of activations, two cycles, while no layer runs.
    clearing : Out(1)
        The accumulators aren't clean yet.
    products : Out
        Products made in the cycle before.
    stalled : Out(1)
        The dispatcher waited for a PE in the cycle before.

    Reset: stops everything and clears the accumulators; memories keep their contents.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "layer": In(Layer),
                "start": In(1),
                "done": Out(1),
                "image": In(Target),
                "image_start": In(1),
                "pixel": In(stream.Signature(signed(9), always_ready=True)),
                "load": In(stream.Signature(LoadWord, always_ready=True)),
                "table_address": Out(12),
                "table_data": In(32),
                "table_enable": Out(1),
                "logit": Out(stream.Signature(signed(config.accumulator_bits), always_ready=True)),
                "read_bank": In(1),
                "read_address": In(16),
                "read_value": Out(signed(9)),
                "clearing": Out(1),
                "products": Out(range(config.pes + 1)),
                "stalled": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, layer = self._config, self.layer
        m.submodules.activations = activations = ActivationMemory(config)
        m.submodules.dispatcher = dispatcher = Dispatcher(config)
        m.submodules.lane = lane = Lane(config)
        m.submodules.writer = writer = Writer()

        running = Signal()
        bank = Signal()
        with m.If(self.start):
            m.d.sync += running.eq(1)
        with m.Elif(lane.done):
            m.d.sync += running.eq(0)
        m.d.sync += bank.eq(Mux(running, layer.source.bank, self.read_bank))

        # Dispatcher: reads masks, activations and tables. The host reads where the dispatcher does, while that is idle.
        m.d.comb += [
            dispatcher.source.eq(layer.source),
            dispatcher.start.eq(self.start),
            self.table_address.eq(dispatcher.table_address),
            self.table_enable.eq(dispatcher.table_enable),
            dispatcher.table_data.eq(self.table_data),
            activations.mask_bank.eq(layer.source.bank),
            activations.mask_address.eq(dispatcher.mask_address),
            activations.mask_enable.eq(dispatcher.mask_enable),
            dispatcher.mask_data.eq(activations.mask_word),
            activations.bank.eq(bank),
            activations.address.eq(Mux(running, dispatcher.value_address, self.read_address)),
            activations.advance.eq(dispatcher.advance),
            dispatcher.value.eq(activations.value),
            self.read_value.eq(activations.value),
        ]
        m.d.sync += self.stalled.eq(dispatcher.stalled)

        # PEs.
        clearing, products = [], []
        for number in range(config.pes):
            pe = ProcessingElement(config)
            m.submodules[f"pe_{number}"] = pe
            m.d.comb += [
                pe.load.valid.eq(self.load.valid & (self.load.payload.memory == Memory.LISTS.value + number)),
                pe.load.payload.address.eq(self.load.payload.address),
                pe.load.payload.data.eq(self.load.payload.data),
                pe.lookup.eq(dispatcher.lookup),
                pe.advance.eq(dispatcher.advance),
                dispatcher.hit[number].eq(pe.hit),
                dispatcher.space[number].eq(pe.space),
                pe.push.eq(dispatcher.push[number]),
                pe.job.eq(dispatcher.job),
                pe.row.eq(layer.source.accumulator_step),
            ]
            connect(m, pe.o, lane.i[number])
            clearing.append(pe.clearing)
            products.append(pe.product)
        m.d.comb += self.clearing.eq(clearing[0])
        m.d.sync += self.products.eq(_count(products))

        # Lane: channel memories, residual operand, write back.
        m.d.comb += [
            lane.fields.eq(layer.lane),
            lane.residual.eq(layer.residual),
            lane.zero_point.eq(layer.target.zero_point),
            lane.start.eq(self.start),
            activations.other_address.eq(lane.residual_address),
            lane.operand.eq(activations.other),
            self.done.eq(lane.done),
        ]
        connect(m, lane.logit, flipped(self.logit))
        channel_memories = {
            Memory.BIAS: (signed(32), lane.bias),
            Memory.MULTIPLIER: (31, lane.multiplier),
            Memory.SHIFT: (5, lane.shift),
        }
        for kind, (shape, port) in channel_memories.items():
            ram = memory.Memory(shape=shape, depth=config.channel_words, init=[], attrs={"no_rw_check": 1})
            m.submodules[kind.name.lower()] = ram
            write, read = ram.write_port(), ram.read_port()
            m.d.comb += [
                write.addr.eq(self.load.payload.address),
                write.data.eq(self.load.payload.data),
                write.en.eq(self.load.valid & (self.load.payload.memory == kind.value)),
                read.addr.eq(lane.channel_address),
                read.en.eq(1),
                port.eq(read.data),
            ]

        # Writer: the lane's results, or an image.
        m.d.comb += [
            writer.target.eq(Mux(running | self.start, layer.target, self.image)),
            writer.start.eq(self.start | self.image_start),
            writer.i.valid.eq(lane.o.valid | self.pixel.valid),
            writer.i.payload.eq(Mux(running, lane.o.payload, self.pixel.payload)),
        ]
        connect(m, writer.activation, activations.activation)
        connect(m, writer.mask, activations.mask)
        return m


def _count(bits):
    """Number of set bits, as a balanced tree."""
    terms = list(bits)
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
    return terms[0]
