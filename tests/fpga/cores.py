"""Small components with the accelerator's ports, to test boards and builds without it."""

import struct

from amaranth import Cat, Instance, Module, Mux, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.verilog_platform import memory_attributes, shared


class RunningSum(wiring.Component):
    """Answers every word with the sum of all products of the words' halves so far; ready only when told.

    Members
    -------
    pause : In(1)
        Take no word.
    """

    i: In(stream.Signature(32))
    o: Out(stream.Signature(32))
    pause: In(1)

    def elaborate(self, platform):
        m = Module()
        total = Signal(signed(32))
        full = Signal()
        m.d.comb += [
            self.i.ready.eq((~full | self.o.ready) & ~self.pause),
            self.o.valid.eq(full),
            self.o.payload.eq(total),
        ]
        with m.If(self.i.valid & self.i.ready):
            product = self.i.payload[:16].as_signed() * self.i.payload[16:].as_signed()
            m.d.sync += [full.eq(1), total.eq(total + product)]
        with m.Elif(self.o.ready):
            m.d.sync += full.eq(0)
        return m


def word_bytes(values):
    """Words as they travel, lowest byte first."""
    return struct.pack(f"<{len(values)}I", *values)


def running_sums(values):
    """What :class:`RunningSum` answers, as it travels."""
    total, sums = 0, []
    for value in values:
        low, high = struct.unpack("<hh", struct.pack("<I", value))
        total = (total + low * high) & 0xFFFFFFFF
        sums.append(total)
    return word_bytes(sums)


class ManyProducts(wiring.Component):
    """29 multipliers, each fed by the one before: one more than an ECP5-25F has."""

    i: In(stream.Signature(32))
    o: Out(stream.Signature(32))

    def elaborate(self, platform):
        m = Module()
        value = self.i.payload[:16]
        for number in range(29):
            product = Signal(32, name=f"product{number}")
            m.d.sync += product.eq(value * self.i.payload[16:])
            value = product[8:24]
        m.d.comb += [self.i.ready.eq(1), self.o.valid.eq(1), self.o.payload.eq(value)]
        return m


class UnknownCell(wiring.Component):
    """Contains a cell that no library has."""

    i: In(stream.Signature(32))
    o: Out(stream.Signature(32))

    def elaborate(self, platform):
        m = Module()
        m.submodules.cell = Instance("NO_SUCH_CELL", i_A=self.i.payload, o_Y=self.o.payload)
        return m


class Counter(wiring.Component):
    """Counts the cycles in which it is told to."""

    enable: In(1)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        with m.If(self.enable):
            m.d.sync += self.o.eq(self.o + 1)
        return m


class Counters(wiring.Component):
    """Four counters of one module and two of another."""

    enables: In(6)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        for number in range(6):
            counter = shared(platform, Counter, "many" if number < 4 else "few")
            m.submodules[f"counter_{number}"] = counter
            m.d.comb += [counter.enable.eq(self.enables[number])]
        counters = [getattr(m.submodules, f"counter_{number}") for number in range(6)]
        m.d.sync += self.o.eq(sum((counter.o for counter in counters[1:]), counters[0].o)[:8])
        return m


class Groups(wiring.Component):
    """Flip-flops in groups: some with an enable, some with a reset."""

    ENABLED, RESET = (7, 8), (39, 40)

    enable: In(2)
    reset: In(2)
    i: In(64)
    o: Out(4)

    def elaborate(self, platform):
        m = Module()
        for number, size in enumerate(self.ENABLED + self.RESET):
            group = Signal(size, name=f"group{number}", reset_less=True)
            if number < 2:
                with m.If(self.enable[number]):
                    m.d.sync += group.eq(self.i)
            else:
                m.d.sync += group.eq(Mux(self.reset[number - 2], 0, self.i))
            m.d.comb += self.o[number].eq(group.xor())
        return m


class Storing(wiring.Component):
    """A memory of 16 bytes that is marked to be made of tables, one of 512 bytes, a counter and a product."""

    write: In(1)
    address: In(9)
    i: In(16)
    small: Out(8)
    large: Out(8)
    count: Out(8)
    product: Out(32)

    def elaborate(self, platform):
        m = Module()
        for name, depth, domain, attributes in (
            ("small", 16, "comb", {"ram_style": "distributed"}),
            ("large", 512, "sync", memory_attributes(512)),
        ):
            m.submodules[name] = store = memory.Memory(shape=8, depth=depth, init=[], attrs=attributes)
            read, write = store.read_port(domain=domain), store.write_port()
            m.d.comb += [
                read.addr.eq(self.address),
                write.addr.eq(self.address),
                write.data.eq(self.i),
                write.en.eq(self.write),
                getattr(self, name).eq(read.data),
            ]
        m.d.sync += self.count.eq(self.count + 1)
        m.d.comb += self.product.eq(self.i.as_signed() * Cat(self.address, self.count[:7]).as_signed())
        return m
