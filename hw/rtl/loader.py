"""Refills the list memories of the PEs during a run, from external memory.

::

    chunk table ──► requests ──► external memory ──► segment, row, row, ... ──► rows ──► PEs of the cores named
    (program memory)  bursts                         a beat a cycle

A program's lists that don't fit are cut into chunks (:class:`hw.program.isa.Chunk`), numbered in the order in which
they are read. Chunk after chunk is requested as soon as so many LAYERs have ended that nothing needs its memory any
more; a LAYER waits until its chunks have been written. What is still on the way when a run ends is taken and dropped.
"""

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.program.bits import bits_of, words_of
from hw.rtl.interfaces import ListLoading, ReadPort
from hw.rtl.records import list_row
from hw.rtl.structs import Burst, Chunk, Segment

__all__ = ["Loader"]

#: Bits of the number of beats on their way: bursts that are asked for one after the other.
_FLIGHT_BITS = 28


class Loader(wiring.Component):
    """Requests chunks and turns them into rows of list words.

    Members
    -------
    run : In(ListLoading)
        How far the run is, and how many chunks have come.
    table : Out(ReadPort)
        Of the program memory.
    request : Out(stream of Burst)
        To the external memory; offered once, it stays.
    weights : In(stream of beats)
        The beats of the bursts, in order. Others are dropped.
    row : Out(stream of list_row), always ready
        What is to be written; rows are at least two cycles apart.

    Latency: :attr:`REQUEST_CYCLES` to a request, one cycle from a row's last beat to ``row``. Throughput: a beat per
    cycle. Back-pressure: a request waits for the memory, the memory's words for cycles that count. Reset: idle, but
    only together with the external memory, for it forgets what is on the way.
    """

    #: Counted cycles from a request to the next one, if nothing has to be waited for; also from a run's first to its
    #: first request.
    REQUEST_CYCLES = 5
    #: Cycles from a row's last beat to the write in the PEs; the dispatchers stand still in the one before.
    WRITE = 3

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "run": In(ListLoading()),
                "table": Out(ReadPort(32)),
                "request": Out(stream.Signature(Burst)),
                "weights": In(stream.Signature(32 * config.loader)),
                "row": Out(stream.Signature(list_row(config), always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        on_the_way, beats = Signal(_FLIGHT_BITS), Signal(_FLIGHT_BITS)
        asked, came = Signal(), Signal()
        m.d.comb += [
            asked.eq(self.request.valid & self.request.ready),
            self.weights.ready.eq(self.run.running | ~self.run.active),
            came.eq(self.weights.valid & self.weights.ready & (on_the_way != 0)),
            beats.eq(self.request.payload.beats),
            self.run.busy.eq(self.request.valid | (on_the_way != 0)),
        ]
        with m.If(asked):
            m.d.sync += on_the_way.eq(on_the_way + beats - came)
        with m.Else():
            m.d.sync += on_the_way.eq(on_the_way - came)
        self._requests(m, asked)
        self._rows(m, came)
        return m

    def _requests(self, m, asked):
        """Reads an entry of the table, waits, asks for the chunk."""
        entry = Signal(32 * words_of(Chunk))
        chunk = data.View(Chunk, entry[: bits_of(Chunk)])
        left = Signal(8)
        m.d.comb += [self.request.payload.address.eq(chunk.address), self.request.payload.beats.eq(chunk.beats)]

        def after(state):
            """To a state, in a cycle that counts."""
            with m.If(~self.run.active):
                m.next = "idle"
            with m.Elif(self.run.running):
                m.next = state

        def requested():
            with m.If(asked):
                m.d.sync += left.eq(left - 1)
                m.next = "end"
                with m.If(left != 1):
                    m.next = "address"

        with m.FSM():
            with m.State("idle"):
                m.d.sync += [left.eq(self.run.chunks), self.table.address.eq(self.run.chunk_table)]
                with m.If(self.run.active & self.run.running):
                    m.next = "end"
                    with m.If(self.run.chunks != 0):
                        m.next = "address"
            # The memory answers a cycle after it is asked.
            with m.State("address"):
                after("low")
            with m.State("low"):
                after("next")
                with m.If(self.run.running):
                    m.d.sync += [entry[:32].eq(self.table.data), self.table.address.eq(self.table.address + 1)]
            with m.State("next"):
                after("high")
            with m.State("high"):
                after("wait")
                with m.If(self.run.running):
                    m.d.sync += [entry[32:].eq(self.table.data), self.table.address.eq(self.table.address + 1)]
            with m.State("wait"):
                with m.If(~self.run.active):
                    m.next = "idle"
                with m.Elif(self.run.running & (self.run.finished >= chunk.after)):
                    m.d.comb += self.request.valid.eq(1)
                    m.next = "request"
                    requested()
            with m.State("request"):
                m.d.comb += self.request.valid.eq(1)
                requested()
            with m.State("end"):
                with m.If(~self.run.active):
                    m.next = "idle"

    def _rows(self, m, came):
        """Puts the beats of each row together, and counts chunks."""
        parts, width = self._config.list_row_beats, 32 * self._config.loader
        collected = Signal(width * parts)
        part = Signal(range(parts + 1))
        rows, address = Signal(8), Signal(Segment.as_shape()["address"].width)
        segment, arriving = Signal(Segment), data.View(Segment, self.weights.payload[:32])
        row = self.row.payload
        m.d.comb += row.words.eq(collected[: len(row.words.as_value())])
        m.d.sync += self.row.valid.eq(0)
        with m.If(~self.run.active):
            m.d.sync += [rows.eq(0), part.eq(0), self.run.written.eq(0)]
        with m.Elif(came & (rows == 0)):
            m.d.sync += [segment.eq(arriving), rows.eq(arriving.list_rows), address.eq(arriving.address)]
        with m.Elif(came):
            m.d.sync += [collected.eq(Cat(collected[width:], self.weights.payload)), part.eq(part + 1)]
            with m.If(part == parts - 1):
                m.d.sync += [
                    part.eq(0),
                    self.row.valid.eq(1),
                    row.cores.eq(segment.cores),
                    row.address.eq(address),
                    address.eq(address + 1),
                    rows.eq(rows - 1),
                ]
                with m.If((rows == 1) & segment.last):
                    m.d.sync += self.run.written.eq(self.run.written + 1)
