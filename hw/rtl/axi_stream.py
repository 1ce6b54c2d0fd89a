"""The accelerator's streams as AXI4-Stream ports, for designs that put it beside other cores.

Signals are named and behave as the AMBA 4 AXI4-Stream protocol specification (ARM IHI 0051A) has them.
"""

from amaranth import Cat, ClockDomain, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.structs import ReplyHeader

__all__ = ["AxiStream", "axi_ports"]

_LENGTH = ReplyHeader.as_shape()["length"].width


class AxiStream(wiring.Component):
    """AXI4-Stream ports around a component with one 32-bit stream in and one out.

    Parameters
    ----------
    core : wiring.Component
        Ports ``i: In(stream.Signature(32))`` and ``o: Out(stream.Signature(32))``, which speak
        :mod:`hw.program.protocol`. Modules that it shares (:mod:`hw.rtl.verilog_platform`) it resets by their ports.
    beat_bits : int
        Bits of a beat of external memory, if the core reads such: ports ``request: Out(stream.Signature(Burst))`` and
        ``weights: In(stream.Signature(beat_bits))``; else 0.

    Members
    -------
    aclk : In(1)
        Clock of everything; ports change after its rising edge.
    aresetn : In(1)
        Reset, low. Synchronous: it is sampled by the clock.
    s_axis_tdata : In(32), s_axis_tkeep : In(4), s_axis_tlast : In(1), s_axis_tvalid : In(1), s_axis_tready : Out(1)
        Commands. Bytes that ``tkeep`` leaves out count as 0; a beat without any is dropped. A command says itself how
        long it is: packets may end anywhere, and ``tlast`` is ignored.
    m_axis_tdata : Out(32), m_axis_tkeep : Out(4), m_axis_tlast : Out(1), m_axis_tvalid : Out(1), m_axis_tready : In(1)
        Replies, each a packet of whole words.
    m_axis_request_tdata : Out(64), m_axis_request_tvalid : Out(1), m_axis_request_tready : In(1)
        Only with external memory: a :class:`hw.program.isa.Burst` in the low bits, the others 0.
    s_axis_weights_tdata : In(beat_bits), s_axis_weights_tvalid : In(1), s_axis_weights_tready : Out(1)
        Only with external memory: the beats that were requested, in their order.

    Latency: none, but for the core's. Throughput: a beat per cycle. Back-pressure: the core's; ``tvalid`` never waits
    for ``tready``, and what is offered stays. Reset: with the core, the count of a reply's words begins anew.
    """

    def __init__(self, core: wiring.Component, beat_bits: int = 0):
        self._core = core
        self._beat_bits = beat_bits
        super().__init__(axi_ports(beat_bits))

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain()
        m.d.comb += [domain.clk.eq(self.aclk), domain.rst.eq(~self.aresetn)]
        m.submodules.accelerator = core = self._core
        kept = Cat(keep.replicate(8) for keep in self.s_axis_tkeep)
        m.d.comb += [
            core.i.payload.eq(self.s_axis_tdata & kept),
            core.i.valid.eq(self.s_axis_tvalid & self.s_axis_tkeep.any()),
            self.s_axis_tready.eq(core.i.ready | ~self.s_axis_tkeep.any()),
            self.m_axis_tdata.eq(core.o.payload),
            self.m_axis_tkeep.eq(~0),
            self.m_axis_tvalid.eq(core.o.valid),
            core.o.ready.eq(self.m_axis_tready),
        ]
        # Words of the reply that are still to come; at 0 the next one is a header.
        left, after = Signal(_LENGTH), Signal(_LENGTH)
        header = data.View(ReplyHeader, core.o.payload)
        m.d.comb += [after.eq(Mux(left == 0, header.length, left - 1)), self.m_axis_tlast.eq(after == 0)]
        with m.If(core.o.valid & core.o.ready):
            m.d.sync += left.eq(after)
        if self._beat_bits:
            m.d.comb += [
                self.m_axis_request_tdata.eq(core.request.payload.as_value()),
                self.m_axis_request_tvalid.eq(core.request.valid),
                core.request.ready.eq(self.m_axis_request_tready),
                core.weights.payload.eq(self.s_axis_weights_tdata),
                core.weights.valid.eq(self.s_axis_weights_tvalid),
                self.s_axis_weights_tready.eq(core.weights.ready),
            ]
        return m


def axi_ports(beat_bits: int = 0) -> dict[str, wiring.Member]:
    """Ports of :class:`AxiStream`, by their names."""
    ports = {"aclk": In(1), "aresetn": In(1)}
    ports |= _port("s_axis", In, 32, packets=True) | _port("m_axis", Out, 32, packets=True)
    if beat_bits:
        ports |= _port("m_axis_request", Out, 64) | _port("s_axis_weights", In, beat_bits)
    return ports


def _port(name: str, flow: wiring.Flow, bits: int, *, packets: bool = False) -> dict[str, wiring.Member]:
    """Signals of a port, with the direction of its data; ``packets`` have ``tkeep`` and ``tlast``."""
    more = {"tkeep": bits // 8, "tlast": 1} if packets else {}
    signals = {f"{name}_{signal}": flow(width) for signal, width in {"tdata": bits, **more, "tvalid": 1}.items()}
    return signals | {f"{name}_tready": flow.flip()(1)}
