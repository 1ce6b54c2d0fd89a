"""What carries the bytes of USB packets between a simulated host and a device: UTMI, a PHY with ULPI, D+ and D-."""

import random
from collections.abc import Sequence
from enum import IntEnum

__all__ = ["DirectWire", "Pid", "UlpiWire", "UtmiWire", "crc"]


class Pid(IntEnum):
    """First byte of a packet (USB 2.0, 8.3.1)."""

    OUT, IN, SETUP, PING = 0xE1, 0x69, 0x2D, 0xB4
    DATA0, DATA1 = 0xC3, 0x4B
    ACK, NAK, STALL = 0xD2, 0x5A, 0x1E


def crc(data: Sequence[int], bits: int, polynomial: int, width: int) -> int:
    """Of USB (8.3.5): bits of the data lowest first, all ones at first, inverted, highest bit sent first."""
    value = (1 << width) - 1
    for index in range(bits):
        bit = data[index // 8] >> index % 8 & 1
        top = value >> width - 1
        value = value << 1 & (1 << width) - 1
        if bit ^ top:
            value ^= polynomial
    return int(f"{value ^ ((1 << width) - 1):0{width}b}"[::-1], 2)


class UtmiWire:
    """Bytes of packets at the interface of LUNA's device to a PHY of its own (UTMI).

    Parameters
    ----------
    utmi : UTMIInterface
    pace : int
        Cycles between two bytes, 0 to this many, by chance.
    """

    _J, _SE0 = 0b01, 0b00

    def __init__(self, utmi, pace: int = 0, seed: int = 0):
        self._utmi, self._pace, self._random = utmi, pace, random.Random(seed)

    async def _wait(self, ctx):
        for _ in range(self._random.randint(0, self._pace)):
            await ctx.tick("usb")

    async def plug(self, ctx):
        """An idle bus."""
        ctx.set(self._utmi.line_state, self._J)
        await ctx.tick("usb").repeat(4)

    async def reset(self, ctx):
        """A bus reset of full speed, shorter than a real one: the device acts on it after 5 µs."""
        ctx.set(self._utmi.line_state, self._SE0)
        await ctx.tick("usb").repeat(310)
        await self.plug(ctx)

    async def send(self, ctx, packet: bytes):
        ctx.set(self._utmi.rx_active, 1)
        await ctx.tick("usb")
        for byte in packet:
            await self._wait(ctx)
            ctx.set(self._utmi.rx_data, byte)
            ctx.set(self._utmi.rx_valid, 1)
            await ctx.tick("usb")
            ctx.set(self._utmi.rx_valid, 0)
        ctx.set(self._utmi.rx_active, 0)
        await ctx.tick("usb").repeat(2)

    async def receive(self, ctx, patience: int) -> bytes:
        """A packet that begins within so many cycles, or nothing."""
        for _ in range(patience):
            if ctx.get(self._utmi.tx_valid):
                break
            await ctx.tick("usb")
        found = bytearray()
        while ctx.get(self._utmi.tx_valid):
            await self._wait(ctx)
            ctx.set(self._utmi.tx_ready, 1)
            found.append(ctx.get(self._utmi.tx_data))
            await ctx.tick("usb")
            ctx.set(self._utmi.tx_ready, 0)
        return bytes(found)


class UlpiWire:
    """A PHY with ULPI (revision 1.1) for high speed, and what carries packets to it. :meth:`run` must run beside.

    Parameters
    ----------
    bus : fpga.gateware.usb_top.ulpi_bus
    pace : int
        Cycles between two bytes, 0 to this many, by chance.

    Attributes
    ----------
    registers : dict of int to int
        What the link wrote, by address.
    chirped : int
        Cycles in which the link drove the bus without a packet.
    """

    _SE0, _J, _K = 0b00, 0b01, 0b10
    _FUNCTION, _HIGH_SPEED = 0x04, 0b01000000
    _VBUS, _ACTIVE = 0b1100, 0b010000

    def __init__(self, bus, pace: int = 0, seed: int = 0):
        self._bus, self._pace, self._random = bus, pace, random.Random(seed)
        self._line = self._J
        self._state = None  # what the link was told last of the line
        self._packet = None
        self._sending = False
        self._found: list[bytes] = []
        self.registers: dict[int, int] = {}
        self.chirped = 0

    def _gap(self) -> int:
        return self._random.randint(0, self._pace)

    async def run(self, ctx):
        """The PHY, cycle by cycle."""
        bus = self._bus
        while True:
            command = ctx.get(bus.data.o) if ctx.get(bus.data.oe) else 0
            if self._packet is not None:
                await self._deliver(ctx)
            elif command >> 6 == 0b10:
                await self._write(ctx, command & 0x3F)
            elif command >> 6 == 0b01:
                await self._transmit(ctx, command)
            elif self._state != self._line:
                await self._tell(ctx)
            else:
                await ctx.tick("usb")

    async def _take(self, ctx, gap: int = 0) -> int:
        """The byte that the link has on its wires, taken after so many cycles."""
        for _ in range(gap):
            await ctx.tick("usb")
        ctx.set(self._bus.nxt.i, 1)
        byte = ctx.get(self._bus.data.o)
        await ctx.tick("usb")
        ctx.set(self._bus.nxt.i, 0)
        return byte

    async def _write(self, ctx, address: int):
        await self._take(ctx, 1)
        value = await self._take(ctx)
        assert ctx.get(self._bus.stp.o), "a write ends with STP"
        self.registers[address] = value
        await ctx.tick("usb")

    async def _transmit(self, ctx, command: int):
        self._sending = True
        await self._take(ctx, 1)
        low = command & 0xF
        found = bytearray([low | (~low & 0xF) << 4])
        gap = self._gap()
        while not ctx.get(self._bus.stp.o):
            if gap:
                await ctx.tick("usb")
                gap -= 1
            else:
                found.append(await self._take(ctx))
                gap = self._gap()
        await ctx.tick("usb")
        if low:
            self._found.append(bytes(found))
        else:
            self.chirped += len(found)
        self._sending = False

    async def _tell(self, ctx):
        """The state of the line, and that there is power."""
        self._state = self._line
        await self._drive(ctx, self._VBUS | self._state)
        await self._release(ctx)

    async def _drive(self, ctx, status: int, *, packet: int = 0):
        """Take the wires, whose direction takes a cycle to turn."""
        ctx.set(self._bus.dir.i, 1)
        ctx.set(self._bus.nxt.i, packet)
        await ctx.tick("usb")
        await self._put(ctx, status, 0)

    async def _put(self, ctx, byte: int, following: int):
        ctx.set(self._bus.data.i, byte)
        ctx.set(self._bus.nxt.i, following)
        await ctx.tick("usb")
        ctx.set(self._bus.nxt.i, 0)

    async def _release(self, ctx):
        ctx.set(self._bus.dir.i, 0)
        await ctx.tick("usb")

    async def _deliver(self, ctx):
        """A packet to the link."""
        status = self._VBUS | self._state
        await self._drive(ctx, status | self._ACTIVE, packet=1)
        for byte in self._packet:
            for _ in range(self._gap()):
                await self._put(ctx, status | self._ACTIVE, 0)
            await self._put(ctx, byte, 1)
        await self._put(ctx, status, 0)
        await self._release(ctx)
        self._packet = None

    async def plug(self, ctx):
        """An idle bus of full speed, as every device begins; the link writes what the PHY has to do."""
        self._line = self._J
        await ctx.tick("usb").repeat(400)

    async def reset(self, ctx):
        """A bus reset, in which a host for high speed answers the link's chirp; all shorter than they really are."""
        self._line = self._SE0
        before = self.chirped
        while self.chirped == before:
            await ctx.tick("usb")
        while ctx.get(self._bus.data.o):
            await ctx.tick("usb")
        await ctx.tick("usb").repeat(300)
        for _ in range(3):
            for state in (self._K, self._J):
                self._line = state
                await ctx.tick("usb").repeat(200)
        self._line = self._SE0
        await ctx.tick("usb").repeat(100)
        assert self.registers[self._FUNCTION] == self._HIGH_SPEED

    async def send(self, ctx, packet: bytes):
        self._packet = packet
        while self._packet is not None:
            await ctx.tick("usb")

    async def receive(self, ctx, patience: int) -> bytes:
        """A packet that begins within so many cycles, or nothing."""
        while patience or self._sending:
            if self._found:
                return self._found.pop()
            patience -= not self._sending
            await ctx.tick("usb")
        return b""


class DirectWire:
    """D+ and D- at full speed: NRZI, bits stuffed after six ones (USB 2.0, 7.1.8 and 7.1.9).

    Parameters
    ----------
    bus : fpga.gateware.usb_top.direct_bus
    """

    #: Cycles of domain ``usb_io`` a bit.
    _BIT = 4
    _SYNC = (0, 0, 0, 0, 0, 0, 0, 1)
    _J, _SE0 = (1, 0), (0, 0)

    def __init__(self, bus):
        self._bus = bus

    async def _drive(self, ctx, line: tuple[int, int], bits: int = 1):
        for wire, value in zip((self._bus.d_p, self._bus.d_n), line, strict=True):
            ctx.set(wire.i, value)
        await ctx.tick("usb_io").repeat(self._BIT * bits)

    async def plug(self, ctx):
        """An idle bus, when the device has pulled D+ up."""
        while not ctx.get(self._bus.pullup.o):
            await ctx.tick("usb_io")
        await self._drive(ctx, self._J, 20)

    async def reset(self, ctx):
        """A bus reset, shorter than a real one: the device acts on it after 300 cycles."""
        await self._drive(ctx, self._SE0, 320)
        await self._drive(ctx, self._J, 20)

    async def send(self, ctx, packet: bytes):
        bits = [*self._SYNC, *(byte >> bit & 1 for byte in packet for bit in range(8))]
        positive, ones = 1, 0
        for bit in bits:
            positive ^= not bit
            await self._drive(ctx, (positive, 1 - positive))
            ones = ones + 1 if bit else 0
            if ones == 6:
                positive, ones = 1 - positive, 0
                await self._drive(ctx, (positive, 1 - positive))
        await self._drive(ctx, self._SE0, 2)
        await self._drive(ctx, self._J, 3)

    async def receive(self, ctx, patience: int) -> bytes:
        """A packet that begins within so many bits, or nothing."""
        for _ in range(self._BIT * patience):
            if ctx.get(self._bus.d_p.oe):
                break
            await ctx.tick("usb_io")
        else:
            return b""
        await ctx.tick("usb_io").repeat(self._BIT // 2)
        bits, before, ones = [], 1, 0
        while (line := (ctx.get(self._bus.d_p.o), ctx.get(self._bus.d_n.o))) != self._SE0:
            bit = int(line[0] == before)
            if ones == 6:
                assert not bit, "a bit must be stuffed after six ones"
            else:
                bits.append(bit)
            ones = ones + 1 if bit else 0
            before = line[0]
            await ctx.tick("usb_io").repeat(self._BIT)
        while ctx.get(self._bus.d_p.oe):
            await ctx.tick("usb_io")
        while tuple(bits[: len(self._SYNC)]) != self._SYNC:
            bits.pop(0)
        bits = bits[len(self._SYNC) :]
        assert len(bits) % 8 == 0
        return bytes(sum(bit << index for index, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))
