"""USB link of a board: to the host a serial port (CDC-ACM), and 32-bit words of 4 bytes, lowest byte first.

Device, endpoints and descriptors are those of LUNA (luna-usb), whose clock domain is called ``usb``. Added to them is
the break, by which a host resets the hardware as over a serial line.
"""

from amaranth import Elaboratable, Module, Mux, ResetInserter, Signal
from amaranth.hdl import DomainRenamer, Fragment, MemoryInstance
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import AsyncFIFOBuffered
from amaranth.lib.wiring import In
from luna.gateware.memory import TransactionalizedFIFO
from luna.gateware.stream import StreamInterface
from luna.gateware.usb.devices.acm import ACMRequestHandlers, USBSerialDevice
from luna.gateware.usb.usb2.device import USBDevice
from luna.gateware.usb.usb2.endpoint import EndpointInterface
from luna.gateware.usb.usb2.endpoints.stream import USBStreamInEndpoint
from luna.gateware.usb.usb2.request import USBRequestHandler
from usb_protocol.emitters import DeviceDescriptorCollection
from usb_protocol.emitters.descriptors.cdc import ACMFunctionalDescriptorEmitter
from usb_protocol.types import USBRequestType
from usb_protocol.types.descriptors import StandardDescriptorNumbers

from fpga.gateware.uart import WordAssembler

__all__ = ["UsbShell"]

#: Words that wait between the clock of USB and that of the core, each way.
_QUEUE_WORDS = 16
#: Cycles of the USB clock that a restart takes, less one: enough to empty an endpoint of two packets of 512 bytes, and
#: the queues with the slowest clock that a core may have.
_RESTART = (1 << 11) - 1
#: Cycles of the USB clock that the last byte of a word waits for another word, with which it may share a packet.
_WAIT = 63
#: Vendor and product: those that pid.codes keeps for tests, and no product may have.
_VENDOR, _PRODUCT = 0x1209, 0x0001
#: Requests of a serial port (CDC PSTN 1.2, table 13), and the break that lasts until it is ended.
_SET_CONTROL_LINE_STATE, _SEND_BREAK, _UNTIL_ENDED = 0x22, 0x23, 0xFFFF
#: What an ACM functional descriptor says of a device that takes SEND_BREAK (CDC PSTN 1.2, table 4).
_TAKES_BREAKS = 0b100
#: Type of the descriptors of a class of interfaces.
_CLASS_DESCRIPTOR = 0x24
#: Bytes of a configuration descriptor itself, and where it has the length of all that follows.
_CONFIGURATION_BYTES, _TOTAL = 9, slice(2, 4)


