"""Serial link of a board: 8 data bits, no parity, 1 stop bit, and 32-bit words of 4 bytes, lowest byte first.

The transmitter and the receiver count clock cycles per bit. A *break* (the line held low for a whole frame) tells the
receiver's owner to start afresh: it is how a host resets the hardware without touching the board.
"""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from fpga.baud import FRAME_BITS

__all__ = [
    "ByteReceiver",
    "ByteTransmitter",
    "WordAssembler",
    "WordSplitter",
]


class ByteReceiver(wiring.Component):
    """Serial line to bytes.

    Parameters
    ----------
    cycles : int
        Clock cycles per bit, at least 8.

    Members
    -------
    line : In(1)
        Serial data, idle high; may be asynchronous.
    o : Out(stream.Signature(8, always_ready=True))
        Bytes; a serial line can't be made to wait.
    broken : Out(1)
        High for one cycle when a frame has no stop bit, and again only after the line was high.

    Latency: a byte comes two cycles, those of the synchronizer, after the middle of its stop bit. Throughput: a byte a
    frame. Takes no back-pressure. Reset: waits for a start bit.
    """

    def __init__(self, cycles: int) -> None:
        self._cycles = cycles
        super().__init__({"line": In(1, init=1), "o": Out(stream.Signature(8, always_ready=True)), "broken": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.line, line, init=1)
        timer = Signal(range(self._cycles))
        bits = Signal(range(8))
        data = Signal(8)
        m.d.comb += self.o.payload.eq(data)
        with m.FSM():
            with m.State("Idle"):
                m.d.sync += timer.eq(self._cycles // 2 - 1)
                with m.If(~line):
                    m.next = "Start"
            with m.State("Start"):  # the middle of the start bit: a shorter dip was noise
                m.d.sync += timer.eq(timer - 1)
                with m.If(timer == 0):
                    m.d.sync += [timer.eq(self._cycles - 1), bits.eq(0)]
                    m.next = "Idle"
                    with m.If(~line):
                        m.next = "Data"
            with m.State("Data"):
                m.d.sync += timer.eq(timer - 1)
                with m.If(timer == 0):
                    m.d.sync += [timer.eq(self._cycles - 1), data.eq(Cat(data[1:], line)), bits.eq(bits + 1)]
                    with m.If(bits == 7):
                        m.next = "Stop"
            with m.State("Stop"):
                m.d.sync += timer.eq(timer - 1)
                with m.If(timer == 0):
                    m.d.comb += [self.o.valid.eq(line), self.broken.eq(~line)]
                    m.next = "Idle"
                    with m.If(~line):
                        m.next = "Break"
            with m.State("Break"), m.If(line):
                m.next = "Idle"
        return m


class ByteTransmitter(wiring.Component):
    """Bytes to serial line.

    Parameters
    ----------
    cycles : int
        Clock cycles per bit, at least 8.

    Members
    -------
    i : In(stream.Signature(8))
        Bytes; one is taken when the frame before it has ended.
    line : Out(1)
        Serial data, idle high.

    Latency: two cycles from a byte to its start bit. Throughput: a byte in a frame and one cycle. Back-pressure: on
    ``i``, until the frame before has ended. Reset: the line is high; the rest of a frame isn't sent.
    """

    def __init__(self, cycles: int) -> None:
        self._cycles = cycles
        super().__init__({"i": In(stream.Signature(8)), "line": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(range(self._cycles))
        bits = Signal(range(FRAME_BITS + 1))  # bits of the frame still to send; 0 when idle
        frame = Signal(FRAME_BITS, init=1)
        m.d.sync += self.line.eq(frame[0])
        m.d.comb += self.i.ready.eq(bits == 0)
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += [frame.eq(Cat(0, self.i.payload, 1)), bits.eq(FRAME_BITS), timer.eq(self._cycles - 1)]
        with m.Elif((bits != 0) & (timer == 0)):
            m.d.sync += [frame.eq(Cat(frame[1:], 1)), bits.eq(bits - 1), timer.eq(self._cycles - 1)]
        with m.Elif(bits != 0):
            m.d.sync += timer.eq(timer - 1)
        return m


class WordAssembler(wiring.Component):
    """Four bytes to one word, lowest byte first.

    Members
    -------
    i : In(stream.Signature(8, always_ready=True))
    o : Out(stream.Signature(32, always_ready=True))
        A word, from registers.
    clear : In(1)
        Forget the bytes of an unfinished word.

    Latency: a cycle from a word's last byte. Throughput: a byte a cycle. Takes no back-pressure. Reset: as ``clear``.
    """

    def __init__(self) -> None:
        byte, word = stream.Signature(8, always_ready=True), stream.Signature(32, always_ready=True)
        super().__init__({"i": In(byte), "o": Out(word), "clear": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = Signal(2)
        word = self.o.payload
        m.d.sync += self.o.valid.eq(self.i.valid & (count == 3))
        with m.If(self.i.valid):
            m.d.sync += [word.eq(Cat(word[8:], self.i.payload)), count.eq(count + 1)]
        with m.If(self.clear):
            m.d.sync += count.eq(0)
        return m


class WordSplitter(wiring.Component):
    """One word to four bytes, lowest byte first.

    Members
    -------
    i : In(stream.Signature(32))
    o : Out(stream.Signature(8))

    Latency: none. Throughput: a byte a cycle. Back-pressure: on ``i``, until the word's last byte is taken. Reset: goes
    on with the lowest byte.
    """

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(32)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = Signal(2)
        m.d.comb += [
            self.o.payload.eq(self.i.payload.word_select(count, 8)),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & (count == 3)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += count.eq(count + 1)
        return m
