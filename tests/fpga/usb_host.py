"""A USB host for simulations: packets, transactions and requests, through what carries their bytes to a PHY."""

import random
from collections.abc import Sequence
from enum import IntEnum

__all__ = ["DirectWire", "Pid", "StalledError", "UlpiWire", "UsbHost", "UtmiWire"]


class Pid(IntEnum):
    """First byte of a packet (USB 2.0, 8.3.1)."""

    OUT, IN, SETUP, PING = 0xE1, 0x69, 0x2D, 0xB4
    DATA0, DATA1 = 0xC3, 0x4B
    ACK, NAK, STALL = 0xD2, 0x5A, 0x1E


class StalledError(Exception):
    """The device refused a request."""


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
    bus : fpga.usb_top.ulpi_bus
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
    bus : fpga.usb_top.direct_bus
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


class UsbHost:
    """A host with one device, on a wire.

    Parameters
    ----------
    wire : UtmiWire
    packet_bytes : int
        Most bytes of a bulk packet.

    Attributes
    ----------
    naks : int
        Refused packets so far.
    repeats : int
        Packets so far that the host had already, by their DATA0 or DATA1.
    """

    _CONTROL_BYTES = 64
    #: Cycles without an answer after which there is none; and without data after which a transfer is over.
    _PATIENCE, _NAKS = 100, 2000

    def __init__(self, wire, packet_bytes: int):
        self.wire, self.packet_bytes = wire, packet_bytes
        self.address = 0
        self.naks = self.repeats = 0
        self.toggles = {Pid.OUT: Pid.DATA0, Pid.IN: Pid.DATA0}

    async def reset(self, ctx):
        """A bus reset."""
        await self.wire.reset(ctx)
        self.address = 0

    async def token(self, ctx, pid: Pid, endpoint: int):
        value = self.address | endpoint << 7
        value |= crc(value.to_bytes(2, "little"), 11, 0x05, 5) << 11
        await self.wire.send(ctx, bytes([pid]) + value.to_bytes(2, "little"))

    async def out(
        self, ctx, endpoint: int, toggle: Pid, data: bytes, pid: Pid = Pid.OUT, *, broken=False
    ) -> Pid | None:
        """A packet to the device; its handshake."""
        await self.token(ctx, pid, endpoint)
        check = crc(data, 8 * len(data), 0x8005, 16) ^ broken
        await self.wire.send(ctx, bytes([toggle]) + data + check.to_bytes(2, "little"))
        answer = await self.wire.receive(ctx, self._PATIENCE)
        self.naks += answer == bytes([Pid.NAK])
        return Pid(answer[0]) if answer else None

    async def ping(self, ctx, endpoint: int) -> Pid:
        """Ask whether there is room for a packet, as hosts do at high speed (8.5.1): ACK or NAK."""
        await self.token(ctx, Pid.PING, endpoint)
        return Pid((await self.wire.receive(ctx, self._PATIENCE))[0])

    async def take(self, ctx, endpoint: int, *, acknowledge=True) -> tuple[Pid, bytes]:
        """A packet from the device, and whether it comes as DATA0 or DATA1; or NAK, or STALL."""
        await self.token(ctx, Pid.IN, endpoint)
        answer = await self.wire.receive(ctx, self._PATIENCE)
        assert answer, "the device must answer"
        pid, data = Pid(answer[0]), answer[1:-2]
        if pid in (Pid.DATA0, Pid.DATA1):
            assert int.from_bytes(answer[-2:], "little") == crc(data, 8 * len(data), 0x8005, 16)
            if acknowledge:
                await self.wire.send(ctx, bytes([Pid.ACK]))
        self.naks += pid == Pid.NAK
        return pid, data

    async def _data(self, ctx, endpoint: int) -> tuple[Pid, bytes]:
        for _ in range(self._NAKS):
            pid, data = await self.take(ctx, endpoint)
            if pid == Pid.STALL:
                raise StalledError
            if pid != Pid.NAK:
                return pid, data
        raise TimeoutError

    async def request(self, ctx, kind: int, request: int, *, value=0, index=0, data: bytes | int = b"") -> bytes:
        """A control transfer: with data to the device, or so many bytes from it; raises :class:`StalledError`."""
        length = data if isinstance(data, int) else len(data)
        setup = bytes([kind, request]) + b"".join(each.to_bytes(2, "little") for each in (value, index, length))
        assert await self.out(ctx, 0, Pid.DATA0, setup, Pid.SETUP) == Pid.ACK
        found = bytearray()
        if isinstance(data, int):
            toggle = Pid.DATA1
            while True:
                pid, part = await self._data(ctx, 0)
                assert pid == toggle
                found += part
                toggle = Pid.DATA0 if toggle == Pid.DATA1 else Pid.DATA1
                if len(part) < self._CONTROL_BYTES or len(found) >= length:
                    break
            assert await self.out(ctx, 0, Pid.DATA1, b"") == Pid.ACK
            return bytes(found)
        if data:
            assert await self.out(ctx, 0, Pid.DATA1, data) == Pid.ACK
        assert await self._data(ctx, 0) == (Pid.DATA1, b"")
        return b""

    async def enumerate(self, ctx) -> dict[int, bytes]:
        """Give the device an address and its configuration; device and configuration descriptors by their type."""
        told = {}
        told[1] = await self.request(ctx, 0x80, 6, value=0x100, data=18)
        await self.request(ctx, 0x00, 5, value=9)
        self.address = 9
        head = await self.request(ctx, 0x80, 6, value=0x200, data=9)
        told[2] = await self.request(ctx, 0x80, 6, value=0x200, data=int.from_bytes(head[2:4], "little"))
        await self.request(ctx, 0x00, 9, value=1)
        self.toggles = {Pid.OUT: Pid.DATA0, Pid.IN: Pid.DATA0}
        return told

    def _flip(self, way: Pid):
        self.toggles[way] = Pid.DATA1 if self.toggles[way] == Pid.DATA0 else Pid.DATA0

    async def bulk_out(self, ctx, endpoint: int, data: bytes) -> bool:
        """A bulk packet; whether the device took it."""
        answer = await self.out(ctx, endpoint, self.toggles[Pid.OUT], data)
        assert answer in (Pid.ACK, Pid.NAK)
        if answer == Pid.ACK:
            self._flip(Pid.OUT)
        return answer == Pid.ACK

    async def bulk_in(self, ctx, endpoint: int) -> bytes | None:
        """A bulk packet, or nothing when the device has none; one that comes again counts as empty."""
        pid, data = await self.take(ctx, endpoint)
        if pid == Pid.NAK:
            return None
        if pid != self.toggles[Pid.IN]:
            self.repeats += 1
            return b""
        self._flip(Pid.IN)
        return data
