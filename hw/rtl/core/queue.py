"""A queue in front of which nobody waits: its writer knows that there is room.

::

    i ──► memory of logic cells ──► o
          arrived, left: places     valid, a register
"""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """First in, first out; what is written with all places taken is lost, with what was there.

    There is no count of what it holds: a late ``i.valid`` or ``o.ready`` only makes one of two pointers count.

    Parameters
    ----------
    shape : ShapeLike
    depth : int
        Places, a power of two from 2.

    Members
    -------
    i : In(stream of shape), always ready
        Not while all places are taken, whatever leaves in the same cycle.
    o : Out(stream of shape)
        ``valid`` is a register: what asks whether there is anything has nothing to wait for.
    full : Out(1), one_place : Out(1)
        All places are taken, or all but one. Out of registers, so that what comes and goes in this cycle can be added
        to it as late as it is known.

    Latency: a cycle. Throughput: one a cycle. Back-pressure: none; see ``full``. Reset: empty.
    """

    def __init__(self, shape: Any, depth: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two from 2, not {depth}")
        self._shape, self._depth = shape, depth
        super().__init__(
            {
                "i": In(stream.Signature(shape, always_ready=True)),
                "o": Out(stream.Signature(shape)),
                "full": Out(1),
                "one_place": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = memory.Memory(
            shape=self._shape, depth=self._depth, init=[], attrs={"ram_style": "distributed"}
        )
        put, get = storage.write_port(), storage.read_port(domain="comb")
        arrived, left = Signal(range(self._depth)), Signal(range(self._depth))
        following = (left + 1)[: len(left)]
        taken, several = Signal(), Signal()
        m.d.comb += [
            put.addr.eq(arrived),
            put.data.eq(self.i.payload),
            put.en.eq(self.i.valid),
            get.addr.eq(left),
            self.o.payload.eq(get.data),
            taken.eq(self.o.valid & self.o.ready),
            several.eq(arrived != following),  # of values that are there, more than one
            self.one_place.eq((arrived + 1)[: len(arrived)] == left),
            self.full.eq((arrived == left) & self.o.valid),
        ]
        m.d.sync += [
            arrived.eq(arrived + self.i.valid),
            left.eq(left + taken),
            self.o.valid.eq(self.i.valid | Mux(taken, several, self.o.valid)),
        ]
        return m
