"""One unit of the accelerator alone on a device, between registers: how fast it is, within minutes.

::

    word of the serial link ──► chain of registers ──► inputs ─ unit ─ outputs ──► registers ──► folded to a word

Every input of the unit comes from a flip-flop and every output goes to one, so the slowest path is the unit's own.
"""

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fpga.boards import BAUD, Board
from fpga.flow.build import BuildReport, build_core
from hw.config import AcceleratorConfig
from hw.rtl.verilog import convert
from hw.rtl.verilog_platform import ports_of

__all__ = ["Alone", "ClockBaseline", "check_no_slower", "core_alone", "core_clocks", "core_digest"]

_WORD = 32
#: Clock that is asked for: of the bitstream's PLL only, nextpnr makes everything as fast as it can.
_CLOCK_MHZ = 100.0


class Alone(wiring.Component):
    """A unit between registers, with the two streams of an accelerator.

    Parameters
    ----------
    unit : wiring.Component
        With any ports but inouts.
    name : str
        Of the unit as a submodule.

    Members
    -------
    i : In(stream of 32 bits), always ready
        Each word moves the chain of all inputs on by one.
    o : Out(stream of 32 bits)
        The exclusive or of all outputs' words, valid in every cycle.

    Latency: a cycle into the chain, two from the unit's outputs to ``o``. Throughput: a word a cycle. Takes no
    back-pressure: a word of ``o`` that isn't taken is lost. Reset: the chain is 0, as far as the clock domain has a
    reset.
    """

    def __init__(self, unit: wiring.Component, name: str) -> None:
        self._unit, self._name = unit, name
        super().__init__({"i": In(stream.Signature(_WORD)), "o": Out(stream.Signature(_WORD))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules[self._name] = unit = self._unit
        ports = ports_of(unit)
        inputs = Cat(port for flow, port in ports if flow is In)
        outputs = Cat(port for flow, port in ports if flow is Out)
        chain, folded, seen = Signal(len(inputs)), Signal(_WORD), Signal(len(outputs))
        words = [seen[start : start + _WORD] for start in range(0, len(outputs), _WORD)]
        m.d.comb += [
            self.i.ready.eq(1),
            self.o.valid.eq(1),
            self.o.payload.eq(folded),
            inputs.eq(chain),
        ]
        m.d.sync += [seen.eq(outputs), folded.eq(reduce(xor, words))]
        with m.If(self.i.valid):
            m.d.sync += chain.eq(Cat(self.i.payload, chain))
        return m


@dataclass(frozen=True, kw_only=True)
class ClockBaseline:
    """Highest clocks of one netlist over several seeds of placement and routing.

    Attributes
    ----------
    builds : tuple of BuildReport
        One for each seed, one or more.
    """

    builds: tuple[BuildReport, ...]

    def __post_init__(self) -> None:
        if not self.builds:
            raise ValueError("seeds must be one or more, not none")

    @property
    def median_mhz(self) -> float:
        """Of all seeds."""
        return statistics.median(each.fmax_mhz for each in self.builds)

    def to_dict(self) -> dict[str, Any]:
        """For a result file; what is the same for all seeds once."""
        first = self.builds[0]
        used = {name: getattr(first, name).used for name in ("logic", "flip_flops", "block_rams", "multipliers")}
        slowest = min(self.builds, key=lambda each: each.fmax_mhz)
        return {
            "device": first.device,
            "speed": first.speed,
            "tools": first.tools,
            "used": used,
            "median_mhz": self.median_mhz,
            "fmax_mhz": {str(each.seed): each.fmax_mhz for each in self.builds},
            "critical_path": slowest.critical_path.splitlines(),
        }


def core_alone(config: AcceleratorConfig) -> Alone:
    """A core of a config between registers, under the name that the first core has in an accelerator."""
    from hw.rtl.core.core import Core

    return Alone(Core(config), "core_0")


def core_digest(config: AcceleratorConfig) -> str:
    """SHA-256 of the Verilog of :func:`core_alone`: a baseline with another is of another core."""
    return hashlib.sha256(convert(core_alone(config), "core").encode()).hexdigest()


def check_no_slower(found: ClockBaseline, baseline: dict[str, Any]) -> None:
    """Refuse a median below that of a baseline (:meth:`ClockBaseline.to_dict`).

    Raises
    ------
    ValueError
        Naming both.
    """
    least = baseline["median_mhz"]
    if found.median_mhz < least:
        raise ValueError(f"the median must be at least the baseline's {least} MHz, not {found.median_mhz} MHz")


def core_clocks(config: AcceleratorConfig, board: Board, seeds: Sequence[int], out_dir: Path) -> ClockBaseline:
    """Build a core of a config alone, placed and routed once for each seed.

    Parameters
    ----------
    board : Board
        Whose device it is built for.
    seeds : sequence of int
    out_dir : Path
        Where builds go, and are found again.

    Raises
    ------
    fpga.flow.toolchain.BuildError
        When a tool refuses it.
    """
    builds = tuple(
        build_core(core_alone(config), board, out_dir, clock_mhz=_CLOCK_MHZ, baud=BAUD, seed=seed) for seed in seeds
    )
    return ClockBaseline(builds=builds)
