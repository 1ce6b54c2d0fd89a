"""What a design becomes Verilog for: modules used several times are one module there, and a device has networks."""

from collections.abc import Callable, Sequence

from amaranth import ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.back import verilog
from amaranth.hdl import Fragment, IOPort
from amaranth.lib import wiring

__all__ = ["GlobalBuffer", "VerilogPlatform", "memory_attributes", "ports_of", "promote", "shared"]

#: Words up to which a memory is built of logic cells: block RAMs are what devices have few of.
_SMALL_MEMORY = 128


def ports_of(component: wiring.Component) -> list[tuple[wiring.Flow, Signal]]:
    """Direction and signal of every port; constant ones (``ready`` of always-ready streams) are left out."""
    ports = [(member.flow, Value.cast(value)) for _, member, value in component.signature.flatten(component)]
    return [(flow, port) for flow, port in ports if isinstance(port, Signal)]


#: What puts a signal on a network of a device.
GlobalBuffer = Callable[[Module, Signal], Signal]


class VerilogPlatform:
    """Collects modules while a design is converted, in the place of Amaranth's platform.

    Parameters
    ----------
    network : callable, optional
        Puts a signal on one of the device's networks, given the module to which it adds what that takes; returns the
        signal that arrives, in the same cycle.

    Attributes
    ----------
    texts : dict of str to str
        Verilog by the name of the module.
    states : dict of str to dict of str to dict of int to str
        Names of the states of all state machines: by module and signal of the Verilog, those of its values.
    """

    def __init__(self, network: GlobalBuffer | None = None) -> None:
        self.network = network
        self.texts: dict[str, str] = {}
        self.states: dict[str, dict[str, dict[int, str]]] = {}
        self._signatures: dict[str, wiring.Signature] = {}

    def instance(self, make: Callable[[], wiring.Component], name: str) -> wiring.Component:
        """An instance of the module of this name, which a component is made for once."""
        if name not in self.texts:
            component = make()
            self._signatures[name] = component.signature
            self.texts[name] = self.convert(component, name)
        return _InstanceOf(name, self._signatures[name])

    def convert(self, component: wiring.Component, name: str, pads: Sequence[IOPort] = ()) -> str:
        """Verilog of a component and what is in it, but for its instances' modules; ``pads`` are ports of it, too."""
        ports = [*(port for _, port in ports_of(component)), *pads]
        text, places = verilog.convert_fragment(Fragment.get(component, self), ports, name, emit_src=False)
        for signal, (*module, wire) in places.items():
            if names := _states(signal):
                self.states.setdefault(".".join(module), {})[wire] = names
        return text


def _states(signal: Signal) -> dict[int, str]:
    """Names of the states of a state machine; none of any other signal."""
    names = {}
    if callable(signal.decoder) and not isinstance(signal.decoder, type):
        for value in range(1 << len(signal)):
            try:
                # Amaranth's decoder of a state machine says "NAME/value", and knows no other values.
                names[value] = signal.decoder(value).removesuffix(f"/{value}")
            except KeyError:
                break
    return names


class _InstanceOf(wiring.Component):
    """An instance of a module, with the ports of the component that the module was."""

    def __init__(self, name: str, signature: wiring.Signature):
        self._name = name
        super().__init__(signature)

    def elaborate(self, platform):
        ports = {f"{'i' if flow is wiring.In else 'o'}_{port.name}": port for flow, port in ports_of(self)}
        return Instance(self._name, i_clk=ClockSignal(), i_rst=Const(0), **ports)


def shared(platform: object, make: Callable[[], wiring.Component], name: str) -> wiring.Component:
    """A component to be used as a submodule; where a design is converted, an instance of the module of this name.

    Components of one name must be the same but for what their ports say. An instance is reset by a port and nothing
    else: it is beyond the reach of :class:`amaranth.ResetInserter` and of its domain's reset.
    """
    return platform.instance(make, name) if isinstance(platform, VerilogPlatform) else make()


def promote(platform: object, m: Module, signal: Signal) -> Signal:
    """The signal of a flip-flop for thousands of others: over a network of the device, where it has such networks."""
    network = platform.network if isinstance(platform, VerilogPlatform) else None
    return signal if network is None else network(m, signal)


def memory_attributes(words: int) -> dict[str, int | str]:
    """Attributes of a memory of so many words of which none is read in the cycle that writes it."""
    return {"no_rw_check": 1} | ({"ram_style": "distributed"} if words <= _SMALL_MEMORY else {})
