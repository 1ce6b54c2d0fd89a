"""A USB host for simulations: packets, transactions and requests, by one of :mod:`tests.fpga.gateware.usb_wires`."""

from tests.fpga.gateware.usb_wires import Pid, crc

__all__ = ["StalledError", "UsbHost"]


class StalledError(Exception):
    """The device refused a request."""


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