class BreakRequests(USBRequestHandler):
    """Requests of a serial port that LUNA's handler leaves out: breaks, and modem lines, which change nothing.

    Attributes
    ----------
    broken : Signal
        High for one cycle, or until the host ends a break without a length of its own.
    ended : Signal
        High for one cycle when a break is ended.
    busy : Signal
        The host is kept waiting while this is high.
    cancel : Signal
        Ends a break that is under way.

    Domain ``usb``. Latency: none. Reset: no break.
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken, self.ended, self.busy, self.cancel = Signal(), Signal(), Signal(), Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        interface, setup = self.interface, self.interface.setup
        lasting, of_break = Signal(), Signal()
        m.d.comb += [of_break.eq(setup.request == _SEND_BREAK), self.broken.eq(lasting)]
        with m.If((setup.type == USBRequestType.CLASS) & (of_break | (setup.request == _SET_CONTROL_LINE_STATE))):
            m.d.comb += interface.claim.eq(1)
            with m.If(setup.received & of_break):
                m.d.usb += lasting.eq(setup.value == _UNTIL_ENDED)
                m.d.comb += [self.broken.eq(setup.value != 0), self.ended.eq(setup.value == 0)]
            with m.If(interface.status_requested):
                with m.If(of_break & self.busy & ~lasting):
                    m.d.comb += interface.handshakes_out.nak.eq(1)
                with m.Else():
                    m.d.comb += self.send_zlp()
        with m.If(self.cancel):
            m.d.usb += lasting.eq(0)
        return m


class ReceivingEndpoint(Elaboratable):
    """Bytes from the host, in packets that are taken whole or refused.

    LUNA's own endpoint acknowledges a packet of which only the last byte finds no room, and forgets it. This one
    decides at the token: a packet for which there may be no room is refused (NAK) whatever its length.

    Attributes
    ----------
    interface : EndpointInterface
        To the device.
    stream : StreamInterface
        Bytes of packets that were acknowledged; ``first`` and ``last`` aren't used.
    restart : Signal
        Forgets all bytes, and expects DATA0, as after a bus reset (USB 2.0, 5.8.5).

    Domain ``usb``. Latency: of a packet's first byte three cycles from its end. Throughput: a byte a cycle.
    Back-pressure: two packets less a byte wait. Reset: as ``restart``.
    """

    def __init__(self, endpoint_number: int, max_packet_size: int) -> None:
        self._number, self._packet_bytes = endpoint_number, max_packet_size
        self.interface, self.stream, self.restart = EndpointInterface(), StreamInterface(), Signal()

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        interface, token, answer = self.interface, self.interface.tokenizer, self.interface.handshakes_out
        m.submodules.fifo = fifo = TransactionalizedFIFO(width=8, depth=2 * self._packet_bytes - 1, domain="usb")
        room, admitted, odd, ours, new = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            room.eq(fifo.space_available >= self._packet_bytes),
            ours.eq((token.endpoint == self._number) & token.is_out),
            # One that was acknowledged comes again when the host didn't hear it: DATA0 in place of DATA1, or so.
            new.eq(interface.rx_pid_toggle == odd),
            fifo.write_data.eq(interface.rx.payload),
            fifo.write_en.eq(ours & new & admitted & interface.rx.valid & interface.rx.next),
            fifo.write_commit.eq(ours & interface.rx_complete),
            fifo.write_discard.eq(ours & interface.rx_invalid),
            self.stream.valid.eq(~fifo.empty),
            self.stream.payload.eq(fifo.read_data),
            fifo.read_en.eq(self.stream.ready),
            fifo.read_commit.eq(1),
        ]
        with m.If(token.new_token & ours):
            m.d.usb += admitted.eq(room)
        with m.If(ours & interface.rx_ready_for_response):
            m.d.comb += [answer.ack.eq(~new | admitted), answer.nak.eq(new & ~admitted)]
            with m.If(new & admitted):
                m.d.usb += odd.eq(~odd)
        with m.If((token.endpoint == self._number) & token.is_ping & token.ready_for_response):
            m.d.comb += [answer.ack.eq(room), answer.nak.eq(~room)]
        halt = interface.clear_endpoint_halt_in
        with m.If(halt.enable & ~halt.direction & (halt.number == self._number)):
            m.d.usb += odd.eq(0)
        return ResetInserter({"usb": self.restart})(m)


class SendingEndpoint(USBStreamInEndpoint):
    """Bytes to the host.

    Attributes
    ----------
    restart : Signal
        Forgets all bytes, and goes on with DATA0, as after a bus reset (USB 2.0, 5.8.5).
    """

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.restart = Signal()

    def elaborate(self, platform: object) -> Module:
        return ResetInserter({"usb": self.restart})(super().elaborate(platform))


class SerialDevice(USBSerialDevice):
    """LUNA's serial device, with breaks, and endpoints that begin anew after a bus reset.

    Parameters
    ----------
    bus : object
        The PHY, as LUNA's devices take it: ULPI, D+ and D-, or UTMI.
    packet_bytes : int
        Most bytes of a bulk packet: 64 at full speed, 512 at high speed.

    Attributes
    ----------
    rx, tx : StreamInterface
        Bytes from and to the host. ``tx.last`` ends a packet, which goes to the host at once.
    broken, ended, busy : Signal
        As :class:`BreakRequests` has them.
    restarted : Signal
        High for one cycle when the host resets the bus or configures the device; both streams have been emptied then.
    discard : Signal
        Forgets what waits to be sent. A packet that the host has, but whose acknowledgement was lost directly before,
        is taken for one that it hasn't: the next one is then lost.
    """

    def __init__(self, bus: object, packet_bytes: int) -> None:
        super().__init__(
            bus=bus,
            idVendor=_VENDOR,
            idProduct=_PRODUCT,
            manufacturer_string="Offramp",
            product_string="Offramp",
            max_packet_size=packet_bytes,
        )
        self.broken, self.ended, self.busy = Signal(), Signal(), Signal()
        self.restarted, self.discard = Signal(), Signal()

    def create_descriptors(self) -> DeviceDescriptorCollection:
        """LUNA's, and one by which a host learns that it may send breaks."""
        descriptors = super().create_descriptors()
        (found,) = (raw for kind, _, raw in descriptors if kind == StandardDescriptorNumbers.CONFIGURATION)
        raw, at = bytearray(found), _CONFIGURATION_BYTES
        # Behind the header, the first of the descriptors of the class.
        while raw[at + 1] != _CLASS_DESCRIPTOR:
            at += raw[at]
        at += raw[at]
        breaks = ACMFunctionalDescriptorEmitter()
        breaks.bmCapabilities = _TAKES_BREAKS
        raw[at:at] = breaks.emit()
        raw[_TOTAL] = len(raw).to_bytes(2, "little")
        descriptors.add_descriptor(bytes(raw))
        return descriptors

    def elaborate(self, platform: object) -> Fragment:
        m = Module()
        m.submodules.usb = usb = USBDevice(bus=self._bus, handle_clocking=False)
        control = usb.add_standard_control_endpoint(self.create_descriptors())
        breaks = BreakRequests()
        control.add_request_handler(ACMRequestHandlers())
        control.add_request_handler(breaks)
        data = {"endpoint_number": self._DATA_ENDPOINT_NUMBER, "max_packet_size": self._max_packet_size}
        receiving, sending = ReceivingEndpoint(**data), SendingEndpoint(**data)
        # Notifications of a serial port, of which there are none. LUNA names submodules by their classes.
        status = USBStreamInEndpoint(**data | {"endpoint_number": self._STATUS_ENDPOINT_NUMBER})
        for endpoint in (status, receiving, sending):
            usb.add_endpoint(endpoint)
        m.d.comb += [
            usb.connect.eq(self.connect),
            self.restarted.eq(usb.reset_detected | control.interface.config_changed),
            breaks.cancel.eq(self.restarted),
            breaks.busy.eq(self.busy),
            self.broken.eq(breaks.broken),
            self.ended.eq(breaks.ended),
            receiving.restart.eq(self.restarted),
            sending.restart.eq(self.restarted),
            sending.discard.eq(self.discard),
            self.rx.stream_eq(receiving.stream),
            sending.stream.stream_eq(self.tx),
        ]
        # LUNA takes whatever is given as a platform for one of Amaranth's.
        return _without_block_rams(Fragment.get(m, None))


