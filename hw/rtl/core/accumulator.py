"""Multiplies and accumulates: one product a cycle into any accumulator; or keeps the largest.

::

    cycle         0 A              1 R          2 X                          3 Y
    in block RAM  operands in      product      operand + product            sum is written
                  address to RAM   RAM output   (forwarded if needed)        dump leaves
    in cells      operands in      product      sum is read, made, written   dump leaves
"""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig

__all__ = ["AccumulatorUnit", "step_layout"]

#: Accumulators up to which they are made of logic cells: these take no more than the forwarding around a block RAM.
SMALL = 32
#: Bits of an activation that isn't negative.
_MAXIMUM_BITS = 8


def step_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One accumulator access: a product to add, or (``dump``) a value to take out and clear."""
    return data.StructLayout(
        {
            "dump": 1,
            "emit": 1,  # dump: pass the value on
            "value": signed(9),
            "weight": signed(8),
            "address": config.accumulator_address_bits,
        }
    )


class AccumulatorUnit(wiring.Component):
    """The accumulators of a PE.

    Members
    -------
    maximum : In(1)
        Keep the largest product instead of the sum; all products and accumulators must then be in 0..255. It holds for
        the product that entered two cycles before; constant while there are accesses.
    i : In(stream of step_layout), always ready
        Accesses in order; every one sees the effect of all before it.
    o : Out(stream of signed accumulators), always ready
        Values of the dumps that emit, in order.

    Latency: :attr:`LATENCY` cycles from ``i`` to ``o``. Throughput: one access per cycle. Takes no back-pressure.
    Reset: accumulators keep their contents; a dump of each clears them.
    """

    #: Cycles from a dump's entry to its value.
    LATENCY = 3

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "maximum": In(1),
                "i": In(stream.Signature(step_layout(config), always_ready=True)),
                "o": Out(stream.Signature(signed(config.accumulator_bits), always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if self._config.accumulators <= SMALL:
            self._in_cells(m)
        else:
            self._in_block_ram(m)
        return m

    def _in_cells(self, m):
        """Accumulators of distributed memory: read, added to and written in one cycle, so nothing is forwarded."""
        config, shape = self._config, signed(self._config.accumulator_bits)
        m.submodules.ram = ram = memory.Memory(
            shape=shape, depth=config.accumulators, init=[], attrs={"ram_style": "distributed"}
        )
        write, read = ram.write_port(), ram.read_port(domain="comb")
        _, x, y, _ = self._control(m)
        product_r, product_x = Signal(signed(17), reset_less=True), Signal(signed(17), reset_less=True)
        total, emitted = Signal(shape), Signal(shape, reset_less=True)
        larger = Signal()
        m.d.comb += [
            read.addr.eq(x[3]),
            larger.eq(product_x[:_MAXIMUM_BITS] > read.data[:_MAXIMUM_BITS]),
            total.eq(read.data + product_x),
        ]
        with m.If(self.maximum):
            m.d.comb += [
                total[:_MAXIMUM_BITS].eq(Mux(larger, product_x, read.data)),
                total[_MAXIMUM_BITS].eq(0),
            ]
        m.d.comb += [
            write.addr.eq(x[3]),
            write.en.eq(x[0]),
            write.data.eq(Mux(x[1], 0, total)),
            self.o.payload.eq(emitted),
            self.o.valid.eq(y[0] & y[1] & y[2]),
        ]
        m.d.sync += [
            product_r.eq(self.i.payload.value * self.i.payload.weight),
            product_x.eq(product_r),
            emitted.eq(read.data),
        ]

    def _in_block_ram(self, m):
        """A block RAM reads a cycle after the address comes: sums that are on their way are forwarded."""
        config = self._config
        shape = signed(config.accumulator_bits)
        m.submodules.ram = ram = memory.Memory(
            shape=shape, depth=config.accumulators, init=[], attrs={"no_rw_check": 1}
        )
        write = ram.write_port()
        read = ram.read_port()

        r, x, y, z = self._control(m)

        # Cycle 0: the RAM reads while the multiplier works.
        m.d.comb += [read.addr.eq(self.i.payload.address), read.en.eq(1)]
        product_r = Signal(signed(17), reset_less=True)
        m.d.sync += product_r.eq(self.i.payload.value * self.i.payload.weight)

        # Cycle 1: registers behind the RAM. Values that were on their way when it read are forwarded: from one access
        # before at cycle 2, from two and three before now. Of the RAM's value and the forwarded one, one is 0.
        product_x = Signal(signed(17), reset_less=True)
        value_x, forwarded_x = Signal(shape, reset_less=True), Signal(shape, reset_less=True)
        take_sum = Signal()
        total_y, total_z = Signal(shape, reset_less=True), Signal(shape, reset_less=True)
        hit_y, hit_z = Signal(), Signal()
        m.d.comb += [
            hit_y.eq(y[0] & (y[3] == r[3])),
            hit_z.eq(z[0] & (z[3] == r[3])),
        ]
        m.d.sync += [
            product_x.eq(product_r),
            value_x.eq(read.data),
            forwarded_x.eq(Mux(hit_y, total_y, total_z)),
            take_sum.eq(x[0] & (x[3] == r[3])),
        ]
        with m.If(hit_y | hit_z):
            m.d.sync += value_x.eq(0)
        with m.Else():
            m.d.sync += forwarded_x.eq(0)

        # Cycle 2: add, or choose. Sums of what a maximum is taken of fit nine bits: the others are 0 without a choice,
        # and the comparison's carry chain is shorter than the adder's.
        operand = Signal(shape)
        emitted = Signal(shape, reset_less=True)
        total = Signal(shape)
        larger = Signal()
        m.d.comb += [
            operand.eq(Mux(take_sum, total_y, value_x | forwarded_x)),
            larger.eq(product_x[:_MAXIMUM_BITS] > operand[:_MAXIMUM_BITS]),
            total.eq(operand + product_x),
        ]
        with m.If(self.maximum):
            m.d.comb += [
                total[:_MAXIMUM_BITS].eq(Mux(larger, product_x, operand)),
                total[_MAXIMUM_BITS].eq(0),
            ]
        m.d.sync += [
            total_y.eq(Mux(x[1], 0, total)),
            total_z.eq(total_y),
            emitted.eq(operand),
        ]

        # Cycle 3: write back, emit.
        m.d.comb += [
            write.addr.eq(y[3]),
            write.data.eq(total_y),
            write.en.eq(y[0]),
            self.o.payload.eq(emitted),
            self.o.valid.eq(y[0] & y[1] & y[2]),
        ]

    def _control(self, m):
        """What travels with an access: in each stage whether there is one, dump, emit and address."""

        def stage(name):
            return (
                Signal(name=f"valid_{name}"),
                Signal(name=f"dump_{name}", reset_less=True),
                Signal(name=f"emit_{name}", reset_less=True),
                Signal(self._config.accumulator_address_bits, name=f"address_{name}", reset_less=True),
            )

        a = (self.i.valid, self.i.payload.dump, self.i.payload.emit, self.i.payload.address)
        r, x, y, z = stage("r"), stage("x"), stage("y"), stage("z")
        for before, after in ((a, r), (r, x), (x, y), (y, z)):
            m.d.sync += [after[n].eq(before[n]) for n in range(4)]
        return r, x, y, z
