"""Multiplies and accumulates: one product a cycle into any accumulator; or keeps the largest.

::

    cycle         0 A              1 R          2 X                          3 Y
    in block RAM  operands in      product      operand + product            sum is written
                  address to RAM   RAM output   (forwarded if needed)        dump leaves
    in cells      operands in      product      value is read, made, written dump leaves
"""

from itertools import pairwise

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


class _Stage:
    """Of an access on its way: whether there is one, and what it does where."""

    def __init__(self, address_bits, name):
        self.valid = Signal(name=f"valid_{name}")
        self.dump = Signal(name=f"dump_{name}", reset_less=True)
        self.emit = Signal(name=f"emit_{name}", reset_less=True)
        self.address = Signal(address_bits, name=f"address_{name}", reset_less=True)


class AccumulatorUnit(wiring.Component):
    """The accumulators of a PE.

    Members
    -------
    max_pool : In(1)
        Keep the largest product instead of the sum; all products and accumulators must then be in 0..255. Constant
        while there are accesses, and for :attr:`LATENCY` cycles after the last.
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
                "max_pool": In(1),
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
        """Accumulators of distributed memory: read, added to and written in one cycle, so nothing is forwarded.

        A value that starts anew (a dump's 0, a larger product) is a sum as well, of 0: nothing is chosen behind the
        adder, and a product that isn't larger isn't written.
        """
        shape = signed(self._config.accumulator_bits)
        write, read = self._ports(m, "comb", ram_style="distributed")
        r, x, y, _ = self._control(m)
        product_x, emitted = Signal(signed(17), reset_less=True), Signal(shape, reset_less=True)
        anew_x, always_x = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            product_x.eq(Mux(r.dump, 0, self._multiply(m))),
            anew_x.eq(r.dump | self.max_pool),
            always_x.eq(r.dump | ~self.max_pool),
            emitted.eq(read.data),
        ]
        m.d.comb += [
            read.addr.eq(x.address),
            write.addr.eq(x.address),
            write.en.eq(x.valid & (always_x | self._larger(product_x, read.data))),
            write.data.eq(Mux(anew_x, 0, read.data) + product_x),
        ]
        self._emit(m, y, emitted)

    def _in_block_ram(self, m):
        """A block RAM reads a cycle after the address comes: sums that are on their way are forwarded."""
        shape = signed(self._config.accumulator_bits)
        write, read = self._ports(m, "sync", no_rw_check=1)
        r, x, y, z = self._control(m)
        total_y, total_z = Signal(shape, reset_less=True), Signal(shape, reset_less=True)

        # Cycle 0: the RAM reads while the multiplier works.
        m.d.comb += [read.addr.eq(self.i.payload.address), read.en.eq(1)]
        product_x = Signal(signed(17), reset_less=True)
        m.d.sync += product_x.eq(self._multiply(m))

        # Cycles 1 and 2: the operand and the sum.
        operand = self._forward(m, read.data, (r, x, y, z), (total_y, total_z))
        total, emitted = self._add(m, operand, product_x), Signal(shape, reset_less=True)
        m.d.sync += [
            total_y.eq(Mux(x.dump, 0, total)),
            total_z.eq(total_y),
            emitted.eq(operand),
        ]

        # Cycle 3: write back, emit.
        m.d.comb += [write.addr.eq(y.address), write.data.eq(total_y), write.en.eq(y.valid)]
        self._emit(m, y, emitted)

    def _ports(self, m, domain, **attributes):
        """The memory of all accumulators: its ports to write and to read."""
        m.submodules.ram = ram = memory.Memory(
            shape=signed(self._config.accumulator_bits), depth=self._config.accumulators, init=[], attrs=attributes
        )
        write = ram.write_port()
        read = ram.read_port(domain=domain)
        return write, read

    def _multiply(self, m):
        """The product of what has entered, a cycle later."""
        product = Signal(signed(17), name="product_r", reset_less=True)
        m.d.sync += product.eq(self.i.payload.value * self.i.payload.weight)
        return product

    def _forward(self, m, stored, stages, totals):
        """The accumulator's value in cycle 2: the RAM's of cycle 1, or one that was on its way when the RAM read.

        From two and three accesses before a value comes in cycle 1, from one before in cycle 2.
        """
        (r, x, y, z), (total_y, total_z) = stages, totals
        shape = total_y.shape()
        # Of the RAM's value and the forwarded one, one is 0.
        value_x, forwarded_x = Signal(shape, reset_less=True), Signal(shape, reset_less=True)
        take_sum, hit_y, hit_z = Signal(), Signal(), Signal()
        m.d.comb += [
            hit_y.eq(y.valid & (y.address == r.address)),
            hit_z.eq(z.valid & (z.address == r.address)),
        ]
        m.d.sync += [
            value_x.eq(stored),
            forwarded_x.eq(Mux(hit_y, total_y, total_z)),
            take_sum.eq(x.valid & (x.address == r.address)),
        ]
        with m.If(hit_y | hit_z):
            m.d.sync += value_x.eq(0)
        with m.Else():
            m.d.sync += forwarded_x.eq(0)
        operand = Signal(shape)
        m.d.comb += operand.eq(Mux(take_sum, total_y, value_x | forwarded_x))
        return operand

    def _larger(self, product, operand):
        """Whether a product is larger than the maximum so far, both of eight bits: the sign of their difference.

        As a difference it is a carry chain, shorter than the sum's; a comparison becomes a tree of tables.
        """
        return (operand[:_MAXIMUM_BITS] - product[:_MAXIMUM_BITS])[-1]

    def _add(self, m, operand, product):
        """The sum, or the larger of the two.

        Sums of what a maximum is taken of fit nine bits: the others are 0 without a choice.
        """
        total = Signal(signed(self._config.accumulator_bits))
        m.d.comb += total.eq(operand + product)
        with m.If(self.max_pool):
            m.d.comb += [
                total[:_MAXIMUM_BITS].eq(Mux(self._larger(product, operand), product, operand)),
                total[_MAXIMUM_BITS].eq(0),
            ]
        return total

    def _emit(self, m, y, emitted):
        """Cycle 3: a dump's value leaves."""
        m.d.comb += [self.o.payload.eq(emitted), self.o.valid.eq(y.valid & y.dump & y.emit)]

    def _control(self, m):
        """What travels with an access through cycles 1, 2 and 3, and one more: the four stages."""
        stages = [_Stage(self._config.accumulator_address_bits, name) for name in ("r", "x", "y", "z")]
        step = self.i.payload
        first = stages[0]
        m.d.sync += [
            first.valid.eq(self.i.valid),
            first.dump.eq(step.dump),
            first.emit.eq(step.emit),
            first.address.eq(step.address),
        ]
        for before, after in pairwise(stages):
            m.d.sync += [
                after.valid.eq(before.valid),
                after.dump.eq(before.dump),
                after.emit.eq(before.emit),
                after.address.eq(before.address),
            ]
        return stages