def _without_block_rams(fragment: Fragment) -> Fragment:
    """The same with memories of logic cells: the largest configs leave no block RAM over. Constants are logic as is."""
    for part, *_ in fragment.subfragments:
        _without_block_rams(part)
    if isinstance(fragment, MemoryInstance) and fragment._write_ports:
        fragment._attrs["ram_style"] = "distributed"
    return fragment


class UsbShell(wiring.Component):
    """A component with one 32-bit stream in and one out, driven over USB.

    ::

        bus ─► receiving ─► WordAssembler ─► queue ─► core ─► queue ─► bytes ─► sending ─► bus
                   └─ break, bus reset ─► resets the core, empties queues and endpoints, forgets parts of words

    Parameters
    ----------
    core : wiring.Component
        As in :class:`fpga.gateware.top.SerialShell`, in domain ``sync``, which needs no reset.
    bus : object
    packet_bytes : int
        Both as in :class:`SerialDevice`.

    Members
    -------
    reset : In(1)
        Resets the core, in domain ``sync``. Domain ``usb`` has a reset of its own, for everything else.

    Latency: a word to the host waits 64 cycles of ``usb`` for others that share its packet. Throughput: a byte a cycle
    of ``usb``, each way, while a packet is on the bus. Back-pressure: a packet for which there is no room is refused
    (NAK), and the host sends it again; nothing is lost. Reset: by ``reset``, or by a break, a bus reset or a new
    configuration: these take 2,048 cycles of ``usb``, during which a break's end is not acknowledged, and all that the
    host sends during a break is lost.
    """

    def __init__(self, core: wiring.Component, bus: object, packet_bytes: int) -> None:
        self._core = core
        self._device = SerialDevice(bus, packet_bytes)
        super().__init__({"reset": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.device = device = self._device
        usb = DomainRenamer("usb")

        # Restart: in domain usb, and from there to the core.
        left = Signal(range(_RESTART + 1), init=_RESTART)
        breaking, restarting = Signal(), Signal(init=1)
        m.d.comb += [device.connect.eq(1), device.busy.eq(restarting), device.discard.eq(breaking)]
        m.d.usb += restarting.eq(left != 0)
        with m.If(left != 0):
            m.d.usb += left.eq(left - 1)
        with m.Else():
            m.d.usb += breaking.eq(0)
        with m.If(device.broken | device.ended):
            m.d.usb += [left.eq(_RESTART), restarting.eq(1), breaking.eq(1)]
        with m.If(device.restarted):
            m.d.usb += [left.eq(_RESTART), restarting.eq(1), breaking.eq(0)]
        reached, restart = Signal(), Signal(init=1)
        m.submodules.reached = FFSynchronizer(restarting, reached, init=1)
        # Registered: one flip-flop resets thousands, with no logic in between.
        m.d.sync += restart.eq(reached | self.reset)

        # From the host.
        assembler = WordAssembler()
        m.submodules.assembler = ResetInserter({"usb": restarting})(usb(assembler))
        m.submodules.received = received = AsyncFIFOBuffered(
            width=32, depth=_QUEUE_WORDS, w_domain="usb", r_domain="sync"
        )
        m.d.comb += [
            # A word has four bytes: the queue has room for one if it had when the last of them came.
            device.rx.ready.eq(Mux(restarting, breaking, received.w_rdy)),
            assembler.i.valid.eq(device.rx.valid & device.rx.ready),
            assembler.i.payload.eq(device.rx.payload),
            received.w_data.eq(assembler.o.payload),
            received.w_en.eq(assembler.o.valid),
        ]

        core = self._core
        m.submodules.core = ResetInserter(restart)(core)
        m.d.comb += [
            core.i.valid.eq(received.r_rdy),
            core.i.payload.eq(received.r_data),
            received.r_en.eq(core.i.ready | restart),
        ]

        # To the host. A packet ends with the last word there is, for which the host then waits no longer.
        m.submodules.sent = sent = AsyncFIFOBuffered(width=32, depth=_QUEUE_WORDS, w_domain="sync", r_domain="usb")
        m.d.comb += [
            sent.w_data.eq(core.o.payload),
            sent.w_en.eq(core.o.valid & ~restart),
            core.o.ready.eq(sent.w_rdy & ~restart),
        ]
        byte, waited, ending = Signal(2), Signal(range(_WAIT + 1)), Signal()
        m.d.comb += [
            ending.eq(sent.r_rdy & (byte == 3) & (sent.r_level <= 1)),
            device.tx.valid.eq(sent.r_rdy & ~restarting & (~ending | (waited == _WAIT))),
            device.tx.payload.eq(sent.r_data.word_select(byte, 8)),
            device.tx.last.eq(ending),
            sent.r_en.eq((device.tx.valid & device.tx.ready & (byte == 3)) | restarting),
        ]
        with m.If(device.tx.valid & device.tx.ready):
            m.d.usb += byte.eq(byte + 1)
        with m.If(~ending):
            m.d.usb += waited.eq(0)
        with m.Elif(waited != _WAIT):
            m.d.usb += waited.eq(waited + 1)
        with m.If(restarting):
            m.d.usb += [byte.eq(0), waited.eq(0)]
        return m
